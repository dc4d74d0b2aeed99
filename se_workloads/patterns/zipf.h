// Which pages zipf visits, and in which of these visits it writes.
//
// A visit draws u uniformly from [0, 1) and takes the page of rank floor(N^u), from 1 to N. Rank k
// is drawn with probability log((k + 1) / k) / log N, about 1 / (k log N): Zipf's law with
// exponent 1. 2^x is a table of fractions, all in integers. The pages of the ranks are scattered
// over the region, so that hot ones are no neighbours.
#pragma once

#include "mix.h"

#define FRACTION_BITS 10

// Square root of a 2.62 fixed-point product, by bits.
__attribute__((unused)) static u64 zipf_square_root(u64 x) {
    u64 root = 0;
    for (u64 bit = 1UL << 31; bit; bit >>= 1) {
        if ((root | bit) * (root | bit) <= x) root |= bit;
    }
    return root;
}

// Fills powers[i] with 2^(i / 1024) in 1.31 fixed point, from the ten repeated square roots of two.
__attribute__((unused)) static void zipf_fill_powers(u32* powers) {
    const u64 one = 1UL << 31;
    u64 roots[FRACTION_BITS];
    u64 root = one * 2 - 1;  // just below two
    for (int i = 0; i < FRACTION_BITS; ++i) {
        root = zipf_square_root(root << 31);
        roots[i] = root;
    }
    for (u64 i = 0; i < 1 << FRACTION_BITS; ++i) {
        u64 value = one;
        for (int bit = 0; bit < FRACTION_BITS; ++bit) {
            if (i & (1UL << (FRACTION_BITS - 1 - bit))) value = (value * roots[bit]) >> 31;
        }
        powers[i] = (u32)value;
    }
}

// log2(n) in 16.16 fixed point: whole bits, then one bit after another by squaring.
__attribute__((unused)) static u64 zipf_log2(u64 n) {
    u64 whole = 63 - (u64)__builtin_clzl(n);
    u64 x = whole >= 31 ? n >> (whole - 31) : n << (31 - whole);
    u64 result = whole << 16;
    for (u64 bit = 1UL << 15; bit; bit >>= 1) {
        x = (x * x) >> 31;
        if (x >> 32) {
            x >>= 1;
            result |= bit;
        }
    }
    return result;
}

__attribute__((always_inline)) static inline u64 zipf_start(u64 seed, u64 rank) {
    return mix(seed ^ mix(rank + 1)) | 1;
}

// xorshift64 (Marsaglia 2003)
__attribute__((unused)) static u64 zipf_next(u64 state) {
    state ^= state << 13;
    state ^= state >> 7;
    return state ^ (state << 17);
}

// `writes` in per cent.
__attribute__((unused)) static int zipf_writes(u64 state, u64 writes) {
    return (state & 0xffff) * 100 < writes << 16;
}

__attribute__((unused)) static u64 zipf_exponent(u64 state, u64 log_pages) {
    return ((state >> 32) * log_pages) >> 32;  // 16.16
}

// Which of the powers a draw reads.
__attribute__((unused)) static u64 zipf_fraction(u64 exponent) {
    return (exponent >> (16 - FRACTION_BITS)) & ((1 << FRACTION_BITS) - 1);
}

// The rank of a page, from 1 to pages.
__attribute__((unused)) static u64 zipf_draw(const u32* powers, u64 state, u64 log_pages,
                                             u64 pages) {
    const u64 exponent = zipf_exponent(state, log_pages);
    const u64 fraction = zipf_fraction(exponent);
    const u64 rank = ((u64)powers[fraction] << (exponent >> 16)) >> 31;
    return rank > pages ? pages : rank;
}

// Where the page of a rank lies: scattered. Ranks may meet in one page, which adds their
// probabilities and leaves another page unvisited.
__attribute__((unused)) static u64 zipf_page(u64 rank, u64 pages) {
    return ((rank * 0x9e3779b97f4a7c15UL) >> 16) % pages;
}

// A rank writes one word of a page, its slot: others than its own when there are more ranks.
#define SLOTS 511UL
__attribute__((unused)) static u64 zipf_slot(u64 rank) {
    return 8 * (1 + rank % SLOTS);
}
