// core's Kernel as tests use it from Python: on its own, with a table walker, without an engine.
// Every page frame holds one 64-bit word, so that data can be checked as well.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "core/kernel.h"
#include "core/snapshot.h"

namespace ptshare::bindings {

// The first eight bytes of every page frame. A file made with create_file starts out with
// `id << 32 | page + 1` at the start of each of its pages.
class Words final : public FrameContents {
  public:
    void fill(std::uint64_t file, std::uint64_t bytes) { filled_[file] = bytes; }
    std::uint64_t& at(Pfn pfn);

    void zero(Pfn pfn) override;
    void copy(Pfn to, Pfn from) override;
    void read_file(const File& file, std::uint64_t index, Pfn pfn) override;
    void cut_file(const File& file, std::uint64_t bytes, Pfn last) override;
    void released(Pfn pfn) override;

  private:
    std::vector<std::uint64_t> words_;               // index: frame
    std::map<std::uint64_t, std::uint64_t> filled_;  // by file id: bytes not cut off since
};

class Model {
  public:
    // Throws std::invalid_argument (policy, config).
    Model(const std::string& policy, const KernelConfig& config);

    Kernel& kernel() { return kernel_; }

    // By the numbers that Python has; throw std::invalid_argument when there is none.
    Mm& mm(std::uint64_t id);
    const std::shared_ptr<File>& file(std::uint64_t id);
    std::uint64_t create_file(const std::string& name, std::uint64_t bytes);
    void close_file(std::uint64_t id);

    std::string save() const;
    // Another model in this one's state, with as many open files.
    std::unique_ptr<Model> restored() const;

    // What a user-mode access does: hardware walk, faults until it goes through, A and D bits. The
    // frame it ends at, or the negated number of the signal that it raises.
    std::int64_t touch(Mm& mm, VirtAddr address, Access access);
    std::uint64_t& word(std::int64_t frame) {
        return words_.at(Pfn(static_cast<std::uint64_t>(frame)));
    }

  private:
    Words words_;    // outlives kernel_
    Kernel kernel_;  // outlives files_
    FilesById files_;
};

}  // namespace ptshare::bindings
