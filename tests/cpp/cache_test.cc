// Caches: where accesses are served, exact latencies, coherence.
#include "machine/cache.h"

#include <algorithm>
#include <array>
#include <list>
#include <map>
#include <optional>
#include <random>
#include <set>
#include <utility>

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

// ---- A naive hierarchy: sets are lists, the directory is a set of cores, a core's state of a line
// is kept once, not in each copy.

struct NaiveCache {
    NaiveCache(std::uint64_t lines, std::uint64_t ways_of_set)
        : ways(ways_of_set), sets(lines / ways_of_set) {}
    std::list<std::uint64_t>& set(std::uint64_t line) { return sets[line % sets.size()]; }
    bool present() const { return !sets.empty(); }
    bool holds(std::uint64_t line) {
        return present() && std::count(set(line).begin(), set(line).end(), line) == 1;
    }
    bool touch(std::uint64_t line) {
        if (!holds(line)) return false;
        set(line).remove(line);
        set(line).push_front(line);
        return true;
    }
    std::optional<std::uint64_t> insert(std::uint64_t line) {
        std::optional<std::uint64_t> evicted;
        if (set(line).size() == ways) {
            evicted = set(line).back();
            set(line).pop_back();
        }
        set(line).push_front(line);
        return evicted;
    }
    void erase(std::uint64_t line) {
        if (present()) set(line).remove(line);
    }

    std::size_t ways;
    std::vector<std::list<std::uint64_t>> sets;
};

struct NaiveHierarchy {
    struct Private {
        NaiveCache l1i, l1d, l2;
        std::map<std::uint64_t, LineState> states;
    };

    // L1 4 lines in 2 ways, L2 16 in 4, LLC 64 in 4; latencies and counts as the real one.
    NaiveHierarchy(unsigned count, bool with_l2, bool with_llc, bool inclusive_llc, bool at_l2)
        : cores(count, Private{{4, 2}, {4, 2}, {with_l2 ? 16U : 0U, 4}, {}}),
          llc(with_llc ? 64 : 0, 4),
          inclusive(with_llc && inclusive_llc),
          walker_at_l2(at_l2) {}

    CacheResult access(unsigned id, std::uint64_t line, AccessKind kind, Counters& c) {
        Private& core = cores[id];
        const bool walks = kind == AccessKind::WalkRead || kind == AccessKind::WalkWrite;
        const bool write = kind == AccessKind::Write || kind == AccessKind::WalkWrite;
        const bool fetch = kind == AccessKind::Fetch;
        const bool skip_l1 = walks && walker_at_l2;
        NaiveCache& l1 = fetch ? core.l1i : core.l1d;
        if (!skip_l1) {
            ++(fetch ? c.l1i_accesses : c.l1d_accesses);
            if (l1.touch(line)) return {Served::L1, 4 + (write ? own(id, line, c) : 0)};
            ++(fetch ? c.l1i_misses : c.l1d_misses);
        }
        CacheResult result;
        if (core.l2.present()) ++c.l2_accesses;
        if (core.l2.touch(line)) {
            result = {Served::L2, 10 + (write ? own(id, line, c) : 0)};
        } else {
            if (core.l2.present()) ++c.l2_misses;
            result = outside(id, line, write, c);
            if (core.l2.present()) {
                if (const auto evicted = core.l2.insert(line)) leave(id, *evicted);
            }
        }
        if (!skip_l1) {
            const auto evicted = l1.insert(line);
            if (evicted && !core.l2.present()) drop(id, *evicted);
        }
        return result;
    }

