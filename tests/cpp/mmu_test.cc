// TLBs, walk caches and the walker: what is held, and exact cycles of translations.
#include "machine/mmu.h"

#include <algorithm>
#include <array>
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

// As kernels make them: a new page is young (A set).
constexpr std::uint64_t kTable = Pte::kPresent | Pte::kWrite | Pte::kUser | Pte::kAccessed;
constexpr std::uint64_t kReadOnly = Pte::kPresent | Pte::kUser | Pte::kNoExecute | Pte::kAccessed;
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
constexpr std::uint64_t kLock = 3;  // an entry's A or D is set, in a line that nobody else has

// What must hold between counters after any accesses, from the sums of what translate() returned.
void check_identities(const Counters& c, std::uint64_t tlb_cycles, std::uint64_t walk_cycles) {
    CHECK_EQ(c.itlb_misses + c.dtlb_misses, c.stlb_accesses);
    CHECK_EQ(tlb_cycles, 7 * c.stlb_accesses);
    CHECK_EQ(walk_cycles, c.walk_cycles);
    CHECK_EQ(c.pwc_pmd_hits + c.pwc_pud_hits + c.pwc_p4d_hits + c.pwc_pgd_hits + c.pwc_misses,
             c.walks_data + c.walks_fetch + c.walks_dirty);
    // Every read costs its place and the step.
    constexpr std::array<std::uint64_t, kServedPlaces> latencies{4, 10, 40, 200};
    std::uint64_t cycles = 0;
    std::uint64_t reads = 0;
    for (const auto& level : c.pte_reads) {
        for (unsigned place = 0; place < kServedPlaces; ++place) {
            cycles += level[place] * (latencies[place] + 1);
            reads += level[place];
        }
    }
    CHECK_EQ(cycles + kLock * c.walk_stores, c.walk_cycles);
    std::uint64_t walks = 0;
    for (const std::uint64_t count : c.walk_latency) walks += count;
    CHECK_EQ(walks, c.walks_data + c.walks_fetch + c.walks_dirty);
    CHECK_EQ(reads + c.walk_stores, c.l1d_accesses);  // nobody else used the caches
}
// Entries that the walk of an access reads.
std::uint64_t entries_read(World& world, std::uint64_t at) {
    const Counters before = world.counters;
    world.go(at);
    const std::uint64_t stores = world.counters.walk_stores - before.walk_stores;
    return world.counters.l1d_accesses - before.l1d_accesses - stores;
}
std::uint64_t reads_of(const Counters& c, Level level) {
    const auto& places = c.pte_reads[index_of(level)];
    return places[0] + places[1] + places[2] + places[3];
}

}  // namespace

TEST(walks_are_counted_by_their_cycles) {
    CHECK_EQ(walk_latency_bound(0), 0U);
    CHECK_EQ(walk_latency_bound(1), 8U);
    CHECK_EQ(walk_latency_bound(kWalkLatencies - 1), 2048U);
    Counters counters;
    for (unsigned i = 0; i < kWalkLatencies; ++i) {
        const Counters before = counters;
        count_walk_time(counters, walk_latency_bound(i));
        count_walk_time(counters, i + 1 < kWalkLatencies ? walk_latency_bound(i + 1) - 1 : 1 << 30);
        CHECK_EQ(counters.walk_latency[i], before.walk_latency[i] + 2);
    }
}

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
    CHECK(!world.leaf(1).dirty());
    CHECK_EQ(world.counters.walk_stores, 0U);
}

