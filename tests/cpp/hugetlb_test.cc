// Policy `hugetlb-pmd`: tables, faults and what /proc says, counted by hand and equal to what Linux
// 6.18 does with the same calls (the figures in parentheses are the differences of VmPTE there).
#include <sstream>

#include "core/snapshot.h"
#include "world.h"

using namespace ptshare;
using namespace ptshare::test;

namespace {

KernelConfig big(unsigned levels = 4) {
    return {8ULL << 30, levels, kPageSize, false, 1};
}

constexpr std::uint64_t kKiB = 1024;

// A world whose file is 2 GiB long.
void huge(const KernelConfig& with, const std::function<void(World&)>& body) {
    in_world("hugetlb-pmd", with, [&](World& w) {
        CHECK(w.kernel.truncate(*w.file, 2 * kPudSize) == Errno::Ok);
        body(w);
    });
}
void huge(const std::function<void(World&)>& body) {
    huge(big(), body);
}

// A process that maps one slot of the file at `at`.
Mm& sharer(World& w, VirtAddr at = kBase, std::uint64_t prot = kRw, std::uint64_t first_page = 0,
           std::uint64_t bytes = kPudSize) {
    Mm& mm = w.kernel.create_mm();
    CHECK(w.map(mm, at, bytes, prot, kPtFile, w.file, first_page).ok());
    return mm;
}

// Reads the first `n` 2 MiB pages from `at`; how many faults that took.
std::uint64_t touch(World& w, Mm& mm, VirtAddr at, std::uint64_t n) {
    std::uint64_t faults = 0;
    for (VirtAddr page = at; page < at + n * kPmdSize; page = page + kPmdSize) {
        if (World::leaf(mm, page).permits(Access::Read)) continue;
        CHECK(!w.kernel.fault(mm, page, Access::Read).is_fatal());
        ++faults;
    }
    return faults;
}

std::uint64_t tables(const World& w, Level level) {
    return w.kernel.tables().counts().by_level[index_of(level)];
}

}  // namespace

TEST(processes_share_one_pmd_table_for_a_whole_slot) {
    huge([](World& w) {
        Mm& a = sharer(w);
        Mm& b = sharer(w);
        Mm& c = sharer(w);
        CHECK_EQ(a.vm_pte_bytes(), 0U);
        const FaultResult first = w.kernel.fault(a, kBase, Access::Write);
        CHECK(first.kind == FaultKind::Host && first.linked && first.region);
        const FaultResult second = w.kernel.fault(b, kBase, Access::Read);
        CHECK(second.kind == FaultKind::Link && second.linked);
        const FaultResult third = w.kernel.fault(c, kBase + kPmdSize + 5, Access::Write);
        CHECK(third.kind == FaultKind::Host && third.linked);
        CHECK_EQ(touch(w, a, kBase + kPmdSize, 1), 0U);  // c's page
        CHECK_EQ(touch(w, b, kBase, 4), 2U);
        CHECK_EQ(touch(w, c, kBase, 512), 508U);
        CHECK_EQ(touch(w, a, kBase, 512), 0U);
        // PUD and PMD table each (8 kB), but one PMD table in memory.
        for (const Mm* mm : {&a, &b, &c}) CHECK_EQ(mm->vm_pte_bytes(), 8 * kKiB);
        CHECK_EQ(tables(w, Level::Pmd), 1U);
        CHECK_EQ(tables(w, Level::Pud), 3U);
        CHECK_EQ(tables(w, Level::Pgd), 3U);
        CHECK_EQ(tables(w, Level::Pte), 0U);
        CHECK_EQ(w.kernel.tables().counts().region_pte, 0U);
        CHECK_EQ(w.kernel.hosts().size(), 1U);
        const HostMm& host = *w.kernel.hosts()[0];
        CHECK(host.of_one_table() && host.guests.size() == 3);
        CHECK_EQ(host.mm.rss_huge, 512U * 512U);
        CHECK_EQ(host.mm.rss_file + a.rss_file + a.rss_huge, 0U);
        CHECK_EQ(w.kernel.stats().links, 3U);
        const auto leaf = b.table.leaf(kBase + kPmdSize);
        CHECK(leaf->level == Level::Pmd && leaf->pte.large() && leaf->pte.writable());
        CHECK_EQ(leaf->frame_of(kBase + kPmdSize + 3 * kPages).value, w.file->cached(515).value);
    });
}

