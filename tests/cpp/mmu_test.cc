// TLBs, walk caches and the walker: what is held, and exact cycles of translations.
#include "engine/mmu.h"

#include <algorithm>
#include <list>
#include <map>
#include <random>

#include "check.h"
#include "parameters.h"

using namespace ptshare;
using namespace ptshare::engine;

namespace {

// Hand-made tables: an entry by physical address.
struct Tables final : TableMemory {
    std::map<std::uint64_t, Pte> entries;

    Pte read_entry(PhysAddr address) const override {
        const auto it = entries.find(address.value);
        return it == entries.end() ? Pte() : it->second;
    }
    void set_entry_bits(PhysAddr address, std::uint64_t bits) override {
        entries[address.value] = entries[address.value].with(bits);
    }
    void put(Pfn table, std::uint64_t index, Pte entry) {
        entries[address_of(table).value + 8 * index] = entry;
    }
};

constexpr std::uint64_t kTable = Pte::kPresent | Pte::kWrite | Pte::kUser;
constexpr std::uint64_t kReadOnly = Pte::kPresent | Pte::kUser | Pte::kNoExecute;
constexpr std::uint64_t kReadWrite = kReadOnly | Pte::kWrite;

// Frames 1 to 4 hold PGD, PUD, PMD and PTE table; page 0 to 15 of address 0 map frames 100 up.
struct World {
    explicit World(const Values& changes = {})
        : params(small_machine(changes)), hierarchy(params, 1), mmu(params, 0, hierarchy, tables) {
        tables.put(Pfn(1), 0, Pte::make(Pfn(2), kTable));
        tables.put(Pfn(2), 0, Pte::make(Pfn(3), kTable));
        tables.put(Pfn(3), 0, Pte::make(Pfn(4), kTable));
        for (std::uint64_t i = 0; i < 16; ++i) {
            tables.put(Pfn(4), i, Pte::make(Pfn(100 + i), kReadWrite));
        }
    }
    Translation go(std::uint64_t address, Access access = Access::Read) {
        return mmu.translate(VirtAddr(address), access, context, counters);
    }
    Pte leaf(std::uint64_t index) const {
        return tables.read_entry(PhysAddr(address_of(Pfn(4)).value + 8 * index));
    }

    Params params;
    Tables tables;
    Hierarchy hierarchy;
    Mmu mmu;
    MmuContext context{Pfn(1), 1};
    Counters counters;
};

constexpr std::uint64_t kMemory = 200 + 1;  // one PTE read from memory, with the walker's step
constexpr std::uint64_t kL1 = 4 + 1;

}  // namespace

TEST(a_cold_walk_reads_four_entries_from_memory) {
    World world;
    const Translation result = world.go(0x1234);
    CHECK(result.ok);
    CHECK_EQ(result.address.value, (101ULL << 12) + 0x234);
    CHECK_EQ(result.tlb_cycles, 7U);
    CHECK_EQ(result.walk_cycles, 4 * kMemory);
    CHECK_EQ(world.counters.walk_cycles, 4 * kMemory);
    CHECK_EQ(world.counters.walks_data, 1U);
    CHECK_EQ(world.counters.pwc_misses, 1U);
    for (const Level level : {Level::Pte, Level::Pmd, Level::Pud, Level::Pgd}) {
        CHECK_EQ(world.counters.pte_reads[index_of(level)][3], 1U);
    }
    CHECK_EQ(world.counters.pte_reads[index_of(Level::P4d)][3], 0U);
    CHECK(world.leaf(1).accessed());
    CHECK(!world.leaf(1).dirty());
}

TEST(a_second_page_of_the_table_reads_one_warm_entry) {
    World world;
    world.go(0x0000);
    const Translation result = world.go(0x1000);
    CHECK_EQ(result.walk_cycles, kL1);  // entry 1 lies in the line of entry 0
    CHECK_EQ(world.counters.pwc_pmd_hits, 1U);
    CHECK_EQ(world.go(0x8000).walk_cycles, kMemory);  // entry 8 lies in the next line
}

TEST(without_walk_caches_every_walk_reads_all_levels) {
    World world({{"mmu.walk_cache.pmd_entries", std::int64_t{0}},
                 {"mmu.walk_cache.pud_entries", std::int64_t{0}},
                 {"mmu.walk_cache.p4d_entries", std::int64_t{0}},
                 {"mmu.walk_cache.pgd_entries", std::int64_t{0}}});
    world.go(0x0000);
    CHECK_EQ(world.go(0x1000).walk_cycles, 4 * kL1);
    CHECK_EQ(world.counters.pwc_misses, 0U);
}

TEST(a_walker_at_l2_skips_l1) {
    World world({{"mmu.walker.port", std::string("l2")}});
    world.go(0x0000);
    CHECK_EQ(world.go(0x1000).walk_cycles, 10U + 1);
    CHECK_EQ(world.counters.l1d_accesses, 0U);
    CHECK_EQ(world.counters.pte_reads[0][1], 1U);
}

TEST(hits_cost_nothing_in_l1_and_their_latency_in_the_second_level) {
    World world;
    for (std::uint64_t page = 0; page < 9; ++page) world.go(page << 12);
    // Nine pages in eight places: page 0 was the least recently used.
    CHECK_EQ(world.go(0x1000).tlb_cycles, 0U);
    const Translation second = world.go(0x0000);
    CHECK(second.ok);
    CHECK_EQ(second.tlb_cycles, 7U);
    CHECK_EQ(second.walk_cycles, 0U);
    CHECK_EQ(world.go(0x0000).tlb_cycles, 0U);
    CHECK_EQ(world.counters.dtlb_accesses, 12U);
    CHECK_EQ(world.counters.dtlb_misses, 10U);
    CHECK_EQ(world.counters.stlb_misses, 9U);
    CHECK_EQ(world.counters.walks_data, 9U);
}

