// Page tables: shape, counts, links, freeing, both leaf sizes, four and five levels.
#include "core/tables.h"

#include <map>
#include <random>
#include <utility>
#include <vector>

#include "check.h"

using namespace ptshare;

namespace {

constexpr VirtAddr kAt(0x7f0000200000);  // PMD-aligned; PML4 index 0xfe
constexpr std::uint64_t kLeaf = Pte::kPresent | Pte::kUser;

// What an engine that keeps tables in simulated memory has of them.
struct Mirror final : FrameContents {
    void zero_table(Pfn pfn) override {
        for (std::uint64_t i = 0; i < kEntries; ++i) {
            entries[address_of(pfn).value + i * sizeof(Pte)] = 0;
        }
    }
    void write_entry(PhysAddr at, std::uint64_t bits) override { entries.at(at.value) = bits; }

    std::map<std::uint64_t, std::uint64_t> entries;  // by physical address
};

struct Fixture {
    FrameAllocator frames{64ULL << 20};
    Mirror mirror;
    TableStore store{frames, mirror};
};

Pte leaf(std::uint64_t frame) {
    return Pte::make(Pfn(frame), kLeaf);
}

std::vector<std::pair<VirtAddr, Level>> leaves(const PageTable& table, VirtAddr from, VirtAddr to) {
    std::vector<std::pair<VirtAddr, Level>> list;
    table.for_each_leaf(from, to,
                        [&](VirtAddr at, Pte, Level level) { list.emplace_back(at, level); });
    return list;
}

bool refuses(const std::function<void()>& act) {
    try {
        act();
    } catch (const std::logic_error&) {
        return true;
    }
    return false;
}

}  // namespace

TEST(pte_bits_are_the_manuals) {
    const Pte pte = Pte::make(Pfn(0x12345), Pte::kPresent | Pte::kWrite | Pte::kUser);
    CHECK_EQ(pte.bits(), 0x12345007U);
    CHECK_EQ(Pte(1ULL << 63).executable(), false);
    CHECK_EQ(Pte(1ULL << 5).accessed(), true);
    CHECK_EQ(Pte(1ULL << 6).dirty(), true);
    CHECK_EQ(Pte(1ULL << 7).large(), true);
    CHECK(pte.permits(Access::Write));
    CHECK(!pte.without(Pte::kWrite).permits(Access::Write));
    CHECK(!pte.with(Pte::kNoExecute).permits(Access::Fetch));
    CHECK(!pte.without(Pte::kUser).permits(Access::Read));
    const Pte withdrawn = Pte::make(Pfn(1), Pte::kProtNone);
    CHECK(!withdrawn.none() && !withdrawn.present() && !withdrawn.permits(Access::Read));
}

TEST(table_walks_through_four_levels) {
    Fixture f;
    PageTable table(f.store, Owner::Guest, 4);
    CHECK_EQ(f.store.counts().total(), 1U);
    table.set(kAt, leaf(77));
    // PGD, PUD, PMD, PTE: one page each.
    for (Level level : {Level::Pte, Level::Pmd, Level::Pud, Level::P4d}) {
        CHECK_EQ(table.tables(level), 1U);
    }
    CHECK_EQ(f.store.counts().by_level[index_of(Level::Pgd)], 1U);  // the root is called PGD
    CHECK_EQ(f.store.counts().by_level[index_of(Level::P4d)], 0U);
    CHECK(table.leaf(kAt)->pte.pfn() == Pfn(77));
    CHECK(!table.leaf(kAt + kPageSize));
    // By hand, as hardware does: index 0xfe, 0, 1, 0.
    Pfn at = table.root();
    for (std::uint64_t index : {0xfeU, 0U, 1U}) {
        at = f.store.read_entry(address_of(at) + 8 * index).pfn();
    }
    CHECK(f.store.read_entry(address_of(at)).pfn() == Pfn(77));
    f.store.set_entry_bits(address_of(at), Pte::kDirty);
    CHECK(table.leaf(kAt)->pte.dirty());
}

TEST(table_walks_through_five_levels) {
    Fixture f;
    PageTable table(f.store, Owner::Host, 5);
    table.set(kAt, leaf(77));
    CHECK_EQ(f.store.counts().total(), 5U);
    for (unsigned level = 0; level < kLevels; ++level) {
        CHECK_EQ(f.store.counts().by_level[level], 1U);
    }
    CHECK_EQ(f.store.counts().by_owner[static_cast<unsigned>(Owner::Host)], 5U);
    CHECK(table.leaf(kAt)->pte.pfn() == Pfn(77));
}

