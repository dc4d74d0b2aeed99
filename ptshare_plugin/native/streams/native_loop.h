// What this machine takes for a pattern's accesses without a model: the benchmark's yardstick.
#pragma once

#include <cstdint>
#include <string>

#include "streams/pattern.h"

namespace ptshare::engine {

struct NativeLoop {
    std::uint64_t accesses = 0;  // to the region
    double seconds = 0;          // of this thread's time on a CPU
    std::uint64_t sum = 0;       // of what was read, so that reads are made
};

// Makes the addresses of the pattern called `name` of one process, as Stream does, and reads and
// writes real memory of the region's size there. All of it is touched before the time begins.
// Throws std::invalid_argument (no such pattern) and std::bad_alloc.
NativeLoop native_loop(const std::string& name, const PatternRequest& request);

}  // namespace ptshare::engine