TEST(a_first_write_through_a_clean_entry_walks_again) {
    World world;
    world.go(0x2000);
    const Translation write = world.go(0x2000, Access::Write);
    CHECK(write.ok);
    CHECK_EQ(write.walk_cycles, 4 * kL1);  // the entry's walk-cache entries went with it
    CHECK_EQ(world.counters.walks_dirty, 1U);
    CHECK_EQ(world.counters.walks_data, 1U);
    CHECK(world.leaf(2).dirty());
    CHECK_EQ(world.go(0x2000, Access::Write).walk_cycles, 0U);
}

TEST(a_missing_page_faults_and_is_never_kept) {
    World world;
    CHECK(!world.go(0x10000).ok);
    CHECK_EQ(world.counters.walks_faulted, 1U);
    world.tables.put(Pfn(4), 16, Pte::make(Pfn(200), kReadWrite));
    const Translation again = world.go(0x10000);
    CHECK(again.ok);
    CHECK_EQ(again.walk_cycles, kL1);
}

TEST(a_forbidden_access_faults_by_what_the_tables_say) {
    World world;
    world.tables.put(Pfn(4), 3, Pte::make(Pfn(103), kReadOnly));
    CHECK(world.go(0x3000).ok);
    CHECK(!world.go(0x3000, Access::Write).ok);
    CHECK(!world.go(0x3000, Access::Fetch).ok);
    // The right is given, and no flush is needed to use it.
    world.tables.put(Pfn(4), 3, Pte::make(Pfn(103), kReadWrite));
    CHECK(world.go(0x3000, Access::Write).ok);
}

TEST(pcids_keep_address_spaces_apart) {
    World world;
    world.go(0x0000);
    world.context.pcid = 2;
    CHECK_EQ(world.go(0x0000).walk_cycles, 4 * kL1);
    CHECK_EQ(world.mmu.flush_pcid(1), 2U);  // in the D-TLB and in the second level
    CHECK_EQ(world.go(0x0000).walk_cycles, 0U);
    world.context.pcid = 1;
    CHECK_EQ(world.go(0x0000).walk_cycles, 4 * kL1);
    CHECK_EQ(world.mmu.flush_all(), 4U);
}

TEST(a_flushed_range_is_walked_again) {
    World world;
    for (std::uint64_t page = 0; page < 4; ++page) world.go(page << 12);
    CHECK_EQ(world.mmu.flush_range(1, VirtAddr(0x1000), VirtAddr(0x3000)), 4U);
    CHECK_EQ(world.go(0x0000).walk_cycles + world.go(0x3000).walk_cycles, 0U);
    CHECK_EQ(world.go(0x1000).walk_cycles, 4 * kL1);  // INVLPG emptied the walk caches too
    CHECK_EQ(world.go(0x2000).walk_cycles, kL1);
}

TEST(a_large_leaf_ends_the_walk_at_the_pmd) {
    World world;
    world.tables.put(Pfn(3), 1, Pte::make(Pfn(512), kReadWrite | Pte::kLarge));
    const Translation result = world.go((2ULL << 20) + 0x12345);
    CHECK_EQ(result.address.value, (512ULL << 12) + 0x12345);
    CHECK_EQ(result.walk_cycles, 3 * kMemory);
    CHECK_EQ(world.go((4ULL << 20) - 1).walk_cycles, 0U);
    CHECK_EQ(world.counters.dtlb_misses, 1U);
}

TEST(five_levels_read_five_entries) {
    World world({{"mmu.levels", std::int64_t{5}}});
    world.tables.put(Pfn(9), 0, Pte::make(Pfn(1), kTable));
    world.context.root = Pfn(9);
    CHECK_EQ(world.go(0x0000).walk_cycles, 5 * kMemory);
    CHECK_EQ(world.counters.pte_reads[index_of(Level::P4d)][3], 1U);
    CHECK_EQ(world.counters.pte_reads[index_of(Level::Pgd)][3], 1U);
}

TEST(bad_geometry_names_the_parameter) {
    CHECK_THROWS(
        World({{"mmu.stlb.entries", std::int64_t{60}}, {"mmu.stlb.ways", std::int64_t{5}}}),
        std::invalid_argument, "mmu.stlb.entries");
    CHECK_THROWS(World({{"mmu.levels", std::int64_t{3}}}), std::invalid_argument, "mmu.levels");
    CHECK_THROWS(World({{"mmu.walker.port", std::string("l3")}}), std::invalid_argument,
                 "mmu.walker.port");
}

TEST(an_array_behaves_as_lists_in_order_of_use) {
    // given an array of 8 sets x 5 ways, and 8 lists
    SetAssociative<std::uint64_t> array("array", 40, 5);
    std::map<std::uint64_t, std::list<std::uint64_t>> sets;
    std::mt19937_64 random(7);
    for (int step = 0; step < 50000; ++step) {
        const std::uint64_t key = random() % 100;
        auto& set = sets[key % 8];
        const bool held = std::find(set.begin(), set.end(), key) != set.end();
        if (random() % 20 == 0) {
            CHECK_EQ(array.erase(key, key), held);
            set.remove(key);
            continue;
        }
        const std::uint64_t* found = array.find(key, key);
        CHECK_EQ(found != nullptr, held);
        if (held) {
            CHECK_EQ(*found, key * 3);
            set.remove(key);
        } else {
            const auto evicted = array.insert(key, key, key * 3);
            CHECK_EQ(evicted.has_value(), set.size() == 5);
            if (set.size() == 5) {
                CHECK_EQ(evicted->first, set.back());
                set.pop_back();
            }
        }
        set.push_front(key);
    }
}
