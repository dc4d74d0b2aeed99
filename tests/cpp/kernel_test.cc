// The kernel where nothing is shared but pages: faults, fork, and what mmap answers. The policy
// does not matter here, so each test runs under both.
#include "world.h"

using namespace ptshare;
using namespace ptshare::test;

namespace {

void under_both(const KernelConfig& with, const std::function<void(World&)>& body) {
    for (const char* policy : {"private", "ptshare"}) in_world(policy, with, body);
}
void under_both(const std::function<void(World&)>& body) {
    under_both(config(), body);
}

// Brings pages [first, last) of the file into the page cache.
void cache_pages(World& w, std::uint64_t first, std::uint64_t last) {
    for (std::uint64_t i = first; i < last; ++i) w.file->page(i);
}

}  // namespace

TEST(fault_reads_the_zero_page_then_copies_it) {
    under_both([](World& w) {
        Mm& mm = w.kernel.create_mm();
        CHECK(w.map(mm, kBase, 4 * kPages, kRw, kAnonymous).ok());
        CHECK(w.read(mm, kBase + 8) == FaultKind::Anon);
        CHECK(w.leaf(mm, kBase).pfn() == w.kernel.zero_page());
        CHECK(!w.leaf(mm, kBase).writable());
        CHECK_EQ(mm.rss_anon, 0U);
        w.kernel.take_effects();
        CHECK(w.write(mm, kBase) == FaultKind::Cow);
        CHECK_EQ(w.kernel.take_effects().flushes.size(), 1U);  // the zero page was translated
        CHECK(w.write(mm, kBase) == FaultKind::Spurious);
        CHECK(w.write(mm, kBase + kPages) == FaultKind::Anon);
        CHECK_EQ(mm.rss_anon, 2U);
        CHECK_EQ(w.kernel.take_effects().flushes.size(), 0U);
    });
}

TEST(fault_on_a_private_file_page_copies_on_write) {
    under_both([](World& w) {
        Mm& mm = w.kernel.create_mm();
        CHECK(w.map(mm, kBase, 4 * kPages, kRw, kMapPrivate | kMapFixed, w.file, 3).ok());
        CHECK(w.read(mm, kBase) == FaultKind::File);
        CHECK(w.leaf(mm, kBase).pfn() == w.file->cached(3));
        CHECK_EQ(mm.rss_file, 1U);
        CHECK(w.write(mm, kBase) == FaultKind::Cow);
        CHECK(w.leaf(mm, kBase).pfn() != w.file->cached(3));
        CHECK_EQ(mm.rss_file, 0U);
        CHECK_EQ(mm.rss_anon, 1U);
        CHECK(w.write(mm, kBase + kPages) == FaultKind::Cow);  // without reading first
    });
}

TEST(fault_on_a_shared_file_page_is_writable_at_once) {
    under_both([](World& w) {
        Mm& mm = w.kernel.create_mm();
        CHECK(w.map(mm, kBase, 4 * kPages, kRw, kSharedFile, w.file).ok());
        CHECK(w.read(mm, kBase) == FaultKind::File);
        CHECK(w.leaf(mm, kBase).writable() && !w.leaf(mm, kBase).dirty());
        CHECK(w.write(mm, kBase + kPages) == FaultKind::File);
        CHECK(w.leaf(mm, kBase + kPages).dirty());
    });
}

TEST(fault_with_dirty_tracking_takes_a_second_fault_for_the_first_write) {
    KernelConfig with = config();
    with.dirty_tracking = true;
    under_both(with, [](World& w) {
        Mm& mm = w.kernel.create_mm();
        CHECK(w.map(mm, kBase, 4 * kPages, kRw, kSharedFile, w.file).ok());
        CHECK(w.read(mm, kBase) == FaultKind::File);
        CHECK(!w.leaf(mm, kBase).writable());
        CHECK(w.write(mm, kBase) == FaultKind::WriteProtect);
        CHECK(w.leaf(mm, kBase).writable() && w.leaf(mm, kBase).dirty());
        CHECK(w.read(mm, kBase + kPages) == FaultKind::File);
        // Only the page that is dirty gets its write bit back from mprotect.
        CHECK(w.kernel.mprotect(mm, kBase, 4 * kPages, kProtRead) == Errno::Ok);
        CHECK(w.kernel.mprotect(mm, kBase, 4 * kPages, kRw) == Errno::Ok);
        CHECK(w.leaf(mm, kBase).writable());
        CHECK(!w.leaf(mm, kBase + kPages).writable());
    });
}

