#include "programs/memory.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstring>
#include <stdexcept>
#include <string>
#include <utility>

namespace ptshare::engine {

HostMemory::HostMemory(std::uint64_t bytes) : bytes_(bytes) {
    void* base = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (base == MAP_FAILED) {
        throw std::runtime_error("the host cannot reserve " + std::to_string(bytes >> 20) +
                                 " MiB of address space: lower kernel.memory_bytes");
    }
    base_ = static_cast<std::uint8_t*>(base);
    ::madvise(base, bytes, MADV_HUGEPAGE);  // frames are handed out from the bottom: no waste
}

HostMemory::~HostMemory() {
    ::munmap(base_, bytes_);
}

void HostMemory::set_initial(const File& file, std::vector<std::uint8_t> bytes) {
    initial_[file.id()] = std::move(bytes);
}

bool HostMemory::take_code_released() {
    return std::exchange(code_released_, false);
}

void HostMemory::mark_code(Pfn pfn) {
    if (pfn.value >= code_.size()) code_.resize(pfn.value + 1);
    code_[pfn.value] = true;
}

void HostMemory::touch(Pfn pfn) {
    if (pfn.value >= used_.size()) used_.resize(pfn.value + 1);
    used_[pfn.value] = true;
}

void HostMemory::zero(Pfn pfn) {
    // A frame never used is zero already: do not make the host back it.
    if (pfn.value < used_.size() && used_[pfn.value]) std::memset(frame(pfn), 0, kPageSize);
    touch(pfn);
}

void HostMemory::copy(Pfn to, Pfn from) {
    std::memcpy(frame(to), frame(from), kPageSize);
    touch(to);
}

void HostMemory::read_file(const File& file, std::uint64_t index, Pfn pfn) {
    zero(pfn);
    const auto it = initial_.find(file.id());
    const std::uint64_t offset = index << kPageShift;
    if (it == initial_.end() || offset >= it->second.size()) return;
    const std::uint64_t length = std::min(kPageSize, it->second.size() - offset);
    std::memcpy(frame(pfn), it->second.data() + offset, length);
}

void HostMemory::cut_file(const File& file, std::uint64_t bytes, Pfn last) {
    const auto it = initial_.find(file.id());
    if (it != initial_.end() && bytes < it->second.size()) it->second.resize(bytes);
    if (last == Pfn(0)) return;
    const std::uint64_t keep = bytes & (kPageSize - 1);
    std::memset(frame(last) + keep, 0, kPageSize - keep);
}

void HostMemory::written(Pfn pfn) {
    if (pfn.value < code_.size() && code_[pfn.value]) code_released_ = true;
}

void HostMemory::released(Pfn pfn) {
    if (pfn.value < code_.size() && code_[pfn.value]) {
        code_[pfn.value] = false;
        code_released_ = true;
    }
}

}  // namespace ptshare::engine
