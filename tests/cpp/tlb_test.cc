// The arrays of the MMU by themselves: order of use, tags, flushes; beside naive models of them.
#include "translation/tlb.h"

#include <array>
#include <list>
#include <map>
#include <random>
#include <set>
#include <tuple>

#include "check.h"
#include "translation/walk_cache.h"

using namespace ptshare;

namespace {

constexpr Pcid kOne = 1;
constexpr Pcid kTwo = 2;

VirtAddr page(std::uint64_t number) {
    return VirtAddr(number << kPageShift);
}
VirtAddr large_page(std::uint64_t number) {
    return VirtAddr(number * kPmdSize);
}
Pte leaf(std::uint64_t frame) {
    return Pte::make(Pfn(frame), Pte::kPresent | Pte::kUser);
}
bool holds(Tlb& tlb, std::uint64_t number, Pcid pcid = kOne) {
    return tlb.find(pcid, page(number), PageSize::Small) != nullptr;
}
void put(Tlb& tlb, std::uint64_t number, Pcid pcid = kOne) {
    tlb.insert(pcid, page(number), PageSize::Small, leaf(number));
}

// A TLB as one list a set, the most recently used first.
struct NaiveTlb {
    using Tag = std::tuple<Pcid, std::uint64_t, PageSize>;  // PCID, page number in its size, size
    using Set = std::list<std::pair<Tag, std::uint64_t>>;   // with the leaf's bits

    NaiveTlb(std::uint64_t entries, std::uint64_t ways_of_set)
        : ways(ways_of_set), sets(entries / ways_of_set) {}

    static Tag tag(Pcid pcid, VirtAddr address, PageSize size) {
        return {pcid, address.value / (size == PageSize::Small ? kPageSize : kPmdSize), size};
    }
    Set& set(const Tag& tag) { return sets[std::get<1>(tag) % sets.size()]; }

    const std::uint64_t* find(const Tag& wanted) {
        Set& in = set(wanted);
        for (auto it = in.begin(); it != in.end(); ++it) {
            if (it->first != wanted) continue;
            in.splice(in.begin(), in, it);
            return &in.front().second;
        }
        return nullptr;
    }
    void insert(const Tag& added, std::uint64_t bits) {
        Set& in = set(added);
        if (in.size() == ways) in.pop_back();
        in.emplace_front(added, bits);
    }
    template <class Predicate>
    std::uint64_t erase_if(Predicate&& matches) {
        std::uint64_t dropped = 0;
        for (Set& each : sets) {
            const std::size_t before = each.size();
            each.remove_if([&](const auto& entry) { return matches(entry.first); });
            dropped += before - each.size();
        }
        return dropped;
    }

    std::size_t ways;
    std::vector<Set> sets;
};

// Random use of a TLB, with both page sizes and three PCIDs, beside its naive model.
void compare_with_lists(std::uint64_t entries, std::uint64_t ways, std::uint64_t seed) {
    Tlb tlb("tlb", entries, ways);
    NaiveTlb naive(entries, ways == 0 ? entries : ways);
    std::mt19937_64 random(seed);
    for (int step = 0; step < 40000; ++step) {
        const auto pcid = static_cast<Pcid>(random() % 3 + 1);
        const PageSize size = random() % 4 == 0 ? PageSize::Large : PageSize::Small;
        // Few enough pages to meet again, in reach of a few large ones, far from address 0.
        const VirtAddr at(0x7f0000000000 + random() % (entries * 2) * kPageSize +
                          random() % 3 * kPmdSize + random() % kPageSize);
        const auto tag = NaiveTlb::tag(pcid, at, size);
        const std::uint64_t what = random() % 2000;
        if (what == 0) {
            CHECK_EQ(tlb.flush_all(), naive.erase_if([](const auto&) { return true; }));
        } else if (what < 10) {
            CHECK_EQ(tlb.flush_pcid(pcid),
                     naive.erase_if([&](const auto& held) { return std::get<0>(held) == pcid; }));
        } else if (what < 100) {
            CHECK_EQ(tlb.flush_page(pcid, at), naive.erase_if([&](const auto& held) {
                return held == NaiveTlb::tag(pcid, at, PageSize::Small) ||
                       held == NaiveTlb::tag(pcid, at, PageSize::Large);
            }));
        } else if (const Pte* found = tlb.find(pcid, at, size)) {
            const std::uint64_t* wanted = naive.find(tag);
            CHECK(wanted && found->bits() == *wanted);
        } else {
            CHECK(!naive.find(tag));
            const Pte added = leaf(random() % 1000000);
            tlb.insert(pcid, at, size, added);
            naive.insert(tag, added.bits());
        }
        if (step % 1000 != 0) continue;
        std::set<std::pair<NaiveTlb::Tag, std::uint64_t>> held;
        tlb.for_each([&](Pcid owner, VirtAddr first, PageSize of, Pte pte) {
            held.emplace(NaiveTlb::tag(owner, first, of), pte.bits());
        });
        std::set<std::pair<NaiveTlb::Tag, std::uint64_t>> wanted;
        for (const auto& set : naive.sets) wanted.insert(set.begin(), set.end());
        CHECK(held == wanted);
    }
}

}  // namespace