TEST(five_levels_add_a_table_to_each) {
    huge(big(5), [](World& w) {
        Mm& a = sharer(w);
        Mm& b = sharer(w);
        touch(w, a, kBase, 2);
        touch(w, b, kBase, 2);
        CHECK_EQ(a.vm_pte_bytes(), 12 * kKiB);
        CHECK_EQ(b.vm_pte_bytes(), 12 * kKiB);
        CHECK_EQ(tables(w, Level::Pmd), 1U);
    });
}

TEST(mprotect_of_a_part_unshares_for_good) {
    huge([](World& w) {
        Mm& a = sharer(w);
        Mm& b = sharer(w);
        touch(w, a, kBase, 512);
        touch(w, b, kBase, 512);
        w.kernel.take_effects();
        CHECK(w.kernel.mprotect(b, kBase + 4 * kPmdSize, kPmdSize, kProtRead) == Errno::Ok);
        const Effects effects = w.kernel.take_effects();
        CHECK_EQ(effects.flushes.size(), 1U);
        CHECK(effects.flushes[0].tables_freed);
        CHECK(effects.flushes[0].targets[0].start == kBase);
        CHECK(effects.flushes[0].targets[0].end == kBase + kPudSize);
        CHECK_EQ(b.vm_pte_bytes(), 4 * kKiB);  // the PUD entry is empty (4)
        CHECK_EQ(a.vm_pte_bytes(), 8 * kKiB);
        CHECK_EQ(b.vmas.size(), 3U);
        CHECK_EQ(touch(w, b, kBase, 512), 512U);
        CHECK_EQ(b.vm_pte_bytes(), 8 * kKiB);  // a table of its own (8)
        CHECK_EQ(tables(w, Level::Pmd), 2U);
        CHECK(!World::leaf(b, kBase + 4 * kPmdSize).writable());
        CHECK(World::leaf(a, kBase + 4 * kPmdSize).writable());
        // Back again: three VMAs stay, none of them holds the slot.
        CHECK(w.kernel.mprotect(b, kBase + 4 * kPmdSize, kPmdSize, kRw) == Errno::Ok);
        CHECK_EQ(b.vmas.size(), 3U);
        CHECK(w.kernel.madvise(b, kBase, kPudSize, 4) == Errno::Ok);
        CHECK_EQ(touch(w, b, kBase, 512), 512U);
        CHECK_EQ(tables(w, Level::Pmd), 2U);
    });
}

TEST(mprotect_of_the_whole_slot_moves_to_those_with_equal_flags) {
    huge([](World& w) {
        Mm& rw = sharer(w);
        Mm& b = sharer(w, kBase, kProtRead);
        Mm& c = sharer(w, kBase, kProtRead);
        for (Mm* mm : {&rw, &b, &c}) touch(w, *mm, kBase, 16);
        CHECK_EQ(tables(w, Level::Pmd), 2U);
        CHECK(w.kernel.mprotect(b, kBase, kPudSize, kRw) == Errno::Ok);
        CHECK_EQ(b.vm_pte_bytes(), 4 * kKiB);
        CHECK_EQ(touch(w, b, kBase, 16), 1U);  // links rw's table
        CHECK_EQ(touch(w, c, kBase, 16), 0U);
        // c is alone with its table: it changes in place.
        CHECK(w.kernel.mprotect(c, kBase, kPudSize, kRw) == Errno::Ok);
        CHECK_EQ(c.vm_pte_bytes(), 8 * kKiB);
        CHECK_EQ(touch(w, c, kBase, 16), 0U);
        CHECK(World::leaf(c, kBase).writable());
        CHECK_EQ(tables(w, Level::Pmd), 2U);
        CHECK(w.kernel.mprotect(c, kBase, kPudSize, 0) == Errno::Ok);
        CHECK(w.read(c, kBase) == FaultKind::Segv);
        CHECK(w.kernel.mprotect(c, kBase, kPudSize, kProtRead) == Errno::Ok);
        CHECK_EQ(touch(w, c, kBase, 16), 0U);
    });
}

