// zipf: pages are chosen as a database's buffer cache sees them, few of them very often.
//
// A visit draws u uniformly from [0, 1) and takes the page of rank floor(N^u), from 1 to N. Rank k
// is drawn with probability log((k + 1) / k) / log N, about 1 / (k log N): Zipf's law with
// exponent 1. 2^x is a table of fractions, all in integers. The pages of the ranks are scattered
// over the region, so that hot ones are no neighbours.
#include "runtime/runtime.h"

WORKLOAD("zipf", "visits pages as a database's buffer cache does, few of them very often", 50000,
         "visits");
static u64 writes = 10;
const struct Extra extras[] = {{"--writes", &writes, 0, 100, 0}, {0}};

#define FRACTION_BITS 10
static u32 powers[1 << FRACTION_BITS];  // 2^(i / 1024) in 1.31 fixed point

// Square root of a 2.62 fixed-point product, by bits.
static u64 square_root(u64 x) {
    u64 root = 0;
    for (u64 bit = 1UL << 31; bit; bit >>= 1) {
        if ((root | bit) * (root | bit) <= x) root |= bit;
    }
    return root;
}

// From the ten repeated square roots of two.
static void fill_powers(void) {
    const u64 one = 1UL << 31;
    u64 roots[FRACTION_BITS];
    u64 root = one * 2 - 1;  // just below two
    for (int i = 0; i < FRACTION_BITS; ++i) {
        root = square_root(root << 31);
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
static u64 log2_fixed(u64 n) {
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

// xorshift64 (Marsaglia 2003)
static u64 next(u64 state) {
    state ^= state << 13;
    state ^= state >> 7;
    return state ^ (state << 17);
}

static int is_write(u64 state) {
    return (state & 0xffff) * 100 < writes << 16;
}

// The rank of a page, from 1 to pages.
static u64 draw(u64 state, u64 log_pages, u64 pages) {
    const u64 exponent = ((state >> 32) * log_pages) >> 32;  // 16.16
    const u64 fraction = (exponent >> (16 - FRACTION_BITS)) & ((1 << FRACTION_BITS) - 1);
    const u64 rank = ((u64)powers[fraction] << (exponent >> 16)) >> 31;
    return rank > pages ? pages : rank;
}

// Where the page of a rank lies: scattered. Ranks may meet in one page, which adds their
// probabilities and leaves another page unvisited.
static u64 page_of(u64 rank, u64 pages) {
    return ((rank * 0x9e3779b97f4a7c15UL) >> 16) % pages;
}

// A rank writes one word of a page, its slot: others than its own when there are more ranks.
#define SLOTS 511UL
static u64 slot_of(u64 rank) {
    return 8 * (1 + rank % SLOTS);
}

static u64 start_of(u64 rank) {
    return mix(options.seed ^ mix(rank + 1)) | 1;
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
    const u64 slot = slot_of(rank);
    u64 state = start_of(rank);
    for (u64 i = 0; i < visits; ++i) {
        state = next(state);
        if (!is_write(state)) continue;
        const u64 page = page_of(draw(state, log_pages, pages), pages);
        // Where ranks share a slot, another one may have written last, early in its own visits.
        check_word(page, slot, *word_at(page * PAGE_SIZE + slot), options.count > SLOTS ? 0 : i);
    }
}

// Of another rank: enough to find what does not come across, too few to weigh.
#define CHECKED_OF_OTHER 5000UL

void run(void) {
    setup();
    fill_powers();
    map_region();
    const u64 pages = pages_of_region();
    const u64 log_pages = log2_fixed(pages);
    const u64 slot = slot_of(options.rank);
    const u64 start = start_of(options.rank);
    barrier();
    mark_begin();
    u64 state = start;
    u64 checksum = 0, written = 0, hottest = 0;
    for (u64 i = 0; i < options.work; ++i) {
        state = next(state);
        const u64 rank = draw(state, log_pages, pages);
        const u64 page = page_of(rank, pages);
        hottest += rank == 1;
        volatile u64* word = word_at(page * PAGE_SIZE + slot);
        const u64 got = *word;
        if (got != 0) check_word(page, slot, got, 0);
        if (is_write(state)) {
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