TEST(the_least_recently_used_of_a_full_array_goes) {
    // given four pages in a fully associative array of four, page 0 used again
    Tlb tlb("tlb", 4, 0);
    for (std::uint64_t i = 0; i < 4; ++i) put(tlb, i);
    CHECK(holds(tlb, 0));
    // when a fifth comes, then page 1 goes
    put(tlb, 100);
    CHECK(!holds(tlb, 1));
    for (const std::uint64_t held : {0, 2, 3, 100}) CHECK(holds(tlb, held));
}

TEST(a_set_evicts_its_own_pages_only) {
    // given 4 sets x 2 ways
    Tlb tlb("tlb", 8, 2);
    put(tlb, 1);
    // when three pages of set 0 come
    for (const std::uint64_t number : {0, 4, 8}) put(tlb, number);
    // then the first of them goes, and set 1 is as it was
    CHECK(!holds(tlb, 0));
    CHECK(holds(tlb, 4) && holds(tlb, 8) && holds(tlb, 1));
}

TEST(a_place_that_was_flushed_is_filled_before_another_goes) {
    Tlb tlb("tlb", 4, 0);
    for (std::uint64_t i = 0; i < 4; ++i) put(tlb, i);
    CHECK_EQ(tlb.flush_page(kOne, page(2)), 1U);
    put(tlb, 100);
    for (const std::uint64_t held : {0, 1, 3, 100}) CHECK(holds(tlb, held));
}

TEST(one_page_of_two_address_spaces_is_two_entries) {
    // given the same page with two PCIDs
    Tlb tlb("tlb", 8, 2);
    tlb.insert(kOne, page(4), PageSize::Small, leaf(10));
    tlb.insert(kTwo, page(4), PageSize::Small, leaf(20));
    CHECK_EQ(tlb.find(kOne, page(4), PageSize::Small)->pfn().value, 10U);
    CHECK_EQ(tlb.find(kTwo, page(4), PageSize::Small)->pfn().value, 20U);
    // when one is flushed, then the other stays
    CHECK_EQ(tlb.flush_page(kOne, page(4)), 1U);
    CHECK_EQ(tlb.flush_page(kOne, page(4)), 0U);
    CHECK(!holds(tlb, 4, kOne));
    CHECK(holds(tlb, 4, kTwo));
}

// Two walks of one page may end one after the other.
TEST(a_page_put_in_twice_is_one_entry_with_the_later_leaf) {
    Tlb tlb("tlb", 4, 0);
    tlb.insert(kOne, page(4), PageSize::Small, leaf(10));
    tlb.insert(kOne, page(5), PageSize::Small, leaf(11));
    tlb.insert(kOne, page(4), PageSize::Small, leaf(20));
    CHECK_EQ(tlb.find(kOne, page(4), PageSize::Small)->pfn().value, 20U);
    CHECK_EQ(tlb.flush_page(kOne, page(4)), 1U);
    CHECK(!tlb.find(kOne, page(4), PageSize::Small));
    CHECK_EQ(tlb.flush_all(), 1U);
}

TEST(one_array_holds_both_page_sizes) {
    // given small page 512 and large page 1, which start at the same address
    Tlb tlb("tlb", 8, 0);
    tlb.insert(kOne, page(512), PageSize::Small, leaf(7));
    tlb.insert(kOne, large_page(1), PageSize::Large, leaf(1024));
    // then each is found by its size, the large one anywhere in its 2 MiB
    CHECK_EQ(tlb.find(kOne, page(512), PageSize::Small)->pfn().value, 7U);
    CHECK_EQ(tlb.find(kOne, page(512), PageSize::Large)->pfn().value, 1024U);
    CHECK_EQ(tlb.find(kOne, large_page(2) - 1, PageSize::Large)->pfn().value, 1024U);
    CHECK(!tlb.find(kOne, page(513), PageSize::Small));
    CHECK(!tlb.find(kOne, large_page(2), PageSize::Large));
    // when the small page is flushed, then the large one that translates it goes too
    CHECK_EQ(tlb.flush_page(kOne, page(512)), 2U);
    CHECK_EQ(tlb.flush_all(), 0U);
}

