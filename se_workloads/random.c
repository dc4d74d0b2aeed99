// random: uniformly distributed reads and writes of single words.
//
// A write stores the word's number mixed with the seed, whoever writes: any rank can check any word
// at any time, for it holds 0 or that value.
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
    u64 written = 0, sum = 0;
    const u64 salt = options.seed ^ 0x5bd1e9955bd1e995UL;
    const u64 work = options.work;
    volatile u64* const region = word_at(0);
    for (u64 i = 0; i < work; ++i) {
        // xorshift64 (Marsaglia 2003)
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        const u64 at = (u64)(((unsigned __int128)state * words) >> 64);
        const u64 value = at ^ salt;
        if ((state & 0xffffffffUL) < limit) {
            region[at] = value;
            ++written;
        } else {
            const u64 got = region[at];
            if (got != 0 && got != value) expect("word", at, got, value);
            sum += at;
        }
    }
    mark_end();
    put_number("reads", work - written);
    put_number("writes", written);
    put_hex("checksum", mix(sum ^ state));
}
