// scan: every rank reads and hashes the whole region, page after page, several rounds.
//
// In the first round all ranks read only: with fault-around off, private tables take exactly one
// fault for each page and rank. From then on the pages are dealt out: page p belongs to rank
// p % count, which writes it at the end of each round; after a barrier all verify what all wrote.
#include "patterns/scan.h"

#include "runtime/runtime.h"

WORKLOAD("scan", "touches each page in turn, several rounds", 3, "rounds");
ARGUMENTS(APART);

// Hash of one word from each cache line of a page, in order.
static u64 hash_page(u64 page) {
    const volatile u64* word = word_at(page * PAGE_SIZE);
    u64 hash = 0;
    for (u64 i = 0; i < LINES_READ; ++i) hash = mix(hash ^ word[scan_offset(i) / 8]);
    return hash;
}

// The same of a page whose first word is `first`: only that is ever written, the rest stays zero.
static u64 hash_expected(u64 first) {
    u64 hash = mix(first);
    for (u64 i = 1; i < LINES_READ; ++i) hash = mix(hash);
    return hash;
}

void run(void) {
    setup();
    map_region();
    barrier();
    mark_begin();
    u64 checksum = 0;
    for (u64 round = 0; round < options.work; ++round) {
        for (u64 page = 0; page < pages_of_region(); ++page) {
            const u64 hash = hash_page(page);
            expect("page", page, hash, hash_expected(round == 0 ? 0 : datum(page, round)));
            checksum = mix(checksum ^ hash);
        }
        barrier();
        for (u64 page = options.rank; page < pages_of_region(); page += options.count) {
            *word_at(page * PAGE_SIZE) = datum(page, round + 1);
        }
        barrier();
    }
    mark_end();
    // What the last round wrote is there too.
    for (u64 page = 0; page < pages_of_region(); ++page) {
        expect("page", page, *word_at(page * PAGE_SIZE), datum(page, options.work));
    }
    put_number("pages", pages_of_region());
    put_number("rounds", options.work);
    put_hex("checksum", checksum);
}