TEST(flushes_return_what_they_dropped) {
    Tlb tlb("tlb", 16, 4);
    for (std::uint64_t i = 0; i < 6; ++i) put(tlb, i, kOne);
    for (std::uint64_t i = 0; i < 3; ++i) put(tlb, i, kTwo);
    CHECK_EQ(tlb.flush_pcid(kOne), 6U);
    CHECK_EQ(tlb.flush_pcid(kOne), 0U);
    CHECK_EQ(tlb.flush_all(), 3U);
    CHECK_EQ(tlb.flush_all(), 0U);
}

TEST(the_largest_pcid_and_user_address_come_back_from_an_entry) {
    Tlb tlb("tlb", 4, 0);
    const Pcid pcid = 0xfff;
    const VirtAddr last((1ULL << 56) - 1);  // of the user half with five levels
    tlb.insert(pcid, last, PageSize::Small, leaf(5));
    unsigned entries = 0;
    tlb.for_each([&](Pcid owner, VirtAddr first, PageSize size, Pte pte) {
        ++entries;
        CHECK_EQ(owner, pcid);
        CHECK_EQ(first.value, align_down(last, kPageSize).value);
        CHECK(size == PageSize::Small);
        CHECK_EQ(pte.pfn().value, 5U);
    });
    CHECK_EQ(entries, 1U);
}

TEST(an_array_of_no_entries_holds_nothing) {
    Tlb tlb("tlb", 0, 4);
    CHECK(!tlb.present());
    put(tlb, 1);
    CHECK(!holds(tlb, 1));
    CHECK_EQ(tlb.flush_page(kOne, page(1)) + tlb.flush_all(), 0U);
}

TEST(geometry_that_makes_no_sets_is_refused_by_name) {
    CHECK_THROWS(Tlb("mmu.dtlb.entries", 60, 5), std::invalid_argument, "mmu.dtlb.entries");
    CHECK_THROWS(Tlb("mmu.dtlb.entries", 64, 5), std::invalid_argument, "64 entries in 5 ways");
    CHECK_THROWS(Tlb("mmu.dtlb.entries", 4, 8), std::invalid_argument, "mmu.dtlb.entries");
    CHECK_THROWS(WalkCache(4, 6, 4, 4, 4), std::invalid_argument, "mmu.walk_cache.pud_entries");
    CHECK_EQ(SetAssociative<int>("array", 24, 3).capacity(), 24U);  // ways need not be 2^n
}

TEST(peek_leaves_the_order_and_find_changes_it) {
    SetAssociative<int> array("array", 2, 0);
    array.insert(0, 10, 1);
    array.insert(0, 11, 2);
    CHECK_EQ(*array.peek(0, 10), 1);
    auto evicted = array.insert(0, 12, 3);  // 10 is still the oldest
    CHECK_EQ(evicted->first, 10U);
    CHECK_EQ(evicted->second, 1);
    CHECK_EQ(*array.find(0, 11), 2);
    evicted = array.insert(0, 13, 4);
    CHECK_EQ(evicted->first, 12U);
    CHECK(!array.peek(0, 12) && !array.find(0, 12));
}

TEST(a_tlb_behaves_as_lists_in_order_of_use) {
    compare_with_lists(64, 4, 1);   // 16 sets
    compare_with_lists(16, 0, 2);   // fully associative
    compare_with_lists(96, 12, 3);  // ways that are no power of two
    compare_with_lists(8, 1, 4);    // direct-mapped
}

TEST(the_hit_nearest_to_the_leaf_is_taken) {
    // given the entries of one walk
    WalkCache cache(4, 4, 4, 0, 0);
    const VirtAddr at(0x123456789000);
    cache.insert(kOne, at, Level::P4d, Pfn(2));
    CHECK(cache.find(kOne, at, Level::P4d)->level == Level::P4d);
    cache.insert(kOne, at, Level::Pud, Pfn(3));
    CHECK_EQ(cache.find(kOne, at, Level::P4d)->table.value, 3U);
    cache.insert(kOne, at, Level::Pmd, Pfn(4));
    const auto hit = cache.find(kOne, at, Level::P4d);
    CHECK(hit->level == Level::Pmd);
    CHECK_EQ(hit->table.value, 4U);
    // then an address beyond the PMD entry's 2 MiB has the PUD entry, one beyond 1 GiB the P4D's
    CHECK(cache.find(kOne, at + kPmdSize, Level::P4d)->level == Level::Pud);
    CHECK(cache.find(kOne, at + kPudSize, Level::P4d)->level == Level::P4d);
    CHECK(!cache.find(kOne, at + (kPudSize << kIndexBits), Level::P4d));
    CHECK(!cache.find(kTwo, at, Level::P4d));
}