TEST(a_sole_user_keeps_its_table_when_its_vma_is_cut) {
    huge([](World& w) {
        Mm& a = sharer(w);
        touch(w, a, kBase, 16);
        const Pfn table = a.table.linked(kBase, Level::Pud);
        w.kernel.take_effects();
        CHECK(w.kernel.mprotect(a, kBase + 4 * kPmdSize, kPmdSize, kProtRead) == Errno::Ok);
        CHECK(w.kernel.hosts().empty());
        CHECK(a.table.find(kBase, Level::Pud)->pfn() == table);
        CHECK_EQ(a.rss_huge, 16U * 512U);
        CHECK_EQ(w.kernel.take_effects().tables_allocated, 0U);
        CHECK_EQ(touch(w, a, kBase, 16), 0U);
        Mm& b = sharer(w);
        CHECK_EQ(touch(w, b, kBase, 16), 16U);  // what is cut cannot be shared
        CHECK_EQ(tables(w, Level::Pmd), 2U);
    });
}

TEST(a_part_that_is_unmapped_unshares_too) {
    huge([](World& w) {
        Mm& a = sharer(w);
        Mm& b = sharer(w);
        Mm& c = sharer(w);
        for (Mm* mm : {&a, &b, &c}) touch(w, *mm, kBase, 16);
        CHECK(w.kernel.munmap(b, kBase + 8 * kPmdSize, kPmdSize) == Errno::Ok);
        CHECK_EQ(b.vm_pte_bytes(), 4 * kKiB);
        CHECK_EQ(touch(w, b, kBase, 8), 8U);
        CHECK_EQ(touch(w, a, kBase, 16), 0U);
        CHECK(w.kernel.munmap(a, kBase, kPudSize) == Errno::Ok);
        CHECK_EQ(a.vm_pte_bytes(), 0U);
        CHECK_EQ(touch(w, c, kBase, 16), 0U);
        CHECK(w.kernel.munmap(c, kBase, kPudSize) == Errno::Ok);
        CHECK(w.kernel.hosts().empty());  // the last one's table goes with it
        CHECK(w.kernel.munmap(b, kBase, kPudSize) == Errno::Ok);
        CHECK_EQ(b.vm_pte_bytes(), 0U);
        CHECK_EQ(tables(w, Level::Pmd), 0U);
    });
}

TEST(dontneed_unlinks_where_others_use_the_table) {
    huge([](World& w) {
        Mm& a = sharer(w);
        Mm& b = sharer(w);
        touch(w, a, kBase, 16);
        touch(w, b, kBase, 16);
        w.kernel.take_effects();
        CHECK(w.kernel.madvise(a, kBase + kPmdSize, kPmdSize, 4) == Errno::Ok);
        const Effects effects = w.kernel.take_effects();
        CHECK_EQ(effects.flushes.size(), 1U);
        CHECK(effects.flushes[0].targets[0].start == kBase);  // all that the table translated
        CHECK_EQ(a.vm_pte_bytes(), 4 * kKiB);
        CHECK_EQ(touch(w, a, kBase, 16), 1U);
        CHECK_EQ(touch(w, b, kBase, 16), 0U);
        w.kernel.exit(a);
        // Alone: the leaf goes.
        CHECK(w.kernel.madvise(b, kBase + kPmdSize, kPmdSize, 4) == Errno::Ok);
        CHECK_EQ(b.vm_pte_bytes(), 8 * kKiB);
        CHECK_EQ(touch(w, b, kBase, 16), 1U);
        // Rounded down to whole pages; a start inside one is an error.
        CHECK(w.kernel.madvise(b, kBase, kPmdSize + kPages, 4) == Errno::Ok);
        CHECK_EQ(touch(w, b, kBase, 16), 1U);
        CHECK(w.kernel.madvise(b, kBase + kPages, kPmdSize, 4) == Errno::Invalid);
        CHECK(w.kernel.madvise(b, kBase, kPmdSize, 20) == Errno::Invalid);  // MADV_COLD
    });
}

TEST(any_order_of_exits_leaves_nothing) {
    for (unsigned order = 0; order < 6; ++order) {
        huge([&](World& w) {
            std::vector<Mm*> mms = {&sharer(w), &sharer(w), &sharer(w)};
            for (Mm* mm : mms) touch(w, *mm, kBase, 8);
            for (unsigned i = 3, rest = order; i != 0; rest /= i, --i) {
                const unsigned pick = rest % i;
                w.kernel.exit(*mms[pick]);
                mms.erase(mms.begin() + pick);
                CHECK_EQ(w.audit_lines(), 0U);
                CHECK_EQ(w.kernel.hosts().size(), mms.empty() ? 0U : 1U);
                CHECK_EQ(tables(w, Level::Pmd), mms.empty() ? 0U : 1U);
            }
            CHECK_EQ(w.table_frames(), 0U);
            CHECK_EQ(w.kernel.frames().in_use(FrameUse::FilePage), 8U * 512U);  // the page cache
        });
    }
}

