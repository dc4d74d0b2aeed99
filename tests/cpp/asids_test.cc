// Dynamic address-space ids against arch/x86/mm/tlb.c.
#include "translation/asids.h"

#include <random>
#include <vector>

#include "check.h"

using namespace ptshare;
using namespace ptshare::engine;

namespace {

// choose_new_asid() and what switch_mm_irqs_off() keeps of it, as they stand in Linux, for a CPU
// with PCIDs and `count` TLB_NR_DYN_ASIDS.
struct Linux {
    explicit Linux(unsigned count) : ctxs(count) {}

    Asids::Choice load(std::uint64_t id, std::uint64_t next_tlb_gen) {
        unsigned asid = 0;
        bool need_flush = true;
        for (; asid < ctxs.size(); ++asid) {
            if (ctxs[asid].ctx_id != id) continue;
            need_flush = ctxs[asid].tlb_gen < next_tlb_gen;
            break;
        }
        if (asid == ctxs.size()) {
            asid = next_asid++;
            if (asid >= ctxs.size()) {
                asid = 0;
                next_asid = 1;
            }
        }
        ctxs[asid] = {id, next_tlb_gen};
        return {static_cast<Pcid>(asid + 1), need_flush};
    }

    struct Context {
        std::uint64_t ctx_id = 0;
        std::uint64_t tlb_gen = 0;
    };
    std::vector<Context> ctxs;
    unsigned next_asid = 0;
};

}  // namespace

TEST(seven_address_spaces_in_turn_flush_at_each_load) {
    Asids asids(6);
    for (std::uint64_t turn = 0; turn < 21; ++turn) {
        const Asids::Choice chosen = asids.load(MmId(1 + turn % 7), 0);
        CHECK_EQ(chosen.pcid, turn % 6 + 1);
        CHECK(chosen.flush);
    }
}

TEST(six_in_turn_keep_their_slots) {
    Asids asids(6);
    for (std::uint64_t turn = 0; turn < 18; ++turn) {
        const Asids::Choice chosen = asids.load(MmId(1 + turn % 6), 0);
        CHECK_EQ(chosen.pcid, turn % 6 + 1);
        CHECK_EQ(chosen.flush, turn < 6);
    }
}

TEST(a_generation_behind_flushes_once) {
    Asids asids(6);
    asids.load(MmId(1), 3);
    asids.load(MmId(2), 0);
    CHECK(asids.load(MmId(1), 4).flush);
    asids.slots()[0].generation = 5;
    CHECK(asids.is_loaded(asids.slots()[0]));
    CHECK(!asids.load(MmId(1), 5).flush);
}

TEST(what_was_not_flushed_stays_suspect_until_it_is) {
    Asids asids(6);
    asids.load(MmId(1), 0);
    asids.load(MmId(2), 0);
    CHECK_EQ(asids.slots().size(), 2U);
    asids.slots()[0].suspect = true;
    CHECK(!asids.suspect());
    CHECK(!asids.load(MmId(1), 0).flush);
    CHECK(asids.suspect());
    CHECK(asids.load(MmId(1), 1).flush);
    CHECK(!asids.suspect());
    asids.shared().push_back({1, 1, true});
    CHECK(asids.suspect());
}

TEST(without_pcids_another_mm_flushes_all) {
    Asids asids(0);
    CHECK(asids.load(MmId(1), 0).flush);
    CHECK(!asids.load(MmId(1), 0).flush);  // another thread of it
    const Asids::Choice other = asids.load(MmId(2), 0);
    CHECK(other.flush);
    CHECK_EQ(other.pcid, 0U);
}

TEST(any_order_is_as_in_linux) {
    std::mt19937_64 random(1);
    for (const unsigned count : {1U, 2U, 6U}) {
        Asids asids(count);
        Linux linux_asids(count);
        std::uint64_t generations[10] = {};
        for (int step = 0; step < 20000; ++step) {
            const std::uint64_t id = random() % 9 + 1;
            if (random() % 4 == 0) ++generations[random() % 9 + 1];
            const Asids::Choice got = asids.load(MmId(id), generations[id]);
            const Asids::Choice want = linux_asids.load(id, generations[id]);
            CHECK_EQ(got.pcid, want.pcid);
            CHECK_EQ(got.flush, want.flush);
        }
    }
}
