// random: uniformly distributed reads and writes of single words.
//
// A write stores the word's number mixed with the seed, whoever writes: any rank can check any word
// at any time, for it holds 0 or that value. When all are done each rank looks for what it wrote,
// and for the first words that the next rank wrote.
#include "patterns/random.h"

#include "runtime/runtime.h"

WORKLOAD("random", "reads and writes words all over the region, uniformly", 200000, "accesses");
#define OWN(ARGUMENT) \
    ARGUMENT(NUMBER, writes, "--writes", 20, 0, 100, 1, "accesses that write, in per cent")
ARGUMENTS(OWN);

struct Writes {
    u64 limit;  // of the lower half of the state: below it, the word is written
    u64 salt;   // in each value
};

// Nothing that a rank wrote with its first accesses is lost: the same draws once more. Returns how
// many were writes.
static u64 check_writes(const struct Writes* all, u64 rank, u64 accesses) {
    const u64 words = options.size / 8;
    u64 state = random_start(options.seed, rank);
    u64 written = 0;
    for (u64 left = accesses; left != 0; --left) {
        state = random_next(state);
        if (!random_writes(state, all->limit)) continue;
        const u64 at = random_place(state, words);
        expect("word", at, *word_at(at * 8), at ^ all->salt);
        ++written;
    }
    return written;
}

// Of another rank: enough to find what does not come across, too few to weigh.
#define CHECKED_OF_OTHER 5000UL

void run(void) {
    setup();
    map_region();
    const u64 words = options.size / 8;
    const u64 start = random_start(options.seed, options.rank);
    // The lower half of the state decides whether the word is written.
    const u64 limit = random_limit(writes);
    const u64 salt = options.seed ^ 0x5bd1e9955bd1e995UL;
    volatile u64* const region = word_at(0);
    barrier();
    mark_begin();
    // Few branches and nothing but the words themselves in memory: they are what is measured.
    u64 state = start;
    volatile u64* wrong = 0;
    for (u64 left = options.work; left != 0; --left) {
        state = random_next(state);
        const u64 at = random_place(state, words);
        volatile u64* const word = region + at;
        const u64 value = at ^ salt;
        if (random_writes(state, limit)) {
            *word = value;
        } else {
            const u64 got = *word;
            wrong = (got != 0) & (got != value) ? word : wrong;
        }
    }
    mark_end();
    if (wrong) {
        // A failure even if the word is right again by now.
        const u64 at = (u64)(wrong - region);
        mismatch("a read was wrong, now the word", at, *wrong, at ^ salt);
    }
    barrier();
    const struct Writes all = {limit, salt};
    const u64 written = check_writes(&all, options.rank, options.work);
    if (options.count > 1) {
        const u64 some = options.work < CHECKED_OF_OTHER ? options.work : CHECKED_OF_OTHER;
        check_writes(&all, (options.rank + 1) % options.count, some);
    }
    put_number("reads", options.work - written);
    put_number("writes", written);
    put_hex("checksum", mix(state));
}
