// Simulated physical memory as core writes it: through the system port, so that caches see it.
#pragma once

#include <cstdint>
#include <map>
#include <string>

#include "accounting/table_stores.h"
#include "core/file.h"
#include "mem/port_proxy.hh"

namespace ptshare::g5 {

class Contents final : public engine::TableStores {
  public:
    explicit Contents(gem5::PortProxy& memory) : memory_(memory) {}
    ~Contents() override;

    // Bytes of `file` come from the host file behind `fd`, which is duplicated.
    void back(const File& file, int fd);

    // Of the host file behind a file that has one.
    std::uint64_t host_size(const File& file) const;

    void zero(Pfn pfn) override;
    void copy(Pfn to, Pfn from) override;
    void read_file(const File& file, std::uint64_t index, Pfn pfn) override;
    void cut_file(const File& file, std::uint64_t bytes, Pfn last) override;
    void zero_table(Pfn pfn) override;
    void write_entry(PhysAddr at, std::uint64_t bits) override;
    void walker_wrote(PhysAddr at, std::uint64_t bits) override;

  private:
    gem5::PortProxy& memory_;            // the system's
    std::map<std::uint64_t, int> host_;  // by file id; descriptors are owned
};

}  // namespace ptshare::g5