TEST(addresses_may_differ_by_whole_slots) {
    huge([](World& w) {
        Mm& a = sharer(w);
        Mm& b = sharer(w, kBase + 5 * kPudSize);
        Mm& c = sharer(w, kBase + kPmdSize);  // no slot of 1 GiB is whole in these two
        Mm& d = sharer(w, kBase + kPmdSize + kPudSize);
        CHECK_EQ(touch(w, a, kBase, 16), 16U);
        CHECK_EQ(touch(w, b, kBase + 5 * kPudSize, 16), 1U);
        CHECK_EQ(touch(w, c, kBase + kPmdSize, 16), 16U);
        CHECK_EQ(touch(w, d, kBase + kPmdSize + kPudSize, 16), 16U);
        CHECK_EQ(tables(w, Level::Pmd), 3U);
        CHECK_EQ(c.rss_huge, 16U * 512U);
    });
    // Slots inside longer mappings: file offset and address agree modulo 1 GiB.
    huge([](World& w) {
        constexpr std::uint64_t kHalf = kPudSize / 2;
        Mm& a = sharer(w, kBase, kRw, kHalf / kPages);
        Mm& b = sharer(w, kBase - kHalf, kRw, 0, 2 * kPudSize);
        CHECK_EQ(touch(w, a, kBase, 16), 16U);
        CHECK_EQ(touch(w, b, kBase, 16), 1U);
        CHECK_EQ(touch(w, b, kBase - kHalf, 3), 3U);  // half a slot: its own table
        CHECK_EQ(b.vm_pte_bytes(), 16 * kKiB);  // two PUD tables here: kBase starts an entry of PGD
        CHECK_EQ(tables(w, Level::Pmd), 2U);
    });
    // One process may map it twice.
    huge([](World& w) {
        Mm& a = sharer(w);
        CHECK(w.map(a, kBase + 2 * kPudSize, kPudSize, kRw, kPtFile, w.file).ok());
        CHECK_EQ(touch(w, a, kBase, 16), 16U);
        CHECK_EQ(touch(w, a, kBase + 2 * kPudSize, 16), 1U);
        CHECK_EQ(a.vm_pte_bytes(), 12 * kKiB);
        CHECK_EQ(tables(w, Level::Pmd), 1U);
    });
}

TEST(regions_below_a_slot_have_private_tables) {
    huge([](World& w) {
        Mm& a = sharer(w, kBase, kRw, 0, 2 * kPmdSize);
        Mm& b = sharer(w, kBase, kRw, 0, 2 * kPmdSize);
        CHECK(w.write(a, kBase) == FaultKind::File);
        CHECK(w.read(b, kBase) == FaultKind::File);
        CHECK(w.read(b, kBase) == FaultKind::Spurious);
        CHECK_EQ(a.vm_pte_bytes(), 8 * kKiB);
        CHECK_EQ(tables(w, Level::Pmd), 2U);
        CHECK(w.kernel.hosts().empty());
        CHECK_EQ(w.kernel.stats().links, 0U);
        CHECK_EQ(a.rss_huge, 512U);
        CHECK_EQ(a.rss_file, 0U);
        CHECK(World::leaf(a, kBase).pfn() == World::leaf(b, kBase).pfn());
    });
}

TEST(the_right_to_the_file_is_one_of_the_flags) {
    huge([](World& w) {
        Mm& a = w.kernel.create_mm();
        Mm& b = w.kernel.create_mm();
        CHECK(w.map(a, kBase, kPudSize, kProtRead, kPtFile, w.file, 0, true).ok());
        CHECK(w.map(b, kBase, kPudSize, kProtRead, kPtFile, w.file, 0, false).ok());
        CHECK_EQ(touch(w, a, kBase, 4), 4U);
        CHECK_EQ(touch(w, b, kBase, 4), 4U);
        CHECK(w.kernel.mprotect(b, kBase, kPudSize, kRw) == Errno::Access);
    });
}