    CacheResult outside(unsigned id, std::uint64_t line, bool write, Counters& c) {
        CacheResult result{Served::Dram, 200};
        if (llc.present()) {
            ++c.llc_accesses;
            if (llc.touch(line)) {
                result = {Served::Llc, 40};
            } else {
                ++c.llc_misses;
                if (const auto evicted = inclusive ? llc.insert(line) : std::nullopt) {
                    for (const unsigned holder : listed[*evicted]) drop(holder, *evicted);
                    listed.erase(*evicted);
                    exclusive.erase(*evicted);
                }
            }
        }
        bool modified = false;
        for (const unsigned other : listed[line]) {
            const auto held = cores[other].states.find(line);
            if (other == id || held == cores[other].states.end()) continue;
            modified |= held->second == LineState::Modified;
            held->second = LineState::Shared;
            // One that wrote it gives it; so does any, where the LLC has no copy.
            if ((modified || result.served == Served::Dram) && !result.transferred) {
                ++c.cache_transfers;
                result = {Served::Llc, 60, true};
            }
        }
        if (write) take_from_others(id, line, c);
        listed[line].insert(id);
        if (!inclusive) {
            if (listed[line].size() == 1) llc.erase(line);
            if (modified && !write) put_in_llc(line);
        }
        exclusive[line] = listed[line].size() == 1;
        cores[id].states[line] = write             ? LineState::Modified
                                 : exclusive[line] ? LineState::Exclusive
                                                   : LineState::Shared;
        return result;
    }
    // A write to a held line; what it takes beyond the hit.
    std::uint64_t own(unsigned id, std::uint64_t line, Counters& c) {
        const LineState before = std::exchange(cores[id].states.at(line), LineState::Modified);
        if (before != LineState::Shared) return 0;
        take_from_others(id, line, c);
        exclusive[line] = true;
        if (inclusive) {
            llc.touch(line);
        } else {
            llc.erase(line);
        }
        return llc.present() ? 40 : 60;
    }
    // The L2 evicts a line.
    void leave(unsigned id, std::uint64_t line) {
        drop(id, line);
        if (inclusive) return;
        listed[line].erase(id);
        put_in_llc(line);
    }
    void put_in_llc(std::uint64_t line) {
        if (llc.present() && !llc.touch(line)) llc.insert(line);
    }
    void take_from_others(unsigned id, std::uint64_t line, Counters& c) {
        for (const unsigned holder : listed[line]) {
            if (holder == id) continue;
            ++c.cache_invalidations;
            drop(holder, line);
        }
        listed[line] = {id};
    }
    void drop(unsigned id, std::uint64_t line) {
        Private& core = cores[id];
        for (NaiveCache* cache : {&core.l1i, &core.l1d, &core.l2}) cache->erase(line);
        core.states.erase(line);
    }

    std::vector<Private> cores;
    NaiveCache llc;
    bool inclusive;
    bool walker_at_l2;
    std::map<std::uint64_t, std::set<unsigned>> listed;
    std::map<std::uint64_t, bool> exclusive;
};