TEST(what_a_walk_sets_is_a_locked_store_to_the_entry_s_line) {
    // given an old page, whose entry's line two cores have read
    const Params params = small_machine();
    World world;
    Hierarchy caches(params, 2);
    Mmu first(params, 0, caches, world.tables);
    Mmu second(params, 1, caches, world.tables);
    world.tables.put(Pfn(4), 2, Pte::make(Pfn(102), kReadWrite & ~Pte::kAccessed));
    Counters one;
    Counters two;
    first.translate(VirtAddr(0x1000), Access::Read, world.context, one);
    second.translate(VirtAddr(0x1000), Access::Read, world.context, two);
    // when the first walks to it, then A is set, and the other's copy goes: as data's upgrade
    const Translation read = first.translate(VirtAddr(0x2000), Access::Read, world.context, one);
    CHECK_EQ(read.walk_cycles, kL1 + kLock + 40);
    CHECK(world.leaf(2).accessed() && !world.leaf(2).dirty());
    CHECK_EQ(one.walk_stores, 1U);
    CHECK_EQ(one.cache_invalidations, 1U);
    // then the other's next walk takes the line from the first one's cache
    const Translation other = second.translate(VirtAddr(0x2000), Access::Read, world.context, two);
    CHECK_EQ(other.walk_cycles, 60U + 1);
    CHECK_EQ(two.pte_transfers[index_of(Level::Pte)], 1U);
    CHECK_EQ(two.pte_reads[index_of(Level::Pte)][static_cast<unsigned>(Served::Llc)], 2U);
    CHECK_EQ(two.walk_stores, 0U);
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
    CHECK_EQ(write.walk_cycles, kL1 + kLock);  // the walk caches lead to the entry still
    CHECK_EQ(world.counters.walk_stores, 1U);
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
    CHECK_EQ(again.walk_cycles, 4 * kL1);  // the fault dropped what led to it
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

TEST(fetches_have_their_own_tlb_and_share_the_second_level) {
    World world;
    world.tables.put(Pfn(4), 0, Pte::make(Pfn(100), kTable & ~Pte::kWrite));
    CHECK_EQ(world.go(0x0, Access::Fetch).walk_cycles, 4 * kMemory);
    CHECK_EQ(world.counters.walks_fetch, 1U);
    // The D-TLB does not have it, the second level does.
    const Translation read = world.go(0x0);
    CHECK_EQ(read.tlb_cycles, 7U);
    CHECK_EQ(read.walk_cycles, 0U);
    CHECK_EQ(world.counters.itlb_misses, 1U);
    CHECK_EQ(world.counters.dtlb_misses, 1U);
    CHECK_EQ(world.counters.stlb_misses, 1U);
    CHECK_EQ(world.counters.walks_data, 0U);
}

TEST(an_entry_that_forbids_is_dropped_from_every_array) {
    // given a page that may be read and written, not executed, in the D-TLB and the second level
    World world;
    world.go(0x2000, Access::Write);
    // when it is executed, then the walk decides, and nothing of the page is held after it
    const Translation fetch = world.go(0x2000, Access::Fetch);
    CHECK(!fetch.ok);
    CHECK_EQ(fetch.tlb_cycles, 7U);
    CHECK_EQ(fetch.walk_cycles, kL1);
    CHECK_EQ(world.counters.stlb_misses, 1U);  // of the write alone
    CHECK_EQ(world.counters.walks_faulted, 1U);
    CHECK_EQ(world.mmu.flush_all(), 0U);
}

TEST(a_write_through_the_second_level_walks_for_its_dirty_bit) {
    // given page 0 read, and pushed from the D-TLB to the second level
    World world;
    for (std::uint64_t page = 0; page < 9; ++page) world.go(page << 12);
    const Translation write = world.go(0x0000, Access::Write);
    CHECK_EQ(write.tlb_cycles, 7U);
    CHECK_EQ(write.walk_cycles, kL1 + kLock);
    CHECK_EQ(world.counters.walks_dirty, 1U);
    CHECK_EQ(world.counters.walks_data, 9U);
    CHECK_EQ(world.counters.stlb_misses, 9U);
    CHECK(world.leaf(0).dirty());
    // A write that walks for its translation sets both bits at once.
    CHECK(world.go(0xa000, Access::Write).ok);
    CHECK_EQ(world.counters.walks_dirty, 1U);
    CHECK(world.leaf(10).dirty() && world.leaf(10).accessed());
}

TEST(a_supervisor_page_is_closed_to_users) {
    World world;
    world.tables.put(Pfn(4), 3, Pte::make(Pfn(103), Pte::kPresent | Pte::kWrite));
    CHECK(!world.go(0x3000).ok);
    CHECK(!world.leaf(3).accessed());
}

TEST(a_fault_drops_the_walk_cache_entries_that_its_address_would_use) {
    // given pages of two 1 GiB, whose tables are in the walk caches
    World world;
    const std::uint64_t other = 1ULL << 30;
    world.tables.put(Pfn(2), 1, Pte::make(Pfn(5), kTable));
    world.tables.put(Pfn(5), 0, Pte::make(Pfn(6), kTable));
    world.tables.put(Pfn(6), 0, Pte::make(Pfn(600), kTable));
    world.tables.put(Pfn(6), 1, Pte::make(Pfn(601), kTable));
    world.go(0x0000);
    world.go(other);
    // when a page of the first has none
    CHECK(!world.go(0x10000).ok);
    // then the second's PMD entry is there, and all entries on the way to the first are gone,
    // that of the PGD, which the second would use, too
    CHECK_EQ(entries_read(world, other + 0x1000), 1U);
    CHECK_EQ(entries_read(world, 0x1000), 4U);
    CHECK_EQ(world.counters.pwc_misses, 2U);
    // when a PUD entry is missing, then nothing of its walk is kept
    CHECK(!world.go(5ULL << 30).ok);
    CHECK_EQ(entries_read(world, 5ULL << 30), 2U);
    CHECK_EQ(world.counters.walks_faulted, 3U);
}

TEST(a_flush_of_pages_takes_walk_cache_entries_as_it_is_told) {
    using Entries = TranslationCaches::WalkEntries;
    World world;
    world.tables.put(Pfn(3), 1, Pte::make(Pfn(6), kTable));
    world.tables.put(Pfn(6), 0, Pte::make(Pfn(600), kTable));
    world.tables.put(Pfn(6), 1, Pte::make(Pfn(601), kTable));
    const VirtAddr page(0x1000);
    const std::uint64_t other = kPmdSize;  // a page of another PTE table
    const auto warm = [&] {
        for (const std::uint64_t at : {page.value, other, other + 0x1000}) world.go(at);
        world.mmu.flush_range(1, VirtAddr(other), VirtAddr(other + 0x2000), Entries::Keep);
    };
    const auto flush = [&](Entries entries) {
        warm();
        world.mmu.flush_range(1, page, page + kPageSize, entries);
        const std::uint64_t first = entries_read(world, page.value);
        return std::make_pair(first, entries_read(world, other));
    };
    warm();
    CHECK(flush(Entries::Keep) == std::make_pair(1UL, 1UL));
    // The PUD and PGD entries are those of both.
    CHECK(flush(Entries::Pages) == std::make_pair(4UL, 1UL));
    CHECK(flush(Entries::Pcid) == std::make_pair(4UL, 2UL));
}

TEST(addresses_that_no_table_reaches_fault) {
    // given the page at 0 in the TLB
    World world;
    world.go(0x0000);
    const std::uint64_t accesses = world.counters.dtlb_accesses;
    // then addresses that differ from it only above bit 47 are none of its names
    for (const unsigned bit : {48U, 55U, 59U, 63U}) {
        const Translation result = world.go(1ULL << bit);
        CHECK(!result.ok);
        CHECK_EQ(result.walk_cycles, 0U);  // the processor refuses them before it looks
    }
    CHECK_EQ(world.counters.dtlb_accesses, accesses);
}

TEST(counters_of_reads_and_fetches_add_up) {
    // given pages that permit both, in two PTE tables, far more than the TLBs hold
    World world;
    world.tables.put(Pfn(2), 1, Pte::make(Pfn(5), kTable));
    world.tables.put(Pfn(5), 7, Pte::make(Pfn(6), kTable));
    for (std::uint64_t i = 0; i < 512; ++i) {
        for (const std::uint64_t table : {4, 6}) {
            world.tables.put(Pfn(table), i, Pte::make(Pfn(table * 1000 + i), kTable));
        }
    }
    std::mt19937_64 random(21);
    std::uint64_t tlb_cycles = 0;
    std::uint64_t walk_cycles = 0;
    for (int step = 0; step < 30000; ++step) {
        const std::uint64_t index = random() % (random() % 2 == 0 ? 16 : 512);
        const bool second = random() % 2 == 0;
        const std::uint64_t at = (second ? kPudSize + 7 * kPmdSize : 0) + (index << 12) + 8;
        const Translation result = world.go(at, random() % 3 == 0 ? Access::Fetch : Access::Read);
        CHECK(result.ok);
        CHECK_EQ(result.address.value, ((second ? 6000 : 4000) + index) * kPageSize + 8);
        tlb_cycles += result.tlb_cycles;
        walk_cycles += result.walk_cycles;
    }
    const Counters& c = world.counters;
    check_identities(c, tlb_cycles, walk_cycles);
    // Nothing faulted, and nothing was walked again for a bit or a right.
    const std::uint64_t walks = c.walks_data + c.walks_fetch;
    CHECK_EQ(c.itlb_accesses + c.dtlb_accesses, 30000U);
    CHECK_EQ(c.stlb_misses, walks);
    CHECK_EQ(reads_of(c, Level::Pte), walks);
    CHECK_EQ(reads_of(c, Level::Pmd), walks - c.pwc_pmd_hits);
    CHECK_EQ(reads_of(c, Level::Pud), walks - c.pwc_pmd_hits - c.pwc_pud_hits);
    CHECK_EQ(reads_of(c, Level::Pgd), c.pwc_misses);
    CHECK(c.stlb_misses > 1000 && c.stlb_accesses - c.stlb_misses > 1000);
}

TEST(translations_follow_tables_that_change) {
    // given two address spaces over 64 pages, whose leaves change at random; a change that takes
    // something away is followed by a flush, one that gives is not
    World world;
    world.tables.put(Pfn(11), 0, Pte::make(Pfn(12), kTable));
    world.tables.put(Pfn(12), 0, Pte::make(Pfn(13), kTable));
    world.tables.put(Pfn(13), 0, Pte::make(Pfn(14), kTable));
    std::mt19937_64 random(33);
    std::uint64_t tlb_cycles = 0;
    std::uint64_t walk_cycles = 0;
    std::uint64_t refused = 0;
    for (int step = 0; step < 60000; ++step) {
        const bool second = random() % 2 == 0;
        const Pfn table(second ? 14 : 4);
        world.context = {Pfn(second ? 11 : 1), static_cast<Pcid>(second ? 2 : 1)};
        const std::uint64_t index = random() % 64;
        const VirtAddr at(index << 12);
        const PhysAddr entry(address_of(table).value + 8 * index);
        if (random() % 20 == 0) {
            const Pte old = world.tables.read_entry(entry);
            if (old.present() && random() % 2 == 0) {
                world.tables.put(table, index, old.with(Pte::kWrite).without(Pte::kNoExecute));
                continue;
            }
            const std::uint64_t rights = random() % 4 == 0 ? 0 : Pte::kWrite;
            const std::uint64_t frame = 1000 + random() % 1000;
            world.tables.put(table, index,
                             random() % 4 == 0 ? Pte() : Pte::make(Pfn(frame), kReadOnly | rights));
            switch (random() % 8) {
                case 0:
                    world.mmu.flush_all();
                    break;
                case 1:
                    world.mmu.flush_pcid(world.context.pcid);
                    break;
                default:
                    world.mmu.flush_range(world.context.pcid, at, at + kPageSize);
            }
            continue;
        }
        const auto access = static_cast<Access>(random() % 3);
        const Pte before = world.tables.read_entry(entry);
        const Translation result = world.go(at.value + 16, access);
        const Pte after = world.tables.read_entry(entry);
        tlb_cycles += result.tlb_cycles;
        walk_cycles += result.walk_cycles;
        CHECK_EQ(result.ok, before.permits(access));
        if (!result.ok) {
            ++refused;
            CHECK(after == before);
            continue;
        }
        CHECK_EQ(result.address.value, address_of(before.pfn()).value + 16);
        CHECK(after.accessed());
        CHECK_EQ(after.dirty(), before.dirty() || access == Access::Write);
    }
    check_identities(world.counters, tlb_cycles, walk_cycles);
    CHECK_EQ(world.counters.walks_faulted, refused);
    CHECK(world.counters.walks_dirty > 100);
    CHECK(refused > 1000);
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