TEST(table_holds_leaves_of_2_mib) {
    Fixture f;
    PageTable table(f.store, Owner::Guest, 4);
    table.set(kAt, Pte::make(Pfn(512), kLeaf | Pte::kLarge), Level::Pmd);
    table.set(kAt + kPmdSize, leaf(9));
    CHECK_EQ(table.tables(Level::Pte), 1U);  // of the second chunk only
    const auto found = table.leaf(kAt + 5 * kPageSize + 8);
    CHECK(found && found->level == Level::Pmd);
    CHECK_EQ(found->frame_of(kAt + 5 * kPageSize + 8).value, 517U);
    CHECK(table.find(kAt, Level::Pte) == nullptr);
    CHECK(table.linked(kAt) == Pfn(0));
    CHECK(refuses([&] { table.set(kAt, leaf(1)); }));
    const auto seen = leaves(table, kAt, kAt + 2 * kPmdSize);
    CHECK_EQ(seen.size(), 2U);
    CHECK(seen[0].first == kAt && seen[0].second == Level::Pmd);
    CHECK(seen[1].first == kAt + kPmdSize && seen[1].second == Level::Pte);
    table.replace(kAt, Pte(), Level::Pmd);
    CHECK(!table.leaf(kAt));
}

TEST(table_lists_leaves_of_a_range_in_order) {
    Fixture f;
    PageTable table(f.store, Owner::Guest, 4);
    const VirtAddr edge = align_down(kAt, kPudSize) + kPudSize;  // two PMD tables meet here
    for (VirtAddr at : {edge + kPageSize, edge - kPageSize, edge, kAt}) table.set(at, leaf(1));
    const auto seen = leaves(table, edge - kPageSize, edge + kPageSize);
    CHECK_EQ(seen.size(), 2U);
    CHECK(seen[0].first == edge - kPageSize);
    CHECK(seen[1].first == edge);
}

TEST(table_frees_what_lies_wholly_in_the_hole) {
    Fixture f;
    PageTable table(f.store, Owner::Guest, 4);
    const VirtAddr a = kAt;
    const VirtAddr b = kAt + kPmdSize;
    table.set(a, leaf(1));
    table.set(b, leaf(2));
    CHECK_EQ(f.store.counts().total(), 5U);
    table.replace(a, Pte());
    // A neighbour may live in the first chunk's last page: the PTE table stays.
    table.free_tables(VirtAddr(0), b - kPageSize);
    CHECK_EQ(f.store.counts().total(), 5U);
    table.free_tables(VirtAddr(0), b);
    CHECK_EQ(f.store.counts().total(), 4U);
    table.replace(b, Pte());
    table.free_tables(VirtAddr(0), VirtAddr(1ULL << 47));
    CHECK_EQ(f.store.counts().total(), 1U);  // the root goes with the tree
    CHECK_EQ(f.frames.in_use(FrameUse::Table), 1U);
    CHECK_EQ(f.store.allocated(), 5U);
    CHECK_EQ(f.store.freed(), 4U);
}

TEST(table_links_foreign_tables_and_never_frees_them) {
    Fixture f;
    PageTable host(f.store, Owner::Host, 4);
    host.set(kAt, leaf(7));
    {
        PageTable guest(f.store, Owner::Guest, 4);
        const Pfn shared = host.ensure_pte_table(kAt, true);
        guest.link(kAt, shared);
        CHECK(guest.linked(kAt) == shared);
        CHECK(host.linked(kAt) == Pfn(0));
        CHECK(guest.leaf(kAt)->pte.pfn() == Pfn(7));
        CHECK_EQ(guest.tables(Level::Pte), 0U);
        CHECK(guest.find(kAt, Level::Pte) == nullptr);
        CHECK(guest.find(kAt, Level::Pte, false) != nullptr);
        CHECK(leaves(guest, kAt, kAt + kPmdSize).empty());  // own leaves only
        CHECK(refuses([&] { guest.set(kAt, leaf(8)); }));
        CHECK(refuses([&] { guest.link(kAt, shared); }));
        guest.free_tables(VirtAddr(0), VirtAddr(1ULL << 47));
        CHECK_EQ(guest.tables(Level::Pmd), 1U);  // its one entry is the link
        guest.unlink(kAt);
        guest.free_tables(VirtAddr(0), VirtAddr(1ULL << 47));
        CHECK_EQ(guest.tables(Level::Pmd), 0U);
        guest.link(kAt, shared);  // the tree ends while linked, as when a run stops
    }
    CHECK(host.leaf(kAt)->pte.pfn() == Pfn(7));
    CHECK_EQ(f.store.counts().total(), 4U);
}

