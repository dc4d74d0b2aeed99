// The check of an access that both forms of traces share.
#pragma once

#include <cstdint>
#include <stdexcept>
#include <string>

#include "core/range.h"
#include "streams/trace.h"

namespace ptshare::engine {

// Behind the last page that a process has with four levels (Kernel::task_size).
constexpr VirtAddr kTraceEnd((1ULL << 47) - kPageSize);

// Throws std::runtime_error that begins with `where()`.
template <class Where>
inline void check_place(std::uint64_t address, std::uint64_t size, const Where& where) {
    if (size == 0 || size > TraceRecord::kMostBytes) {
        throw std::runtime_error(where() + ": an access of " + std::to_string(size) +
                                 " bytes; there are those of 1 to " +
                                 std::to_string(TraceRecord::kMostBytes));
    }
    if (address < kLowest.value || address > kTraceEnd.value - size) {
        throw std::runtime_error(where() +
                                 ": an access outside the addresses of a process, "
                                 "0x10000 to 0x7ffffffff000");
    }
}

}  // namespace ptshare::engine
