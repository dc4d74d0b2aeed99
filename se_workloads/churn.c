// churn: ranks attach, touch and leave in varied order; the last rank is killed.
//
// In each round the ranks take their turns in an order drawn from the seed: in its turn a rank maps
// the region, or unmaps it. A rank that comes writes its pages and verifies what the round before
// left in them. All keep the region mapped between the two halves of a round and verify what
// the others wrote; those who stay verify again after each that leaves. At the end the last rank
// leaves the barrier and kills itself with the region mapped; alone it lives.
#include "patterns/churn.h"

#include "runtime/runtime.h"

WORKLOAD("churn", "ranks attach, touch and leave in varied order, the last one is killed", 3,
         "rounds");
KILLS_ITSELF;
#define OWN(ARGUMENT)                                            \
    ARGUMENT(NUMBER, touched, "--pages", 256, 1, 17179869184, 1, \
             "pages that are touched, at most those of the region")
ARGUMENTS(OWN);

static u64 my_turn(u64 round, u64 half) {
    return churn_turn(options.seed, options.rank, options.count, round, half);
}

static volatile u64* word_of(u64 i, u64 stride, u64 round) {
    return word_at(i * stride * PAGE_SIZE + churn_slot(round));
}

void run(void) {
    setup();
    const u64 pages = touched < pages_of_region() ? touched : pages_of_region();
    const u64 stride = pages_of_region() / pages;
    barrier();
    mark_begin();
    u64 checksum = 0;
    for (u64 round = 0; round < options.work; ++round) {
        const u64 attach = my_turn(round, 0);
        for (u64 turn = 0; turn < options.count; ++turn) {
            if (turn == attach) {
                map_region();
                for (u64 i = options.rank; i < pages; i += options.count) {
                    *word_of(i, stride, round) = datum(i, round);
                    expect("page", i * stride, *word_of(i, stride, round + 1),
                           round == 0 ? 0 : datum(i, round - 1));
                }
            }
            barrier();
        }
        for (u64 i = 0; i < pages; ++i) {
            const u64 got = *word_of(i, stride, round);
            expect("page", i * stride, got, datum(i, round));
            checksum = mix(checksum ^ got);
        }
        const int last = round + 1 == options.work;
        // The death of the last rank may end the region: all have verified before.
        if (last) barrier();
        if (last && churn_dies(options.rank, options.count)) break;
        const u64 leave = my_turn(round, 1);
        for (u64 turn = 0; turn < options.count; ++turn) {
            if (turn == leave) unmap_region();
            // In the last round the last rank takes no part: nobody waits for turns.
            if (last) continue;
            barrier();
            if (turn >= leave) continue;
            // Another share of the pages each time: reading all would weigh more than the churn.
            for (u64 i = turn; i < pages; i += options.count) {
                expect("page", i * stride, *word_of(i, stride, round), datum(i, round));
            }
        }
    }
    mark_end();
    put_number("pages", pages);
    put_number("rounds", options.work);
    put_hex("checksum", checksum);
    if (churn_dies(options.rank, options.count)) {
        finish();
        leave_barrier();
        fail_call("SIGKILL to itself had no effect: kill", sys_kill(sys_getpid(), SIGKILL));
    }
}
