// When churn's ranks map and unmap the region, and which words they use.
#pragma once

#include "mix.h"

// In which turn of a round a rank maps the region (half 0), or unmaps it (half 1): a permutation of
// the ranks, another one for each round and half.
static inline u64 churn_turn(u64 seed, u64 rank, u64 ranks, u64 round, u64 half) {
    const u64 shift = datum_of(seed, round, half) % ranks;
    const u64 turn = (rank + shift) % ranks;
    return half ? ranks - 1 - turn : turn;
}

// In the last round the last rank dies instead of unmapping, and nobody waits for turns.
static inline int churn_dies(u64 rank, u64 ranks) {
    return ranks > 1 && rank == ranks - 1;
}

// Byte in its page. Rounds write the first two words of a page by turns: the first access to a page
// stays a write, and what the round before left is still there to be verified.
static inline u64 churn_slot(u64 round) {
    return 8 * (round % 2);
}
