// zipf: pages are chosen as a database's buffer cache sees them, few of them very often.
// patterns/zipf.h draws them.
#include "patterns/zipf.h"

#include "runtime/runtime.h"

WORKLOAD("zipf", "visits pages as a database's buffer cache does, few of them very often", 50000,
         "visits");
#define OWN(ARGUMENT) \
    ARGUMENT(NUMBER, writes, "--writes", 10, 0, 100, 1, "visits that write, in per cent")
ARGUMENTS(OWN);

static u32 powers[1 << FRACTION_BITS];  // 2^(i / 1024) in 1.31 fixed point

static u64 start_of(u64 rank) {
    return zipf_start(options.seed, rank);
}

// A write stores datum(page, slot) plus the number of the visit, so that a later write that was
// lost shows as an older one. Whoever finds a word that is not from visit `oldest` or later fails.
static inline void check_word(u64 page, u64 slot, u64 got, u64 oldest) {
    const u64 least = datum(page, slot) + oldest;
    if (got - least >= options.work - oldest) mismatch("page", page, got, least);
}

// Nothing that a rank wrote in its first visits is lost: the same draws once more.
static void check_writes(u64 rank, u64 visits, u64 log_pages) {
    const u64 pages = pages_of_region();
    const u64 slot = zipf_slot(rank);
    u64 state = start_of(rank);
    for (u64 i = 0; i < visits; ++i) {
        state = zipf_next(state);
        if (!zipf_writes(state, writes)) continue;
        const u64 page = zipf_page(zipf_draw(powers, state, log_pages, pages), pages);
        // Where ranks share a slot, another one may have written last, early in its own visits.
        check_word(page, slot, *word_at(page * PAGE_SIZE + slot), options.count > SLOTS ? 0 : i);
    }
}

// Of another rank: enough to find what does not come across, too few to weigh.
#define CHECKED_OF_OTHER 5000UL

void run(void) {
    setup();
    zipf_fill_powers(powers);
    map_region();
    const u64 pages = pages_of_region();
    const u64 log_pages = zipf_log2(pages);
    const u64 slot = zipf_slot(options.rank);
    const u64 start = start_of(options.rank);
    barrier();
    mark_begin();
    u64 state = start;
    u64 checksum = 0, written = 0, hottest = 0;
    for (u64 i = 0; i < options.work; ++i) {
        state = zipf_next(state);
        const u64 rank = zipf_draw(powers, state, log_pages, pages);
        const u64 page = zipf_page(rank, pages);
        hottest += rank == 1;
        volatile u64* word = word_at(page * PAGE_SIZE + slot);
        const u64 got = *word;
        if (got != 0) check_word(page, slot, got, 0);
        if (zipf_writes(state, writes)) {
            *word = datum(page, slot) + i;
            ++written;
        }
        checksum = mix(checksum ^ page);
    }
    mark_end();
    barrier();
    check_writes(options.rank, options.work, log_pages);
    if (options.count > 1) {
        const u64 some = options.work < CHECKED_OF_OTHER ? options.work : CHECKED_OF_OTHER;
        check_writes((options.rank + 1) % options.count, some, log_pages);
    }
    put_number("visits", options.work);
    put_number("writes", written);
    put_number("hottest", hottest);
    put_hex("checksum", checksum);
}
