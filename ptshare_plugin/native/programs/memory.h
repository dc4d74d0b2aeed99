// The bytes of simulated physical memory.
#pragma once

#include <cstddef>
#include <cstdint>
#include <unordered_map>
#include <vector>

#include "accounting/table_stores.h"
#include "core/file.h"

namespace ptshare::engine {

// One reserved, lazily filled block of host memory: simulated physical address p is byte p of it.
class HostMemory final : public TableStores {
  public:
    // Throws std::runtime_error when the host cannot reserve so much.
    explicit HostMemory(std::uint64_t bytes);
    ~HostMemory() override;
    HostMemory(const HostMemory&) = delete;
    HostMemory& operator=(const HostMemory&) = delete;

    std::uint8_t* data() { return base_; }
    std::uint64_t bytes() const { return bytes_; }
    std::uint8_t* frame(Pfn pfn) { return base_ + address_of(pfn).value; }

    // What a file holds before anybody writes to it; a file without is all zeros.
    void set_initial(const File& file, std::vector<std::uint8_t> bytes);

    // A freed frame may have held code: translated blocks of it are stale. Reads and clears.
    bool take_code_released();
    void mark_code(Pfn pfn);

    void zero(Pfn pfn) override;
    void copy(Pfn to, Pfn from) override;
    void read_file(const File& file, std::uint64_t index, Pfn pfn) override;
    void cut_file(const File& file, std::uint64_t bytes, Pfn last) override;
    void released(Pfn pfn) override;
    // Bytes of the frame were written from outside the executor.
    void written(Pfn pfn);

  private:
    void touch(Pfn pfn);

    std::uint64_t bytes_;
    std::uint8_t* base_;      // owned mapping of bytes_
    std::vector<bool> used_;  // index: frame; whether it may hold something other than zeros
    std::vector<bool> code_;  // index: frame; whether code was fetched from it
    bool code_released_ = false;
    std::unordered_map<std::uint64_t, std::vector<std::uint8_t>> initial_;  // by file id
};

}  // namespace ptshare::engine
