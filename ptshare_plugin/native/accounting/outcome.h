// What a started process leaves behind.
#pragma once

#include <cstdint>
#include <string>

#include "accounting/counters.h"

namespace ptshare::engine {

// With all that it forked.
struct Rank {
    std::string output;
    std::string errors;
    std::uint32_t pid = 0;
    int exit_code = 0;
    int signal = 0;    // that killed it; 0: none
    std::string note;  // why, in words
    Counters counters;
    Counters roi;  // inside the program's marks
    bool marked = false;
    unsigned processes = 1;  // it and its forked descendants, ever
};

}  // namespace ptshare::engine
