// In which rounds protect writes, and the pieces whose protection it changes in the others.
#pragma once

#include "mix.h"

static inline int protect_writes(u64 round) {
    return round % 2 == 0;
}

// Every second piece of the region, from its start; the last one may be shorter.
static inline u64 protect_next(u64 at, u64 piece) {
    return at + 2 * piece;
}

static inline u64 protect_length(u64 at, u64 piece, u64 size) {
    return size - at < piece ? size - at : piece;
}
