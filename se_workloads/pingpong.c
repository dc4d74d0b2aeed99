// pingpong: ranks write in turn, all others read and verify.
//
// In turn t, rank t % count writes a word of each page of its window; all meet; everyone checks all
// of them; all meet again.
#include "patterns/pingpong.h"

#include "runtime/runtime.h"

WORKLOAD("pingpong", "ranks write in turn, the others read and verify", 8, "turns");
#define OWN(ARGUMENT)                                          \
    ARGUMENT(NUMBER, window, "--pages", 64, 1, 17179869184, 1, \
             "pages that are written, at most those of the region")
ARGUMENTS(OWN);

void run(void) {
    setup();
    map_region();
    const u64 pages = window < pages_of_region() ? window : pages_of_region();
    barrier();
    mark_begin();
    u64 checksum = 0;
    for (u64 turn = 0; turn < options.work; ++turn) {
        const u64 offset = pingpong_slot(turn);
        if (pingpong_writer(turn, options.count) == options.rank) {
            for (u64 page = 0; page < pages; ++page) {
                *word_at(page * PAGE_SIZE + offset) = datum(page, turn);
            }
        }
        barrier();
        for (u64 page = 0; page < pages; ++page) {
            const u64 got = *word_at(page * PAGE_SIZE + offset);
            expect("page", page, got, datum(page, turn));
            checksum = mix(checksum ^ got);
        }
        barrier();
    }
    mark_end();
    // Nor is a word of an earlier turn lost: the last one that wrote it tells what it holds.
    const u64 words = PAGE_SIZE / 8;
    const u64 first = options.work > words ? options.work - words : 0;
    for (u64 turn = first; turn < options.work; ++turn) {
        for (u64 page = 0; page < pages; ++page) {
            expect("page", page, *word_at(page * PAGE_SIZE + pingpong_slot(turn)),
                   datum(page, turn));
        }
    }
    put_number("pages", pages);
    put_number("turns", options.work);
    put_hex("checksum", checksum);
}
