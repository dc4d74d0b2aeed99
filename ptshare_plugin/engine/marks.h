// The region-of-interest marks of a program.
#pragma once

#include <cstdint>

namespace ptshare::engine {

// A system-call number that Linux does not use and answers with ENOSYS, and its arguments.
constexpr std::uint64_t kMarkSyscall = 20564;
constexpr std::uint64_t kMarkBegin = 1;
constexpr std::uint64_t kMarkEnd = 2;

}  // namespace ptshare::engine
