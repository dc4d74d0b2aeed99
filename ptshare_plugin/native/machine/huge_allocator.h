// Host memory for large arrays that are used at random: on 2 MiB pages of the host where it has
// them, so that the simulator itself does not wait for page walks.
#pragma once

#include <sys/mman.h>

#include <cstddef>
#include <cstdlib>
#include <new>

namespace ptshare::engine {

// A standard allocator. Small blocks come from malloc as usual.
template <class T>
struct HugeAllocator {
    using value_type = T;

    HugeAllocator() = default;
    template <class U>
    explicit HugeAllocator(const HugeAllocator<U>&) {}

    T* allocate(std::size_t n) {
        const std::size_t bytes = n * sizeof(T);
        void* block = nullptr;
        if (bytes < kHuge) {
            block = std::aligned_alloc(kLine, (bytes + kLine - 1) / kLine * kLine);
        } else {
            const std::size_t rounded = (bytes + kHuge - 1) / kHuge * kHuge;
            block = std::aligned_alloc(kHuge, rounded);
            // Advice: without huge pages it works as well, more slowly.
            if (block) ::madvise(block, rounded, MADV_HUGEPAGE);
        }
        if (!block) throw std::bad_alloc();
        return static_cast<T*>(block);
    }
    void deallocate(T* block, std::size_t) { std::free(block); }

    friend bool operator==(const HugeAllocator&, const HugeAllocator&) { return true; }
    friend bool operator!=(const HugeAllocator&, const HugeAllocator&) { return false; }

  private:
    static constexpr std::size_t kHuge = 2 << 20;
    static constexpr std::size_t kLine = 64;
};

}  // namespace ptshare::engine
