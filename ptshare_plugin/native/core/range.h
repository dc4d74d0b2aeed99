// Ranges of addresses as system calls take them.
#pragma once

#include <cstdint>

#include "types.h"

namespace ptshare {

// Lowest address that mmap gives out (vm.mmap_min_addr) and the room left for the stack.
constexpr VirtAddr kLowest(0x10000);
// No table's span reaches beyond: with five levels one entry of the root spans 2^48 bytes.
constexpr VirtAddr kEverything(~0ULL);
constexpr std::uint64_t kStackGap = 128ULL << 20;

constexpr bool valid_range(VirtAddr start, std::uint64_t length, VirtAddr limit) {
    return length <= limit.value && start.value <= limit.value - length;
}

// Rounds up to whole pages; a length that wraps stays too long for any address space.
constexpr std::uint64_t page_align(std::uint64_t bytes) {
    const std::uint64_t rounded = (bytes + kPageSize - 1) & ~(kPageSize - 1);
    return rounded < bytes ? ~std::uint64_t{0} : rounded;
}

}  // namespace ptshare