// Random accesses of three cores to 256 lines, a few of them contended, beside the naive hierarchy.
void compare_with_naive(bool with_l2, bool with_llc, bool inclusive, bool walker_at_l2,
                        std::uint64_t seed) {
    const auto bytes = [](std::int64_t lines) { return Parameter(lines * 64); };
    const auto ways = [](std::int64_t n) { return Parameter(n); };
    World world(3, {{"cache.l1i.bytes", bytes(4)},
                    {"cache.l1i.ways", ways(2)},
                    {"cache.l1d.bytes", bytes(4)},
                    {"cache.l1d.ways", ways(2)},
                    {"cache.l2.bytes", bytes(with_l2 ? 16 : 0)},
                    {"cache.l2.ways", ways(4)},
                    {"cache.llc.bytes", bytes(with_llc ? 64 : 0)},
                    {"cache.llc.ways", ways(4)},
                    {"cache.llc.inclusion", std::string(inclusive ? "inclusive" : "non-inclusive")},
                    {"mmu.walker.port", std::string(walker_at_l2 ? "l2" : "l1d")}});
    NaiveHierarchy naive(3, with_l2, with_llc, inclusive, walker_at_l2);
    std::array<std::uint64_t, 3> running{};           // mm of each core
    std::map<std::uint64_t, std::uint64_t> bringers;  // by line
    std::array<unsigned, 2> found{};                  // index: whether another brought it in
    std::vector<Counters> wanted(3);
    std::mt19937_64 random(seed);
    for (int step = 0; step < 60000; ++step) {
        const auto core = static_cast<unsigned>(random() % 3);
        const std::uint64_t line = random() % 2 == 0 ? random() % 8 : random() % 256;
        auto kind = static_cast<AccessKind>(random() % 5);
        // Without an L2, copies in L1I and L1D are the only ones, and each has its own state.
        if (!with_l2 && kind == AccessKind::Fetch) kind = AccessKind::Read;
        if (random() % 8 == 0) {  // a switch to an mm, which may run elsewhere too
            running[core] = 1 + random() % 4;
            world.hierarchy.set_bringer(core, running[core]);
        }
        const CacheResult got = world.go(core, line * 64 + random() % 64, kind);
        const CacheResult want = naive.access(core, line, kind, wanted[core]);
        CHECK(got.served == want.served);
        CHECK(got.transferred == want.transferred);
        CHECK_EQ(got.latency, want.latency);
        if (want.served == Served::Dram) bringers[line] = running[core];
        const bool another = bringers.at(line) != running[core];
        CHECK_EQ(world.hierarchy.brought_by_another(core, PhysAddr(line * 64)), another);
        ++found[another ? 1 : 0];
        if (check::failures_in_test != 0) return;
    }
    CHECK(found[0] > 10000);
    CHECK(found[1] > 10000);
    for (unsigned core = 0; core < 3; ++core) {
#define PTSHARE_SAME(field, name) CHECK_EQ(world.counters[core].field, wanted[core].field);
        PTSHARE_COUNTERS(PTSHARE_SAME)
#undef PTSHARE_SAME
        // The comparison met what it is for.
        CHECK(wanted[core].cache_transfers > 100 || !with_l2);
        CHECK(wanted[core].cache_invalidations > 1000);
    }
}

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

TEST(a_walker_enters_at_its_port) {
    for (const bool at_l2 : {false, true}) {
        World world(1, {{"mmu.walker.port", std::string(at_l2 ? "l2" : "l1d")}});
        CHECK_EQ(world.latency(0, 0x40, AccessKind::WalkRead), 200U);
        const CacheResult again = world.go(0, 0x40, AccessKind::WalkRead);
        CHECK(again.served == (at_l2 ? Served::L2 : Served::L1));
        CHECK_EQ(again.latency, at_l2 ? 10U : 4U);
        CHECK_EQ(world.counters[0].l1d_accesses, at_l2 ? 0U : 2U);
        CHECK_EQ(world.counters[0].l2_accesses, at_l2 ? 2U : 1U);
        // Data finds what the walker left.
        CHECK_EQ(world.latency(0, 0x40), at_l2 ? 10U : 4U);
    }
}

TEST(a_line_belongs_to_whom_memory_gave_it_last) {
    for (const bool with_llc : {true, false}) {
        World world(2, with_llc ? Values{} : kNoLlc);
        const auto another = [&](unsigned core) {
            return world.hierarchy.brought_by_another(core, PhysAddr(0x40));
        };
        world.hierarchy.set_bringer(0, 7);
        world.hierarchy.set_bringer(1, 8);
        world.go(0, 0x40, kWrite);
        CHECK(!another(0));
        // Core 1 takes the line from core 0: still 7's, also once 8 has a copy of its own.
        CHECK_EQ(world.latency(1, 0x40), 60U);
        CHECK_EQ(world.latency(1, 0x40), 4U);
        CHECK(another(1));
        // It is the mm that counts, not the core.
        world.hierarchy.set_bringer(1, 7);
        CHECK(!another(1));
        world.hierarchy.set_bringer(0, 8);
        CHECK(another(0));
    }
    // given that line gone from all caches, who reads it next brings it in
    World world(1);
    world.hierarchy.set_bringer(0, 7);
    world.go(0, 0);
    for (std::uint64_t i = 1; i <= 16; ++i) world.go(0, i * 65536);
    world.hierarchy.set_bringer(0, 8);
    CHECK(world.go(0, 0).served == Served::Dram);
    CHECK(!world.hierarchy.brought_by_another(0, PhysAddr(0)));
    CHECK(world.hierarchy.brought_by_another(0, PhysAddr(16 * 65536)));
}