TEST(truncate_unlinks_all_but_the_last) {
    huge([](World& w) {
        Mm& a = sharer(w);
        Mm& b = sharer(w);
        Mm& c = sharer(w);
        for (Mm* mm : {&a, &b, &c}) touch(w, *mm, kBase, 16);
        CHECK(w.kernel.truncate(*w.file, kPages) == Errno::Invalid);
        CHECK(w.kernel.truncate(*w.file, 4 * kPmdSize) == Errno::Ok);
        CHECK_EQ(a.vm_pte_bytes(), 4 * kKiB);  // (4, 4, 8)
        CHECK_EQ(b.vm_pte_bytes(), 4 * kKiB);
        CHECK_EQ(c.vm_pte_bytes(), 8 * kKiB);
        CHECK_EQ(touch(w, a, kBase, 4), 1U);
        CHECK_EQ(touch(w, b, kBase, 4), 1U);
        CHECK_EQ(touch(w, c, kBase, 4), 0U);
        CHECK(w.read(a, kBase + 4 * kPmdSize) == FaultKind::Bus);
        CHECK_EQ(w.kernel.frames().in_use(FrameUse::FilePage), 4U * 512U);
        // A cut that leaves whole slots alone unlinks nobody.
        CHECK(w.kernel.truncate(*w.file, 2 * kPudSize) == Errno::Ok);
        CHECK(w.kernel.truncate(*w.file, kPudSize) == Errno::Ok);
        CHECK_EQ(a.vm_pte_bytes(), 8 * kKiB);
    });
}

TEST(a_child_copies_no_entry_and_shares_by_its_own_faults) {
    huge([](World& w) {
        Mm& parent = sharer(w);
        CHECK_EQ(touch(w, parent, kBase, 16), 16U);
        Mm& child = w.kernel.fork(parent);
        CHECK_EQ(child.vm_pte_bytes(), 0U);
        CHECK_EQ(w.kernel.take_effects().ptes_copied, 0U);
        CHECK_EQ(touch(w, child, kBase, 16), 1U);
        CHECK_EQ(child.vm_pte_bytes(), 8 * kKiB);
        CHECK_EQ(tables(w, Level::Pmd), 1U);
    });
}

TEST(populate_takes_every_page_once_and_then_only_links) {
    huge([](World& w) {
        Mm& a = w.kernel.create_mm();
        Mm& b = w.kernel.create_mm();
        CHECK(w.map(a, kBase, kPudSize, kRw, kPtFile | kMapPopulate, w.file).ok());
        CHECK_EQ(w.kernel.hosts()[0]->mm.rss_huge, 512U * 512U);
        CHECK(w.map(b, kBase, kPudSize, kRw, kPtFile | kMapPopulate, w.file).ok());
        CHECK_EQ(w.kernel.stats().links, 2U);
        CHECK_EQ(b.vm_pte_bytes(), 8 * kKiB);
    });
}

