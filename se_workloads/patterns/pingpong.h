// Who writes in a turn of pingpong, and which word of each page.
#pragma once

#include "mix.h"

static inline u64 pingpong_writer(u64 turn, u64 ranks) {
    return turn % ranks;
}

// Byte in its page: a page's words are written one after the other.
static inline u64 pingpong_slot(u64 turn) {
    return 8 * (turn % 512);
}