TEST(a_write_that_hits_l2_asks_the_directory_too) {
    // given a line that two cores read, and that left the writer's L1D for its L2
    World world(2);
    world.go(1, 0x1000);
    for (std::uint64_t i = 0; i <= 4; ++i) world.go(0, 0x1000 + i * 1024);
    const CacheResult write = world.go(0, 0x1000, kWrite);
    CHECK(write.served == Served::L2);
    CHECK_EQ(write.latency, 10U + 40);
    CHECK_EQ(world.counters[0].cache_invalidations, 1U);
    CHECK_EQ(world.latency(1, 0x1000), 60U);
}

TEST(a_written_line_is_transferred_from_l2_too_and_once) {
    // given a line written by core 0 that left its L1D
    World world(3);
    for (std::uint64_t i = 0; i <= 4; ++i) world.go(0, 0x1000 + i * 1024, kWrite);
    // when the others read it, then the first takes it from core 0, the second from the LLC
    CHECK_EQ(world.latency(1, 0x1000), 60U);
    CHECK_EQ(world.latency(2, 0x1000), 40U);
    CHECK_EQ(world.counters[1].cache_transfers, 1U);
    CHECK_EQ(world.counters[2].cache_transfers, 0U);
    CHECK_EQ(world.counters[1].cache_invalidations, 0U);
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

TEST(three_cores_are_served_as_by_a_naive_hierarchy) {
    compare_with_naive(true, true, true, false, 1);
    compare_with_naive(true, true, true, true, 2);
    compare_with_naive(true, false, true, false, 3);
    compare_with_naive(false, true, true, false, 4);
    compare_with_naive(true, true, false, false, 5);
    compare_with_naive(true, true, false, true, 6);
}

const Values kNonInclusive{{"cache.llc.inclusion", std::string("non-inclusive")}};

TEST(a_non_inclusive_llc_is_filled_with_what_l2_evicts) {
    World world(2, kNonInclusive);
    world.go(0, 0x1000);
    // Memory gave it to core 0 alone, so core 0 gives it to core 1.
    const CacheResult read = world.go(1, 0x1000);
    CHECK(read.served == Served::Llc && read.transferred);
    CHECK_EQ(read.latency, 60U);
    // Eight lines of the same L2 set (128 sets) push it out of core 0's L2: into the LLC.
    for (std::uint64_t i = 1; i <= 8; ++i) world.go(0, 0x1000 + i * 8192);
    const CacheResult again = world.go(0, 0x1000);
    CHECK(again.served == Served::Llc && !again.transferred);
    CHECK_EQ(again.latency, 40U);
    // Core 1 has it still, so that a copy stays in the LLC; a write takes it from both.
    CHECK_EQ(world.latency(0, 0x1000, kWrite), 4U + 40);
    CHECK_EQ(world.counters[0].cache_invalidations, 1U);
    CHECK_EQ(world.latency(1, 0x1000), 60U);
}

TEST(a_line_that_one_core_takes_from_a_non_inclusive_llc_leaves_it) {
    World world(1, kNonInclusive);
    for (std::uint64_t i = 0; i <= 8; ++i) world.go(0, 0x1000 + i * 8192);
    CHECK_EQ(world.latency(0, 0x1000), 40U);
    // It is in the L2 now, and its place in the LLC went to what the L2 evicted: all nine lines
    // are in one or the other, none comes from memory again.
    for (std::uint64_t i = 0; i <= 8; ++i) {
        CHECK(world.go(0, 0x1000 + i * 8192).served != Served::Dram);
    }
}

TEST(what_leaves_a_non_inclusive_llc_stays_with_the_cores) {
    // given a line that both cores hold and the LLC has, as one wrote it and the other read it
    World world(2, kNonInclusive);
    world.go(0, 0, kWrite);
    world.go(1, 0);
    // when many more lines of its LLC set (1024 sets) come by there: core 1 evicts them
    for (std::uint64_t i = 1; i <= 40; ++i) world.go(1, i * 65536);
    // then core 0 has it in its L1
    CHECK_EQ(world.latency(0, 0), 4U);
}

TEST(cores_whose_lines_fit_their_l2_do_not_disturb_each_other) {
    // given more L2 than LLC: eight cores of 64 KiB, an LLC of 256 KiB
    for (const bool inclusive : {true, false}) {
        Values changes{{"cache.llc.bytes", std::int64_t{1 << 18}}};
        if (!inclusive) changes.insert(kNonInclusive.begin(), kNonInclusive.end());
        World world(8, changes);
        const auto round = [&] {
            for (std::uint64_t line = 0; line < 60 << 4; ++line) {
                for (unsigned core = 0; core < 8; ++core) {
                    world.go(core, (std::uint64_t{core} << 20) + line * 64);
                }
            }
        };
        round();
        for (Counters& counters : world.counters) counters = {};
        round();
        for (const Counters& counters : world.counters) {
            CHECK(inclusive ? counters.l2_misses > 900 : counters.l2_misses == 0);
        }
    }
}

TEST(an_llc_that_nothing_would_fill_is_refused) {
    Values changes = kNonInclusive;
    changes.insert({"cache.l2.bytes", std::int64_t{0}});
    CHECK_THROWS(World(1, changes), std::invalid_argument, "cache.llc.inclusion");
}

TEST(a_directory_finds_what_was_put_in_and_not_erased) {
    Directory directory;
    std::map<std::uint64_t, std::uint64_t> wanted;
    std::mt19937_64 random(9);
    for (int step = 0; step < 200000; ++step) {
        // Lines of few residues, so that many want the same places.
        const std::uint64_t line = random() % 64 + (random() % 64 << 40);
        Directory::Entry* entry = directory.find(line);
        CHECK_EQ(entry != nullptr, wanted.count(line) == 1);
        if (entry && random() % 2 == 0) {
            CHECK_EQ(entry->present, wanted.at(line));
            directory.erase(entry);
            wanted.erase(line);
        } else if (!entry) {
            directory.insert(line).present = wanted[line] = random();
        }
        CHECK_EQ(directory.size(), wanted.size());
        if (check::failures_in_test != 0) return;
    }
}

TEST(what_makes_no_hierarchy_is_refused) {
    CHECK_THROWS(World(65), std::invalid_argument, "64");
    CHECK_THROWS(World(0), std::invalid_argument, "cores");
    CHECK_THROWS(World(1, {{"cache.line_bytes", std::int64_t{48}}}), std::invalid_argument,
                 "cache.line_bytes");
    CHECK_THROWS(World(1, {{"cache.l1d.bytes", std::int64_t{0}}}), std::invalid_argument,
                 "cache.l1d.bytes");
    // Half a line is no cache, nor is a cache of half lines.
    CHECK_THROWS(World(1, {{"cache.l1i.bytes", std::int64_t{32}}}), std::invalid_argument,
                 "cache.l1i.bytes");
    CHECK_THROWS(World(1, {{"cache.llc.bytes", std::int64_t{(1 << 20) + 1}}}),
                 std::invalid_argument, "cache.llc.bytes");
    CHECK_THROWS(World(1, {{"cache.l2.ways", std::int64_t{3}}}), std::invalid_argument,
                 "cache.l2.bytes");
}

struct Evicted {
    std::uint64_t line;
    LineState state;
    std::uint64_t payload;
};

auto noting(std::optional<Evicted>& evicted) {
    return [&](std::uint64_t line, LineState state, std::uint64_t payload) {
        evicted = Evicted{line, state, payload};
    };
}

TEST(an_evicted_line_comes_back_with_state_and_word) {
    // given 2 sets x 2 ways; lines 1, 3 and 5 belong to set 1
    TagArray tags("tags", 4, 2, true);
    const auto put = [&](std::uint64_t line, LineState state) {
        std::optional<Evicted> evicted;
        const TagArray::Place place = tags.insert(line, state, noting(evicted));
        CHECK_EQ(tags.payload(place), 0U);
        tags.payload(place) = 11 * line;
        return evicted;
    };
    CHECK(!put(1, LineState::Shared));
    CHECK(!put(3, LineState::Exclusive));
    CHECK(!put(2, LineState::Shared));
    tags.find(1).set_state(LineState::Modified);
    CHECK(tags.peek(3).state() == LineState::Exclusive);
    // when a third comes, then line 3 goes, which was used least recently
    const auto first = put(5, LineState::Shared);
    CHECK_EQ(first->line, 3U);
    CHECK(first->state == LineState::Exclusive);
    CHECK_EQ(first->payload, 33U);
    // A look does not change the order: line 1 is the next.
    CHECK(tags.peek(1).state() == LineState::Modified);
    const auto second = put(3, LineState::Shared);
    CHECK_EQ(second->line, 1U);
    CHECK(second->state == LineState::Modified);
    CHECK_EQ(second->payload, 11U);
    // An erased place is filled before another line goes.
    tags.erase(5);
    CHECK(!put(7, LineState::Shared));
    CHECK(tags.peek(3) && tags.peek(2) && !tags.peek(5));
}

TEST(tags_that_make_no_sets_are_refused) {
    CHECK_THROWS(TagArray("tags", 60, 5), std::invalid_argument, "tags: 60 lines in 5 ways");
    CHECK_THROWS(TagArray("tags", 4, 0), std::invalid_argument, "tags");
    CHECK_THROWS(TagArray("tags", 4, 8), std::invalid_argument, "tags");
    CHECK_THROWS(TagArray("tags", 129, 129), std::invalid_argument, "tags: more than 128 ways");
    TagArray none("tags", 0, 4);
    none.erase(1);
    CHECK(!none.present() && !none.peek(1));
}

TEST(tags_behave_as_lists_in_order_of_use) {
    // given 4 sets with a word beside each line, and 4 lists
    for (const std::uint64_t ways : {1, 2, 4, 8, 12, 15, 16, 17, 40, 128}) {
        TagArray tags("tags", 4 * ways, ways, true);
        std::map<std::uint64_t, std::list<std::uint64_t>> sets;
        std::mt19937_64 random(11);
        for (int step = 0; step < 20000; ++step) {
            const std::uint64_t line = random() % (6 * ways);
            auto& set = sets[line % 4];
            const bool held = std::find(set.begin(), set.end(), line) != set.end();
            if (random() % 20 == 0) {
                CHECK_EQ(tags.erase(line), held);
                set.remove(line);
                CHECK(!tags.peek(line));
                continue;
            }
            CHECK_EQ(static_cast<bool>(tags.peek(line)), held);
            if (const TagArray::Place place = tags.find(line)) {
                CHECK_EQ(tags.payload(place), line * 7);
                set.remove(line);
            } else {
                std::optional<Evicted> evicted;
                tags.payload(tags.insert(line, LineState::Shared, noting(evicted))) = line * 7;
                CHECK_EQ(evicted.has_value(), set.size() == ways);
                if (set.size() == ways) {
                    CHECK_EQ(evicted->line, set.back());
                    CHECK_EQ(evicted->payload, set.back() * 7);
                    set.pop_back();
                }
            }
            set.push_front(line);
        }
    }
}
