// Which words random accesses, and which of these accesses write.
#pragma once

#include "mix.h"

__extension__ typedef unsigned __int128 pattern_u128;

static inline u64 random_start(u64 seed, u64 rank) {
    return mix(seed ^ mix(rank + 1));
}

// The linear congruential generator of MMIX (Knuth, TAOCP volume 2, 3.3.4): two instructions, and
// its upper bits, which select the word, are good.
static inline u64 random_next(u64 state) {
    return state * 6364136223846793005UL + 1442695040888963407UL;
}

// The word, below `words`.
static inline u64 random_place(u64 state, u64 words) {
    return (u64)(((pattern_u128)state * words) >> 64);
}

// Below it, the lower half of the state says that the word is written; `writes` in per cent.
static inline u64 random_limit(u64 writes) {
    return writes * ((1UL << 32) / 100);
}

static inline int random_writes(u64 state, u64 limit) {
    return (state & 0xffffffffUL) < limit;
}