TEST(fault_without_the_right_is_a_segv_and_past_the_file_a_bus_error) {
    under_both([](World& w) {
        Mm& mm = w.kernel.create_mm();
        w.file->resize(2 * kPages + 1);
        CHECK(w.map(mm, kBase, 4 * kPages, kProtRead, kSharedFile, w.file).ok());
        CHECK(w.write(mm, kBase) == FaultKind::Segv);
        CHECK(w.kernel.fault(mm, kBase, Access::Fetch).kind == FaultKind::Segv);
        CHECK(w.read(mm, kBase - 1) == FaultKind::Segv);
        CHECK(w.read(mm, kBase + 4 * kPages) == FaultKind::Segv);
        CHECK(w.read(mm, w.kernel.task_size()) == FaultKind::Segv);
        CHECK(w.read(mm, kBase + 2 * kPages) == FaultKind::File);  // holds the last byte
        CHECK(w.read(mm, kBase + 3 * kPages) == FaultKind::Bus);
        CHECK(w.write(mm, kBase + 3 * kPages) == FaultKind::Segv);  // rights come first
        CHECK_EQ(mm.rss_file, 1U);
    });
}

// Windows by hand, after do_fault_around: from = max(aligned, first of the VMA), to = from + 16,
// cut at the VMA's end and at the end of the PTE table. Page numbers are those within the 2 MiB
// chunk.
TEST(fault_around_maps_the_kernels_window) {
    under_both(config(64 << 10), [](World& w) {
        cache_pages(w, 0, 2048);
        Mm& mm = w.kernel.create_mm();
        const auto around = [&](VirtAddr at) {
            const FaultResult result = w.kernel.fault(mm, at, Access::Read);
            CHECK(result.kind == FaultKind::File);
            return result.around;
        };
        const auto present = [&](VirtAddr from, std::uint64_t pages) {
            std::uint64_t n = 0;
            for (std::uint64_t i = 0; i < pages; ++i) {
                n += w.leaf(mm, from + i * kPages).present() ? 1 : 0;
            }
            return n;
        };
        // In the middle: 20 -> [16, 32).
        CHECK(w.map(mm, kBase, 64 * kPages, kProtRead, kSharedFile, w.file).ok());
        CHECK_EQ(around(kBase + 20 * kPages), 15U);
        CHECK_EQ(present(kBase + 16 * kPages, 16), 16U);
        CHECK_EQ(present(kBase, 64), 16U);

        // A VMA of pages 5..24: 7 -> [5, 21), for the window is 16 pages from where it starts.
        const VirtAddr b = kBase + kPmdSize;
        CHECK(w.map(mm, b + 5 * kPages, 20 * kPages, kProtRead, kSharedFile, w.file).ok());
        CHECK_EQ(around(b + 7 * kPages), 15U);
        CHECK_EQ(present(b + 5 * kPages, 16), 16U);
        CHECK_EQ(present(b + 21 * kPages, 4), 0U);
        // 24 -> [16, 25): 16..20 are there already, 21..23 come along.
        CHECK_EQ(around(b + 24 * kPages), 3U);
        CHECK_EQ(present(b, 512), 20U);

        // A VMA over a table's end, pages 510..529: 511 -> [510, 512), then 3 -> [0, 16).
        const VirtAddr c = kBase + 2 * kPmdSize;
        CHECK(w.map(mm, c + 510 * kPages, 20 * kPages, kProtRead, kSharedFile, w.file).ok());
        CHECK_EQ(around(c + 511 * kPages), 1U);
        CHECK_EQ(present(c + 510 * kPages, 20), 2U);
        CHECK_EQ(around(c + 515 * kPages), 15U);
        CHECK_EQ(present(c + 510 * kPages, 20), 18U);
    });
}

TEST(fault_around_maps_cached_pages_of_the_file_only_and_none_for_writes) {
    under_both(config(64 << 10), [](World& w) {
        Mm& mm = w.kernel.create_mm();
        w.file->resize(10 * kPages);
        for (std::uint64_t i = 0; i < 10; i += 2) w.file->page(i);
        CHECK(w.map(mm, kBase, 64 * kPages, kRw, kSharedFile, w.file).ok());
        // Page 3 is not cached: 0, 2, 4, 6, 8 come along, then 3 is read.
        CHECK_EQ(w.kernel.fault(mm, kBase + 3 * kPages, Access::Read).around, 5U);
        CHECK_EQ(mm.rss_file, 6U);
        CHECK_EQ(w.kernel.fault(mm, kBase + 5 * kPages, Access::Write).around, 0U);
        CHECK_EQ(mm.rss_file, 7U);
        CHECK(w.kernel.fault(mm, kBase + 10 * kPages, Access::Read).kind == FaultKind::Bus);
    });
}