TEST(table_links_a_table_of_any_level) {
    Fixture f;
    PageTable host(f.store, Owner::Host, 4);
    host.set(kAt, Pte::make(Pfn(512), kLeaf | Pte::kLarge), Level::Pmd);
    const Pfn pmd_table = host.find(kAt, Level::Pud)->pfn();
    PageTable guest(f.store, Owner::Guest, 4);
    CHECK(refuses([&] { guest.link(kAt, pmd_table); }));  // a PMD entry holds PTE tables
    guest.link(kAt + kPudSize, pmd_table, Level::Pud);
    CHECK(guest.linked(kAt + kPudSize, Level::Pud) == pmd_table);
    CHECK(guest.linked(kAt + kPudSize) == Pfn(0));  // the entry belongs to the other tree
    CHECK(guest.leaf(kAt + kPudSize)->pte.pfn() == Pfn(512));
    CHECK_EQ(guest.linked_tables(Level::Pmd), 1U);
    CHECK_EQ(guest.tables(Level::Pmd), 0U);
    CHECK(refuses([&] { guest.unlink(kAt, Level::Pud); }));
    guest.unlink(kAt + kPudSize, Level::Pud);
    CHECK_EQ(guest.linked_tables(Level::Pmd), 0U);
    CHECK(!guest.leaf(kAt + kPudSize));
}

TEST(table_refuses_to_bury_an_own_table) {
    Fixture f;
    PageTable host(f.store, Owner::Host, 4);
    PageTable guest(f.store, Owner::Guest, 4);
    const Pfn shared = host.ensure_pte_table(kAt, true);
    guest.set(kAt, leaf(1));
    CHECK(refuses([&] { guest.link(kAt, shared); }));
}

TEST(table_peak_is_the_first_highest_moment) {
    Fixture f;
    PageTable a(f.store, Owner::Guest, 4);
    a.set(kAt, leaf(1), Level::Pte, true);
    a.set(kAt + kPmdSize, leaf(1));
    // The peak: five tables, one of them region.
    CHECK_EQ(f.store.peak().total(), 5U);
    CHECK_EQ(f.store.peak().region_pte, 1U);
    // A table marked later, at the same total, is no part of that moment.
    a.ensure_pte_table(kAt + kPmdSize, true);
    CHECK_EQ(f.store.counts().region_pte, 2U);
    CHECK_EQ(f.store.peak().region_pte, 1U);
    CHECK_EQ(f.store.peak_region_pte(), 2U);
    a.replace(kAt, Pte());
    a.replace(kAt + kPmdSize, Pte());
    a.free_tables(VirtAddr(0), VirtAddr(1ULL << 47));
    CHECK_EQ(f.store.counts().region_pte, 0U);
    CHECK_EQ(f.store.peak().total(), 5U);
}

TEST(table_writes_are_told_where_tables_are_mirrored) {
    // given random leaves, links, bits set by a walker, and tables freed and used again
    Fixture f;
    PageTable host(f.store, Owner::Host, 4);
    PageTable guest(f.store, Owner::Guest, 4);
    std::mt19937_64 random(11);
    for (int step = 0; step < 4000; ++step) {
        const VirtAddr at = kAt + random() % 4096 * kPageSize;
        switch (random() % 4) {
            case 0:
                host.set(at, leaf(1 + random() % 1000));
                break;
            case 1:
                if (host.leaf(at)) host.replace(at, Pte());
                break;
            case 2:
                if (random() % 50 == 0) {
                    if (guest.linked(at) != Pfn(0)) guest.unlink(at);
                    host.free_tables(VirtAddr(0), VirtAddr(1ULL << 47));
                }
                break;
            default:
                if (host.find(at, Level::Pte) && guest.linked(at) == Pfn(0) && random() % 50 == 0) {
                    guest.link(at, host.ensure_pte_table(at, true));
                    guest.unlink(at);
                }
        }
    }
    // then every entry of every live table is as the mirror has it
    std::uint64_t tables = 0;
    f.store.for_each([&](Pfn pfn, const TablePage& page) {
        ++tables;
        CHECK(page.frame == pfn);
        for (std::uint64_t i = 0; i < kEntries; ++i) {
            const std::uint64_t address = address_of(pfn).value + i * sizeof(Pte);
            CHECK_EQ(f.mirror.entries.at(address), page.entries[i].bits());
        }
    });
    CHECK(tables > 4);
    const VirtAddr at = kAt + 5 * kPageSize;
    host.set(at, leaf(5));
    const Pfn table = host.ensure_pte_table(at, false);
    const PhysAddr entry = address_of(table) + entry_index(at, Level::Pte) * sizeof(Pte);
    f.store.set_entry_bits(entry, Pte::kDirty);
    CHECK_EQ(f.mirror.entries.at(entry.value), leaf(5).with(Pte::kDirty).bits());
}
