// random: uniformly distributed reads and writes of single words.
//
// The region is dealt out by words: in each cache line, rank r writes the words r % 8 of the lines
// whose number is congruent to r / 8. A rank knows what its own words hold only through what it
// reads back: each write stores the word's own number mixed with the seed, so that any rank can
// check any word: it is 0 or that value.
#include "runtime/runtime.h"

WORKLOAD("random", "reads and writes words all over the region, uniformly", "200000 accesses");
const u64 default_work = 200000;
static u64 writes = 20;
const struct Extra extras[] = {{"--writes", &writes, 0, 100}, {0}};

void run(void) {
    setup();
    map_region();
    const u64 words = options.size / 8;
    u64 state = mix(options.seed ^ mix(options.rank + 1)) | 1;
    // A draw of 32 bits selects the word, another part of the state whether it is written.
    const u64 limit = writes * ((1UL << 32) / 100);
    barrier();
    mark_begin();
    u64 read = 0, written = 0, sum = 0;
    for (u64 i = 0; i < options.work; ++i) {
        // xorshift64 (Marsaglia 2003)
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        const u64 at = (u64)(((unsigned __int128)state * words) >> 64);
        volatile u64* word = word_at(at * 8);
        const u64 value = at ^ options.seed ^ 0x5bd1e9955bd1e995UL;
        if ((state & 0xffffffffUL) < limit) {
            *word = value;
            ++written;
        } else {
            const u64 got = *word;
            if (got != 0 && got != value) expect("word", at, got, value);
            sum += at;
            ++read;
        }
    }
    mark_end();
    put_number("reads", read);
    put_number("writes", written);
    put_hex("checksum", mix(sum ^ state));
}
