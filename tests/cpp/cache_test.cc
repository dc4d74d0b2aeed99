// Caches: where accesses are served, exact latencies, coherence.
#include "engine/cache.h"

#include <algorithm>
#include <list>
#include <map>
#include <random>

#include "check.h"
#include "parameters.h"

using namespace ptshare;
using namespace ptshare::engine;

namespace {

struct World {
    explicit World(unsigned cores, const Values& changes = {})
        : hierarchy(small_machine(changes), cores), counters(cores) {}
    CacheResult go(unsigned core, std::uint64_t address, AccessKind kind = AccessKind::Read) {
        return hierarchy.access(core, PhysAddr(address), kind, counters[core]);
    }
    std::uint64_t latency(unsigned core, std::uint64_t address,
                          AccessKind kind = AccessKind::Read) {
        return go(core, address, kind).latency;
    }

    Hierarchy hierarchy;
    std::vector<Counters> counters;
};

constexpr AccessKind kWrite = AccessKind::Write;
const Values kNoLlc{{"cache.llc.bytes", std::int64_t{0}}};

}  // namespace

TEST(a_line_is_served_where_it_is) {
    World world(1);
    CHECK(world.go(0, 0x1000).served == Served::Dram);
    CHECK_EQ(world.latency(0, 0x103f), 4U);
    // Four more lines of the same L1 set (16 sets): the first is in L2 still.
    for (std::uint64_t i = 1; i <= 4; ++i) CHECK_EQ(world.latency(0, 0x1000 + i * 1024), 200U);
    CHECK_EQ(world.latency(0, 0x1000), 10U);
    // Eight lines of the same L2 set (128 sets) push it out of L2, and so out of L1.
    for (std::uint64_t i = 1; i <= 8; ++i) world.go(0, 0x1000 + i * 8192);
    CHECK_EQ(world.latency(0, 0x1000), 40U);
    CHECK_EQ(world.counters[0].llc_misses, 13U);
}

TEST(fetches_and_data_have_their_own_first_level) {
    World world(1);
    CHECK_EQ(world.latency(0, 0x40, AccessKind::Fetch), 200U);
    CHECK_EQ(world.latency(0, 0x40), 10U);
    CHECK_EQ(world.latency(0, 0x40, AccessKind::Fetch), 4U);
    CHECK_EQ(world.counters[0].l1i_accesses, 2U);
    CHECK_EQ(world.counters[0].l1d_accesses, 1U);
}

TEST(a_read_of_a_written_line_is_a_transfer) {
    World world(2);
    world.go(0, 0x40, kWrite);
    const CacheResult read = world.go(1, 0x40);
    CHECK(read.served == Served::Llc);
    CHECK_EQ(read.latency, 60U);
    CHECK_EQ(world.counters[1].cache_transfers, 1U);
    CHECK_EQ(world.latency(0, 0x40), 4U);  // it keeps a copy to read
}

TEST(a_read_of_a_clean_line_comes_from_the_llc) {
    World world(2);
    world.go(0, 0x40);
    CHECK_EQ(world.latency(1, 0x40), 40U);
    CHECK_EQ(world.counters[1].cache_transfers, 0U);
}

TEST(a_write_takes_the_line_from_all_others) {
    World world(3);
    for (unsigned core = 0; core < 3; ++core) world.go(core, 0x40);
    CHECK_EQ(world.latency(0, 0x40, kWrite), 4U + 40);  // an upgrade asks the directory
    CHECK_EQ(world.counters[0].cache_invalidations, 2U);
    CHECK_EQ(world.latency(0, 0x40, kWrite), 4U);
    CHECK_EQ(world.latency(2, 0x40), 60U);
    CHECK_EQ(world.latency(0, 0x40, kWrite), 4U + 40);  // its right to write is gone
    CHECK_EQ(world.counters[0].cache_invalidations, 3U);
}

