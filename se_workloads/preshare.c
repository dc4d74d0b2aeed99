// preshare: touches the region through an ordinary mapping first, then shares it.
//
// Rank 0 maps the file without MAP_SHARED_PT and touches half of the pages. Then every rank, rank 0
// first, maps the file as the options say, over what was there. A kernel that shares keeps the
// entries of rank 0: they are copied into the host.
#include "runtime/runtime.h"

WORKLOAD("preshare", "touches the region privately, then shares it", 2, "rounds");
ARGUMENTS(APART);

void run(void) {
    setup();
    const u64 pages = pages_of_region();
    if (options.rank == 0) {
        const long at = sys_mmap(options.addr, options.size, PROT_READ | PROT_WRITE,
                                 MAP_SHARED | MAP_FIXED, region_fd, 0);
        if (at < 0) fail_call("mmap of the region without MAP_SHARED_PT", at);
        for (u64 page = 0; page < pages; page += 2) {
            *word_at(page * PAGE_SIZE) = datum(page, 0);
        }
    }
    barrier();
    mark_begin();
    if (options.rank == 0) map_region();
    barrier();
    if (options.rank != 0) map_region();
    barrier();
    u64 checksum = 0;
    for (u64 round = 0; round < options.work; ++round) {
        for (u64 page = 0; page < pages; ++page) {
            const u64 got = *word_at(page * PAGE_SIZE);
            const u64 want = page % 2 == 0 || round > 0 ? datum(page, round) : 0;
            expect("page", page, got, want);
            checksum = mix(checksum ^ got);
        }
        barrier();
        for (u64 page = options.rank; page < pages; page += options.count) {
            *word_at(page * PAGE_SIZE) = datum(page, round + 1);
        }
        barrier();
    }
    mark_end();
    // What the last round wrote is there too.
    for (u64 page = 0; page < pages; ++page) {
        expect("page", page, *word_at(page * PAGE_SIZE), datum(page, options.work));
    }
    put_number("pages", pages);
    put_number("rounds", options.work);
    put_hex("checksum", checksum);
}