TEST(calls_take_whole_2_mib_pages) {
    huge([](World& w) {
        Mm& a = w.kernel.create_mm();
        const auto map = [&](VirtAddr at, std::uint64_t length, std::uint64_t flags,
                             std::uint64_t page = 0) {
            return w.map(a, at, length, kRw, flags, w.file, page);
        };
        CHECK(map(kBase + kPages, kPmdSize, kPtFile).error == Errno::Invalid);
        CHECK(map(kBase, kPmdSize, kPtFile, 1).error == Errno::Invalid);
        CHECK_EQ(w.refused(Refusal::Misaligned), 2U);
        CHECK(map(kBase, kPmdSize, kMapPrivate | kMapFixed | kMapSharedPt).error == Errno::Invalid);
        CHECK(w.map(a, kBase, kPmdSize, kRw, kMapShared | kMapAnonymous | kMapFixed | kMapSharedPt)
                  .error == Errno::Invalid);
        CHECK_EQ(w.refused(Refusal::Private) + w.refused(Refusal::Anonymous), 2U);
        // Lengths and hints are rounded up.
        const MapResult hinted = map(kBase + kPages, kPages, kMapShared | kMapSharedPt);
        CHECK(hinted.ok() && hinted.address == kBase + kPmdSize);
        CHECK_EQ(a.find(hinted.address)->bytes(), kPmdSize);
        CHECK(w.kernel.munmap(a, hinted.address, kPages) == Errno::Invalid);
        CHECK(w.kernel.munmap(a, hinted.address, kPmdSize) == Errno::Ok);
        const MapResult anywhere = map(VirtAddr(0), kPages, kMapShared | kMapSharedPt);
        CHECK(anywhere.ok() && is_aligned(anywhere.address.value, kPmdSize));

        CHECK(map(kBase, 16 * kPmdSize, kPtFile).ok());
        CHECK(w.kernel.munmap(a, kBase + kPages, kPages) == Errno::Invalid);
        CHECK(w.kernel.munmap(a, kBase, kPmdSize + kPages) == Errno::Invalid);
        CHECK(w.map(a, kBase + kPages, kPages, kRw, kAnonymous).error == Errno::Invalid);
        CHECK(w.kernel.mprotect(a, kBase + kPages, kPmdSize, kProtRead) == Errno::Invalid);
        CHECK(w.kernel.mprotect(a, kBase, kPages, kProtRead) == Errno::Invalid);
        CHECK(w.kernel.mprotect(a, kBase + kPages, kPages, kRw) == Errno::Ok);  // no change
        // Neighbours never join.
        CHECK(map(kBase + 16 * kPmdSize, kPmdSize, kPtFile, 16 * 512).ok());
        CHECK_EQ(a.find(kBase)->bytes(), 16 * kPmdSize);
    });
}

TEST(mremap_moves_own_tables_leaves_and_unlinks_shared_tables) {
    huge([](World& w) {
        Mm& a = sharer(w, kBase, kRw, 0, 16 * kPmdSize);
        touch(w, a, kBase, 2);
        const auto move = [&](Mm& mm, VirtAddr from, std::uint64_t old_bytes, std::uint64_t bytes,
                              std::uint64_t flags, VirtAddr to = VirtAddr(0)) {
            return w.kernel.mremap(mm, from, old_bytes, bytes, flags, to).error;
        };
        const VirtAddr there = kBase + kPudSize;
        CHECK(move(a, kBase, 16 * kPmdSize, 17 * kPmdSize, 1) == Errno::Invalid);
        CHECK(move(a, kBase, kPages, 2 * kPages, 1) == Errno::Ok);  // both are 2 MiB
        CHECK(move(a, kBase + kPages, kPmdSize, kPmdSize, 3, there) == Errno::Invalid);
        CHECK(move(a, kBase, kPmdSize, kPmdSize, 3, there + kPages) == Errno::Invalid);
        CHECK(move(a, kBase, 16 * kPmdSize, 14 * kPmdSize + kPages, 0) == Errno::Ok);
        CHECK_EQ(a.find(kBase)->bytes(), 15 * kPmdSize);
        CHECK(move(a, kBase, kPmdSize, kPmdSize, 3, there) == Errno::Ok);
        CHECK_EQ(touch(w, a, there, 1), 0U);
        CHECK_EQ(touch(w, a, kBase + kPmdSize, 1), 0U);

        Mm& b = sharer(w);
        Mm& c = sharer(w);
        touch(w, b, kBase, 16);
        touch(w, c, kBase, 16);
        CHECK(move(c, kBase, kPudSize, kPudSize, 3, kBase + 3 * kPudSize) == Errno::Ok);
        CHECK_EQ(c.vm_pte_bytes(), 4 * kKiB);  // (4)
        CHECK_EQ(touch(w, c, kBase + 3 * kPudSize, 16), 1U);
        CHECK_EQ(c.vm_pte_bytes(), 8 * kKiB);
    });
}

TEST(a_writable_mapping_lengthens_the_file) {
    huge([](World& w) {
        CHECK(w.kernel.truncate(*w.file, 8 * kPmdSize) == Errno::Ok);
        Mm& a = sharer(w, kBase, kProtRead, 0, 32 * kPmdSize);
        CHECK_EQ(w.file->size(), 8 * kPmdSize);
        CHECK(w.read(a, kBase + 20 * kPmdSize) == FaultKind::Bus);
        sharer(w, kBase, kRw, 0, 16 * kPmdSize);
        CHECK_EQ(w.file->size(), 16 * kPmdSize);
    });
}