TEST(fork_shares_private_pages_until_one_writes) {
    under_both([](World& w) {
        Mm& parent = w.kernel.create_mm();
        CHECK(w.map(parent, kBase, 2 * kPages, kRw, kAnonymous).ok());
        CHECK(w.map(parent, kBase + kPmdSize, 2 * kPages, kRw, kAnonymous).ok());
        w.write(parent, kBase);
        w.write(parent, kBase + kPages);
        w.write(parent, kBase + kPmdSize);
        w.kernel.take_effects();

        Mm& child = w.kernel.fork(parent);
        const Effects effects = w.kernel.take_effects();
        CHECK_EQ(effects.ptes_copied, 3U);
        CHECK_EQ(effects.flushes.size(), 1U);  // one for the whole parent, as dup_mmap
        CHECK(effects.flushes[0].targets[0].mm == parent.id);
        CHECK(!w.leaf(parent, kBase).writable());
        // The child has not accessed it yet (pte_mkold); what was written stays so.
        CHECK(w.leaf(parent, kBase).accessed() && w.leaf(child, kBase).dirty());
        CHECK(w.leaf(parent, kBase).without(Pte::kAccessed) == w.leaf(child, kBase));
        CHECK_EQ(child.rss_anon, 3U);
        CHECK_EQ(w.kernel.frames().in_use(FrameUse::AnonPage), 3U);

        CHECK(w.write(child, kBase) == FaultKind::Cow);
        CHECK(w.leaf(parent, kBase).pfn() != w.leaf(child, kBase).pfn());
        CHECK(w.write(parent, kBase) == FaultKind::WriteProtect);  // the only user now
        CHECK_EQ(w.kernel.frames().in_use(FrameUse::AnonPage), 4U);
        // mprotect must not hand out what is still shared.
        CHECK(w.kernel.mprotect(parent, kBase, 2 * kPages, kProtRead) == Errno::Ok);
        CHECK(w.kernel.mprotect(parent, kBase, 2 * kPages, kRw) == Errno::Ok);
        CHECK(w.leaf(parent, kBase).writable());
        CHECK(!w.leaf(parent, kBase + kPages).writable());
    });
}

TEST(fork_copies_no_pte_of_a_file_and_no_zero_page) {
    under_both([](World& w) {
        Mm& parent = w.kernel.create_mm();
        CHECK(w.map(parent, kBase, 8 * kPages, kRw, kSharedFile, w.file).ok());
        CHECK(w.map(parent, kBase + kPmdSize, 8 * kPages, kRw, kAnonymous).ok());
        CHECK(w.map(parent, kBase + 2 * kPmdSize, 8 * kPages, kRw,
                    kMapShared | kMapAnonymous | kMapFixed)
                  .ok());
        w.write(parent, kBase);
        w.read(parent, kBase + kPmdSize);
        w.write(parent, kBase + 2 * kPmdSize);
        Mm& child = w.kernel.fork(parent);
        CHECK_EQ(w.kernel.take_effects().ptes_copied, 0U);
        CHECK_EQ(w.own_tables(child), 1U);
        CHECK(w.write(child, kBase + 2 * kPmdSize) == FaultKind::File);
        CHECK(w.leaf(child, kBase + 2 * kPmdSize).pfn() ==
              w.leaf(parent, kBase + 2 * kPmdSize).pfn());
    });
}

TEST(threads_of_a_process_add_nothing_and_the_last_one_ends_it) {
    under_both([](World& w) {
        Mm& mm = w.guest();
        w.write(mm, kBase);
        const TableCounts before = w.kernel.tables().counts();
        w.kernel.share_mm(mm);
        CHECK(w.kernel.tables().counts() == before);
        CHECK(w.kernel.hosts().empty() || w.kernel.hosts()[0]->guests.size() == 1);
        const MmId id = mm.id;
        w.kernel.exit(mm);
        CHECK(w.kernel.find_mm(id) == &mm);
        CHECK(w.kernel.tables().counts() == before);
        w.kernel.exit(mm);
        CHECK(w.kernel.find_mm(id) == nullptr);
        CHECK_EQ(w.table_frames(), 0U);
    });
}

TEST(stack_grows_to_its_limit_and_not_beyond) {
    under_both([](World& w) {
        Mm& mm = w.kernel.create_mm();
        const VirtAddr top = kBase + 64 * kPmdSize;
        CHECK(w.map(mm, top - kPages, kPages, kRw, kAnonymous | kMapGrowsDown).ok());
        const VirtAddr deepest = top - (8ULL << 20);
        CHECK(w.write(mm, deepest - 1) == FaultKind::Segv);
        CHECK_EQ(mm.vmas.size(), 1U);
        CHECK(w.write(mm, deepest) == FaultKind::Anon);  // the lowest byte that it may have
        CHECK_EQ(mm.vmas.size(), 1U);
        CHECK(mm.find(deepest)->start == deepest);
        CHECK(w.write(mm, deepest - 1) == FaultKind::Segv);
        CHECK_EQ(mm.rss_anon, 1U);
    });
}

TEST(tables_have_five_levels_when_asked) {
    KernelConfig with = config();
    with.levels = 5;
    under_both(with, [](World& w) {
        Mm& mm = w.kernel.create_mm();
        CHECK(w.map(mm, kBase, kPages, kRw, kAnonymous).ok());
        w.write(mm, kBase);
        const TableCounts& counts = w.kernel.tables().counts();
        for (unsigned level = 0; level < kLevels; ++level) CHECK_EQ(counts.by_level[level], 1U);
    });
}