TEST(a_lone_reader_writes_without_asking) {
    World world(2);
    world.go(0, 0x40);
    CHECK_EQ(world.latency(0, 0x40, kWrite), 4U);
    CHECK_EQ(world.latency(1, 0x40), 60U);
}

TEST(a_write_miss_invalidates_the_owner) {
    World world(2);
    world.go(0, 0x40, kWrite);
    CHECK_EQ(world.latency(1, 0x40, kWrite), 60U);
    CHECK_EQ(world.counters[1].cache_invalidations, 1U);
    CHECK_EQ(world.latency(0, 0x40), 60U);
}

TEST(what_leaves_the_llc_leaves_every_core) {
    World world(2);
    world.go(0, 0);
    world.go(1, 0);
    // Sixteen more lines of its LLC set (1024 sets), by core 1; core 0 had it in L1 all the time.
    for (std::uint64_t i = 1; i <= 16; ++i) world.go(1, i * 65536);
    CHECK(world.go(0, 0).served == Served::Dram);
}

TEST(without_an_llc_cores_are_coherent_too) {
    World world(2, kNoLlc);
    world.go(0, 0x40, kWrite);
    CHECK_EQ(world.latency(1, 0x40), 60U);
    CHECK_EQ(world.latency(0, 0x40, kWrite), 4U + 60);
    CHECK(world.go(1, 0x40).latency == 60U);
    CHECK(world.go(1, 0x8040).served == Served::Dram);
}

TEST(without_an_l2_first_levels_go_to_the_llc) {
    World world(1, {{"cache.l2.bytes", std::int64_t{0}}});
    CHECK_EQ(world.latency(0, 0x40), 200U);
    for (std::uint64_t i = 1; i <= 4; ++i) world.go(0, 0x40 + i * 1024);
    CHECK_EQ(world.latency(0, 0x40), 40U);
    CHECK_EQ(world.counters[0].l2_accesses, 0U);
}

TEST(one_core_alone_or_among_others_is_served_alike) {
    World alone(1);
    World among(4);
    std::mt19937_64 random(3);
    for (int step = 0; step < 50000; ++step) {
        const std::uint64_t address = random() % (4 << 20);
        const AccessKind kind = static_cast<AccessKind>(random() % 4);
        const CacheResult one = alone.go(0, address, kind);
        const CacheResult two = among.go(0, address, kind);
        CHECK(one.served == two.served && one.latency == two.latency);
    }
    CHECK_EQ(alone.counters[0].llc_misses, among.counters[0].llc_misses);
}

TEST(too_many_cores_are_refused) {
    CHECK_THROWS(World(65), std::invalid_argument, "64");
    CHECK_THROWS(World(1, {{"cache.l2.ways", std::int64_t{3}}}), std::invalid_argument,
                 "cache.l2.bytes");
}

TEST(tags_behave_as_lists_in_order_of_use) {
    // given 15 ways x 4 sets with a word beside each line, and 4 lists
    TagArray tags("tags", 60, 15, true);
    std::map<std::uint64_t, std::list<std::uint64_t>> sets;
    std::mt19937_64 random(11);
    for (int step = 0; step < 50000; ++step) {
        const std::uint64_t line = random() % 90;
        auto& set = sets[line % 4];
        const bool held = std::find(set.begin(), set.end(), line) != set.end();
        if (random() % 20 == 0) {
            tags.erase(line);
            set.remove(line);
            CHECK(tags.peek(line) == nullptr);
            continue;
        }
        CHECK_EQ(tags.peek(line) != nullptr, held);
        if (tags.find(line)) {
            CHECK_EQ(tags.front_payload(line), line * 7);
            set.remove(line);
        } else {
            const auto evicted = tags.insert(line, LineState::Shared);
            tags.front_payload(line) = line * 7;
            CHECK_EQ(evicted.has_value(), set.size() == 15);
            if (set.size() == 15) {
                CHECK_EQ(evicted->line, set.back());
                CHECK_EQ(evicted->payload, set.back() * 7);
                set.pop_back();
            }
        }
        set.push_front(line);
    }
}
