// What all patterns stand on. Plain C11 for the programs, and C++17 for the stream front-end, which
// generates the same addresses without executing the programs.
#pragma once

#include <stdint.h>

typedef uint64_t u64;
typedef uint32_t u32;

// splitmix64 (Steele, Lea, Flood 2014): mixes well and needs no state.
static inline u64 mix(u64 x) {
    x += 0x9e3779b97f4a7c15UL;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9UL;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebUL;
    return x ^ (x >> 31);
}

// What a place of the region holds: a function of the seed, the place and the round.
static inline u64 datum_of(u64 seed, u64 place, u64 round) {
    return mix(seed ^ mix(place ^ mix(round)));
}
