// random: uniformly distributed reads and writes of single words.
//
// A write stores the word's number mixed with the seed, whoever writes: any rank can check any word
// at any time, for it holds 0 or that value.
#include "runtime/runtime.h"

WORKLOAD("random", "reads and writes words all over the region, uniformly", "200000 accesses");
const u64 default_work = 200000;
static u64 writes = 20;
const struct Extra extras[] = {{"--writes", &writes, 0, 100}, {0}};

// xorshift64 (Marsaglia 2003)
static inline u64 next(u64 state) {
    state ^= state << 13;
    state ^= state >> 7;
    return state ^ (state << 17);
}

static inline u64 place_of(u64 state, u64 words) {
    return (u64)(((unsigned __int128)state * words) >> 64);
}

void run(void) {
    setup();
    map_region();
    const u64 words = options.size / 8;
    u64 state = mix(options.seed ^ mix(options.rank + 1)) | 1;
    // A draw of 32 bits selects the word, another part of the state whether it is written.
    const u64 limit = writes * ((1UL << 32) / 100);
    const u64 salt = options.seed ^ 0x5bd1e9955bd1e995UL;
    volatile u64* const region = word_at(0);
    barrier();
    mark_begin();
    const u64 work = options.work;
    const u64 start = state;
    u64 written = 0, sum = 0;
    for (u64 i = 0; i < work; ++i) {
        state = next(state);
        const u64 at = place_of(state, words);
        if ((state & 0xffffffffUL) < limit) {
            region[at] = at ^ salt;
            ++written;
        } else {
            const u64 got = region[at];
            if (got != 0 && got != (at ^ salt)) expect("word", at, got, at ^ salt);
            sum += at;
        }
    }
    mark_end();
    // Nothing that this rank wrote is lost: the same draws once more.
    u64 again = start;
    for (u64 i = 0; i < work; ++i) {
        again = next(again);
        const u64 at = place_of(again, words);
        if ((again & 0xffffffffUL) < limit) expect("word", at, region[at], at ^ salt);
    }
    put_number("reads", work - written);
    put_number("writes", written);
    put_hex("checksum", mix(sum ^ state));
}