TEST(small_pages_of_the_file_are_collapsed) {
    huge([](World& w) {
        CHECK(w.kernel.truncate(*w.file, kPmdSize + kPages) == Errno::Ok);
        Mm& a = w.kernel.create_mm();
        CHECK(w.map(a, kBase, kPmdSize, kRw, kPtFile, w.file).error == Errno::Invalid);
        CHECK_EQ(w.refused(Refusal::Size), 1U);
        CHECK(w.kernel.truncate(*w.file, 2 * kPmdSize) == Errno::Ok);
        CHECK(w.map(a, kBase, kPmdSize, kRw, kSharedFile, w.file).ok());
        w.write(a, kBase + 3 * kPages);
        w.kernel.take_effects();
        const VirtAddr huge_at = kBase + kPmdSize;
        CHECK(w.map(a, huge_at, kPmdSize, kRw, kPtFile, w.file).ok());
        CHECK_EQ(w.kernel.take_effects().flushes.size(), 1U);
        CHECK(w.file->huge());
        CHECK_EQ(a.rss_file, 0U);
        CHECK_EQ(w.kernel.frames().in_use(FrameUse::FilePage), 512U);
        // Small leaves of the same frames.
        w.read(a, kBase + 3 * kPages);
        w.read(a, huge_at);
        CHECK(World::leaf(a, kBase + 3 * kPages).pfn() ==
              a.table.leaf(huge_at)->frame_of(huge_at + 3 * kPages));
        CHECK_EQ(a.rss_file, 1U);
        CHECK_EQ(a.rss_huge, 512U);
    });
}

TEST(freed_2_mib_pages_are_used_again) {
    KernelConfig with = big();
    with.memory_bytes = 8ULL << 20;  // holds two 2 MiB pages beside the rest
    in_world("hugetlb-pmd", with, [](World& w) {
        Mm& a = w.guest(kPmdSize);
        for (int i = 0; i < 20; ++i) {
            w.write(a, kBase);
            CHECK(w.kernel.truncate(*w.file, 0) == Errno::Ok);
            CHECK(w.kernel.truncate(*w.file, kPmdSize) == Errno::Ok);
        }
        // Broken up when nothing else is left.
        CHECK(w.map(a, kBase + kPudSize, 1200 * kPages, kRw, kAnonymous).ok());
        for (std::uint64_t i = 0; i < 1200; ++i) w.write(a, kBase + kPudSize + i * kPages);
        CHECK_EQ(w.kernel.frames().in_use(FrameUse::AnonPage), 1200U);
    });
}

TEST(a_kernel_may_end_while_tables_are_shared) {
    World w("hugetlb-pmd", big());
    CHECK(w.kernel.truncate(*w.file, kPudSize) == Errno::Ok);
    touch(w, sharer(w), kBase, 2);
    touch(w, sharer(w), kBase, 2);
}

TEST(a_snapshot_holds_shared_tables) {
    huge([](World& w) {
        Mm& a = sharer(w);
        Mm& b = sharer(w);
        Mm& c = sharer(w, kBase + kPmdSize);
        for (Mm* mm : {&a, &b, &c}) touch(w, *mm, kBase + kPmdSize, 3);
        CHECK(w.kernel.truncate(*w.file, 3 * kPmdSize) == Errno::Ok);
        touch(w, a, kBase, 2);
        std::stringstream saved;
        save(w.kernel, saved);
        FrameContents contents;
        Kernel other(w.kernel.config(), make_policy("hugetlb-pmd"), contents);
        const FilesById files = restore(other, saved);
        CHECK_EQ(audit(other).size(), 0U);
        CHECK(files.at(w.file->id())->huge());
        CHECK_EQ(other.hosts().size(), 1U);
        CHECK(other.hosts()[0]->of_one_table());
        CHECK_EQ(other.find_mm(a.id)->vm_pte_bytes(), a.vm_pte_bytes());
        std::stringstream again;
        save(other, again);
        CHECK(again.str() == saved.str());
        // It goes on: b links the same table and leaves it.
        const FaultResult linked = other.fault(*other.find_mm(b.id), kBase, Access::Read);
        CHECK(linked.kind == FaultKind::Link || linked.kind == FaultKind::Spurious);
        for (const Mm* mm : {&a, &b, &c}) other.exit(*other.find_mm(mm->id));
        CHECK(other.hosts().empty());
        CHECK_EQ(other.frames().in_use(FrameUse::Table), 0U);
    });
}
