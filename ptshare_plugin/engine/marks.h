// The region-of-interest marks of a program.
#pragma once

#include <cstdint>

namespace ptshare::engine {

// A system-call number that Linux does not use and answers with ENOSYS: argument 1 begins the
// region of interest, 2 ends it.
constexpr std::uint64_t kMarkSyscall = 20564;

}  // namespace ptshare::engine
