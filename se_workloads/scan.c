// scan: every rank reads the whole region, page after page, several rounds.
//
// In the first round all ranks read only: with fault-around off, private tables take exactly one
// fault for each page and rank. From then on the pages are dealt out: page p belongs to rank
// p % count, which writes it at the end of each round; after a barrier all verify what all wrote.
#include "runtime/runtime.h"

WORKLOAD("scan", "touches each page in turn, several rounds", "3 rounds");
const u64 default_work = 3;
const struct Extra extras[] = {{0}};

#define WORDS_READ 64  // a page, a word from each cache line

// Sum of one word from each cache line of a page.
static u64 sum_page(u64 page) {
    const volatile u64* word = word_at(page * PAGE_SIZE);
    u64 sum = 0;
    for (u64 i = 0; i < WORDS_READ; ++i) sum += word[i * 8];
    return sum;
}

void run(void) {
    setup();
    map_region();
    barrier();
    mark_begin();
    u64 checksum = 0;
    for (u64 round = 0; round < options.work; ++round) {
        for (u64 page = 0; page < pages_of_region(); ++page) {
            // Only the first word of a page is ever written; the rest stays zero.
            const u64 want = round == 0 ? 0 : datum(page, round);
            const u64 sum = sum_page(page);
            expect("page", page, sum, want);
            checksum = mix(checksum ^ sum);
        }
        barrier();
        for (u64 page = options.rank; page < pages_of_region(); page += options.count) {
            *word_at(page * PAGE_SIZE) = datum(page, round + 1);
        }
        barrier();
    }
    mark_end();
    put_number("pages", pages_of_region());
    put_number("rounds", options.work);
    put_hex("checksum", checksum);
}