TEST(an_entry_put_in_again_is_replaced) {
    WalkCache cache(2, 0, 0, 0, 0);
    cache.insert(kOne, VirtAddr(0), Level::Pmd, Pfn(3));
    cache.insert(kOne, VirtAddr(0), Level::Pmd, Pfn(5));
    CHECK_EQ(cache.find(kOne, VirtAddr(0), Level::P4d)->table.value, 5U);
    // It took one place: there is room for another.
    cache.insert(kOne, VirtAddr(kPmdSize), Level::Pmd, Pfn(6));
    CHECK_EQ(cache.find(kOne, VirtAddr(0), Level::P4d)->table.value, 5U);
}

TEST(invlpg_drops_every_level_of_its_address_and_pcid) {
    // given entries of four levels at one address with two PCIDs, and a neighbour's PMD entry
    WalkCache cache(4, 4, 4, 4, 0);
    for (const Pcid pcid : {kOne, kTwo}) {
        for (const Level level : {Level::Pmd, Level::Pud, Level::P4d, Level::Pgd}) {
            cache.insert(pcid, VirtAddr(0), level, Pfn(10 + index_of(level)));
        }
    }
    cache.insert(kOne, VirtAddr(kPmdSize), Level::Pmd, Pfn(20));
    // when a page of that address space is flushed
    cache.flush_page(kOne, VirtAddr(0x1000));
    // then no level translates it; the neighbour's entry and the other PCID's stay
    CHECK(!cache.find(kOne, VirtAddr(0), Level::Pgd));
    CHECK_EQ(cache.find(kOne, VirtAddr(kPmdSize), Level::Pgd)->table.value, 20U);
    CHECK_EQ(cache.find(kTwo, VirtAddr(0), Level::Pgd)->table.value, 11U);
    cache.flush_pcid(kTwo);
    CHECK(!cache.find(kTwo, VirtAddr(0), Level::Pgd));
    CHECK(cache.find(kOne, VirtAddr(kPmdSize), Level::Pgd).has_value());
    cache.flush_all();
    CHECK(!cache.find(kOne, VirtAddr(kPmdSize), Level::Pgd));
}

TEST(walk_caches_behave_as_lists_in_order_of_use) {
    // given caches of 3, 2, 4 and 1 entries, and four lists
    WalkCache cache(3, 2, 4, 1, 0);
    struct Entry {
        Pcid pcid;
        std::uint64_t prefix, table;
    };
    constexpr std::array<std::size_t, 4> sizes{3, 2, 4, 1};
    std::array<std::list<Entry>, 4> lists;  // index: level - 1
    const auto prefix_of = [](VirtAddr at, unsigned level) { return at.value >> (12 + 9 * level); };
    const auto find = [&](Pcid pcid, VirtAddr at, unsigned level) -> Entry* {
        auto& list = lists[level - 1];
        for (auto it = list.begin(); it != list.end(); ++it) {
            if (it->pcid != pcid || it->prefix != prefix_of(at, level)) continue;
            list.splice(list.begin(), list, it);
            return &list.front();
        }
        return nullptr;
    };
    std::mt19937_64 random(9);
    for (int step = 0; step < 40000; ++step) {
        const auto pcid = static_cast<Pcid>(random() % 2);
        const VirtAddr at((random() % 2 << 48) | (random() % 3 << 39) | (random() % 2 << 30) |
                          (random() % 2 << 21) | (random() % 2 << 12));
        const std::uint64_t what = random() % 100;
        if (what == 0) {
            cache.flush_pcid(pcid);
            for (auto& list : lists) list.remove_if([&](auto& e) { return e.pcid == pcid; });
        } else if (what < 5) {
            cache.flush_page(pcid, at);
            for (unsigned level = 1; level < kLevels; ++level) {
                lists[level - 1].remove_if([&](auto& entry) {
                    return entry.pcid == pcid && entry.prefix == prefix_of(at, level);
                });
            }
        } else if (what < 50) {
            const auto level = static_cast<unsigned>(random() % 4 + 1);
            const std::uint64_t table = random() % 1000;
            cache.insert(pcid, at, static_cast<Level>(level), Pfn(table));
            if (Entry* held = find(pcid, at, level)) {
                held->table = table;
            } else {
                auto& list = lists[level - 1];
                if (list.size() == sizes[level - 1]) list.pop_back();
                list.push_front({pcid, prefix_of(at, level), table});
            }
        } else {
            const unsigned top = what < 75 ? 3 : 4;
            const auto hit = cache.find(pcid, at, static_cast<Level>(top));
            unsigned level = 1;
            const Entry* wanted = nullptr;
            while (level <= top && !(wanted = find(pcid, at, level))) ++level;
            CHECK_EQ(hit.has_value(), wanted != nullptr);
            if (!hit || !wanted) continue;
            CHECK_EQ(index_of(hit->level), level);
            CHECK_EQ(hit->table.value, wanted->table);
        }
    }
}
