// mmap, munmap, mprotect, mremap, madvise, brk, ftruncate where no table is shared: answers,
// tables, flushes.
#include "world.h"

using namespace ptshare;
using namespace ptshare::test;

namespace {

constexpr std::uint64_t kMayMove = 1;
constexpr std::uint64_t kRemapFixed = 2;
constexpr int kDontNeed = 4;

}  // namespace

TEST(mmap_refuses_what_linux_refuses) {
    in_world("private", [](World& w) {
        Mm& mm = w.kernel.create_mm();
        const auto error = [&](std::uint64_t at, std::uint64_t length, std::uint64_t prot,
                               std::uint64_t flags, bool file, bool writable = true) {
            return w
                .map(mm, VirtAddr(at), length, prot, flags, file ? w.file : nullptr, 0, writable)
                .error;
        };
        const std::uint64_t anon = kMapPrivate | kMapAnonymous;
        CHECK(error(0, 0, kRw, anon, false) == Errno::Invalid);
        CHECK(error(0, kPages, kRw, kMapAnonymous, false) == Errno::Invalid);      // no type
        CHECK(error(0, kPages, kRw, kMapAnonymous | 4, false) == Errno::Invalid);  // unknown type
        CHECK(error(0, kPages, kRw, kMapSharedValidate | kMapAnonymous, false) == Errno::Invalid);
        CHECK(error(0, kPages, kRw, kMapShared | kMapGrowsDown, true) == Errno::Invalid);
        CHECK(error(kBase.value + 1, kPages, kRw, anon | kMapFixed, false) == Errno::Invalid);
        CHECK(error(0, ~0ULL, kRw, anon, false) == Errno::NoMemory);  // wraps when rounded up
        CHECK(error(0, 1ULL << 47, kRw, anon, false) == Errno::NoMemory);
        CHECK(error((1ULL << 47) - kPages, 2 * kPages, kRw, anon | kMapFixed, false) ==
              Errno::NoMemory);
        CHECK(error(0, kPages, kRw, kMapShared, true, false) == Errno::Access);
        CHECK(error(0, kPages, kRw, kMapPrivate, true, false) == Errno::Ok);
        CHECK(error(0, kPages, kProtRead, kMapShared, true, false) == Errno::Ok);
        CHECK(error(kBase.value, kPages, kRw, anon | kMapFixed, false) == Errno::Ok);
        CHECK(error(kBase.value, kPages, kRw, anon | kMapFixedNoReplace, false) == Errno::Exists);
        MapRequest misaligned;
        misaligned.length = kPages;
        misaligned.flags = kMapShared;
        misaligned.file = w.file;
        misaligned.offset = 1;
        CHECK(w.kernel.mmap(mm, misaligned).error == Errno::Invalid);
        misaligned.offset = 0;
        misaligned.file_readable = false;
        CHECK(w.kernel.mmap(mm, misaligned).error == Errno::Access);
    });
}

TEST(mmap_places_top_down_and_takes_free_hints) {
    in_world("private", [](World& w) {
        Mm& mm = w.kernel.create_mm();
        const std::uint64_t anon = kMapPrivate | kMapAnonymous;
        const auto at = [&](std::uint64_t hint, std::uint64_t pages) {
            return w.map(mm, VirtAddr(hint), pages * kPages, kProtRead, anon).address;
        };
        const VirtAddr first = at(0, 4);
        CHECK(first == w.kernel.task_size() - (128ULL << 20) - 4 * kPages);
        CHECK(at(0, 2) == first - 2 * kPages);
        CHECK(at(kBase.value + 5, 1) == kBase);           // rounded down
        CHECK(at(kBase.value, 1) == first - 3 * kPages);  // taken
        CHECK(at(0x1000, 1) == VirtAddr(0x10000));        // raised to vm.mmap_min_addr
        CHECK(w.kernel.munmap(mm, first, 4 * kPages) == Errno::Ok);
        CHECK(at(0, 3) == first + kPages);  // the highest hole that is large enough
    });
}

TEST(mmap_over_a_mapping_replaces_that_part) {
    in_world("private", [](World& w) {
        Mm& mm = w.kernel.create_mm();
        CHECK(w.map(mm, kBase, 8 * kPages, kRw, kAnonymous).ok());
        for (int i = 0; i < 8; ++i) w.write(mm, kBase + static_cast<unsigned>(i) * kPages);
        w.kernel.take_effects();
        CHECK(w.map(mm, kBase + 2 * kPages, 3 * kPages, kProtRead, kSharedFile, w.file).ok());
        const Effects effects = w.kernel.take_effects();
        CHECK_EQ(effects.ptes_changed, 3U);
        CHECK_EQ(effects.flushes.size(), 1U);
        CHECK(effects.flushes[0].targets[0].start == kBase + 2 * kPages);
        CHECK(effects.flushes[0].targets[0].end == kBase + 5 * kPages);
        CHECK_EQ(mm.vmas.size(), 3U);
        CHECK_EQ(mm.rss_anon, 5U);
    });
}

TEST(mmap_populates) {
    in_world("private", config(64 << 10), [](World& w) {
        Mm& mm = w.kernel.create_mm();
        CHECK(w.map(mm, kBase, 8 * kPages, kRw, kSharedFile | kMapPopulate, w.file).ok());
        CHECK_EQ(mm.rss_file, 8U);
        CHECK(!w.leaf(mm, kBase).dirty());  // shared pages are populated by reads
        CHECK(w.map(mm, kBase + kPmdSize, 8 * kPages, kRw, kAnonymous | kMapPopulate).ok());
        CHECK_EQ(mm.rss_anon, 8U);
        w.kernel.truncate(*w.file, 3 * kPages);
        Mm& other = w.kernel.create_mm();
        CHECK(w.map(other, kBase, 8 * kPages, kRw, kSharedFile | kMapPopulate, w.file).ok());
        CHECK_EQ(other.rss_file, 3U);  // no signal for what is beyond the file
    });
}

TEST(munmap_frees_tables_as_free_pgtables) {
    in_world("private", [](World& w) {
        Mm& mm = w.kernel.create_mm();
        CHECK(w.map(mm, kBase, 3 * kPmdSize, kRw, kAnonymous).ok());
        for (std::uint64_t i = 0; i < 3; ++i) w.write(mm, kBase + i * kPmdSize + kPages);
        CHECK_EQ(w.own_tables(mm), 6U);  // PGD, PUD, PMD, 3 PTE
        w.kernel.take_effects();

        // A part of a chunk: its table stays, other pages of the VMA use it.
        CHECK(w.kernel.munmap(mm, kBase + kPmdSize, kPages * 2) == Errno::Ok);
        Effects effects = w.kernel.take_effects();
        CHECK_EQ(w.own_tables(mm), 6U);
        CHECK_EQ(effects.flushes.size(), 1U);
        CHECK(!effects.flushes[0].tables_freed);
        CHECK_EQ(mm.vmas.size(), 2U);
        // The rest of it: now the whole span is a hole.
        CHECK(w.kernel.munmap(mm, kBase + kPmdSize + 2 * kPages, kPmdSize - 2 * kPages) ==
              Errno::Ok);
        effects = w.kernel.take_effects();
        CHECK_EQ(w.own_tables(mm), 5U);
        CHECK_EQ(effects.tables_freed, 1U);
        CHECK_EQ(effects.ptes_changed, 0U);
        CHECK_EQ(effects.flushes.size(), 1U);
        CHECK(effects.flushes[0].tables_freed);
        // All: everything but the root.
        CHECK(w.kernel.munmap(mm, kBase, 3 * kPmdSize) == Errno::Ok);
        CHECK_EQ(w.own_tables(mm), 1U);
        CHECK_EQ(w.kernel.take_effects().flushes.size(), 1U);
        CHECK(w.kernel.munmap(mm, kBase, 3 * kPmdSize) == Errno::Ok);  // a hole is no error
        CHECK_EQ(w.kernel.take_effects().flushes.size(), 0U);
    });
}

TEST(munmap_checks_its_arguments) {
    in_world("private", [](World& w) {
        Mm& mm = w.kernel.create_mm();
        CHECK(w.kernel.munmap(mm, kBase + 1, kPages) == Errno::Invalid);
        CHECK(w.kernel.munmap(mm, kBase, 0) == Errno::Invalid);
        CHECK(w.kernel.munmap(mm, kBase, ~0ULL) == Errno::Invalid);
        CHECK(w.kernel.munmap(mm, w.kernel.task_size(), kPages) == Errno::Invalid);
    });
}

TEST(mprotect_takes_rights_and_gives_them_back) {
    in_world("private", [](World& w) {
        Mm& mm = w.kernel.create_mm();
        CHECK(w.map(mm, kBase, 8 * kPages, kRw, kAnonymous).ok());
        w.write(mm, kBase);
        w.write(mm, kBase + 4 * kPages);
        const Pfn page = w.leaf(mm, kBase).pfn();
        w.kernel.take_effects();

        CHECK(w.kernel.mprotect(mm, kBase, 2 * kPages, 0) == Errno::Ok);
        Effects effects = w.kernel.take_effects();
        CHECK_EQ(effects.ptes_changed, 1U);
        CHECK_EQ(effects.flushes.size(), 1U);
        CHECK(!w.leaf(mm, kBase).present());
        CHECK(w.leaf(mm, kBase).pfn() == page);
        CHECK(w.read(mm, kBase) == FaultKind::Segv);
        CHECK_EQ(mm.vmas.size(), 2U);
        CHECK_EQ(mm.rss_anon, 2U);

        CHECK(w.kernel.mprotect(mm, kBase, 2 * kPages, kRw) == Errno::Ok);
        effects = w.kernel.take_effects();
        CHECK_EQ(effects.flushes.size(), 0U);  // nobody can hold an entry that was not present
        CHECK(w.leaf(mm, kBase).permits(Access::Write));
        CHECK_EQ(mm.vmas.size(), 1U);  // joined again

        CHECK(w.kernel.mprotect(mm, kBase, 8 * kPages, kRw) == Errno::Ok);
        CHECK_EQ(w.kernel.take_effects().ptes_changed, 0U);
        CHECK(w.kernel.mprotect(mm, kBase, 8 * kPages, kRw | kProtExec) == Errno::Ok);
        CHECK(w.leaf(mm, kBase).permits(Access::Fetch));
        effects = w.kernel.take_effects();
        CHECK_EQ(effects.ptes_changed, 2U);
        CHECK_EQ(effects.flushes.size(), 1U);
    });
}

TEST(mprotect_errors) {
    in_world("private", [](World& w) {
        Mm& mm = w.kernel.create_mm();
        CHECK(w.map(mm, kBase, 2 * kPages, kRw, kAnonymous).ok());
        CHECK(w.map(mm, kBase + 3 * kPages, kPages, kRw, kAnonymous).ok());
        w.write(mm, kBase + kPages);
        w.write(mm, kBase + 3 * kPages);
        CHECK(w.kernel.mprotect(mm, kBase + 1, kPages, kRw) == Errno::Invalid);
        CHECK(w.kernel.mprotect(mm, kBase, kPages, 64) == Errno::Invalid);
        CHECK(w.kernel.mprotect(mm, kBase, 0, kRw) == Errno::Ok);
        CHECK(w.kernel.mprotect(mm, kBase, ~0ULL, kRw) == Errno::NoMemory);
        // A hole: what lies before it is changed, as in Linux, and flushed; what lies behind is
        // not.
        w.kernel.take_effects();
        CHECK(w.kernel.mprotect(mm, kBase, 4 * kPages, kProtRead) == Errno::NoMemory);
        CHECK(!w.leaf(mm, kBase + kPages).writable());
        CHECK(w.leaf(mm, kBase + 3 * kPages).writable());
        CHECK_EQ(w.kernel.take_effects().flushes.size(), 1U);

        const VirtAddr b = kBase + kPmdSize;
        CHECK(w.map(mm, b, 4 * kPages, kProtRead, kSharedFile, w.file, 0, false).ok());
        const std::size_t before = mm.vmas.size();
        CHECK(w.kernel.mprotect(mm, b + kPages, kPages, kRw) == Errno::Access);
        CHECK_EQ(mm.vmas.size(), before);  // not even split
    });
}

TEST(mprotect_over_several_areas_flushes_once) {
    in_world("private", [](World& w) {
        Mm& mm = w.kernel.create_mm();
        CHECK(w.map(mm, kBase, kPages, kRw, kAnonymous).ok());
        CHECK(w.map(mm, kBase + kPages, kPages, kRw | kProtExec, kAnonymous).ok());
        w.write(mm, kBase);
        w.write(mm, kBase + kPages);
        w.kernel.take_effects();
        CHECK(w.kernel.mprotect(mm, kBase, 2 * kPages, kProtRead) == Errno::Ok);
        const Effects effects = w.kernel.take_effects();
        CHECK_EQ(effects.flushes.size(), 1U);
        CHECK(effects.flushes[0].targets[0].start == kBase);
        CHECK(effects.flushes[0].targets[0].end == kBase + 2 * kPages);
    });
}

TEST(mremap_shrinks_grows_and_moves) {
    in_world("private", [](World& w) {
        Mm& mm = w.kernel.create_mm();
        CHECK(w.map(mm, kBase, 4 * kPages, kRw, kSharedFile, w.file).ok());
        for (std::uint64_t i = 0; i < 4; ++i) w.write(mm, kBase + i * kPages);
        const VirtAddr none(0);
        // Shrink: in place, the tail is unmapped.
        CHECK(w.kernel.mremap(mm, kBase, 4 * kPages, 2 * kPages, 0, none).address == kBase);
        CHECK_EQ(mm.rss_file, 2U);
        // Grow: in place where there is room; file pages continue.
        CHECK(w.kernel.mremap(mm, kBase, 2 * kPages, 6 * kPages, 0, none).address == kBase);
        CHECK_EQ(mm.vmas.size(), 1U);
        w.read(mm, kBase + 5 * kPages);
        CHECK(w.leaf(mm, kBase + 5 * kPages).pfn() == w.file->cached(5));
        // No room: ENOMEM, or another place.
        CHECK(w.map(mm, kBase + 6 * kPages, kPages, kRw, kAnonymous).ok());
        CHECK(w.kernel.mremap(mm, kBase, 6 * kPages, 8 * kPages, 0, none).error == Errno::NoMemory);
        const Pte before = w.leaf(mm, kBase + kPages);
        w.kernel.take_effects();
        const MapResult moved = w.kernel.mremap(mm, kBase, 6 * kPages, 8 * kPages, kMayMove, none);
        CHECK(moved.ok() && moved.address != kBase);
        CHECK(w.leaf(mm, moved.address + kPages) == before);
        CHECK(w.leaf(mm, kBase + kPages).none());
        const Effects effects = w.kernel.take_effects();
        CHECK_EQ(effects.flushes.size(), 1U);
        CHECK(effects.flushes[0].targets[0].start == kBase);
        CHECK(!effects.flushes[0].tables_freed);  // the neighbour keeps the old table
        CHECK_EQ(mm.rss_file, 3U);
        CHECK(mm.find(moved.address)->end == moved.address + 8 * kPages);
    });
}

TEST(mremap_to_a_fixed_place_replaces_what_is_there) {
    in_world("private", [](World& w) {
        Mm& mm = w.kernel.create_mm();
        const VirtAddr to = kBase + 5 * kPmdSize;
        CHECK(w.map(mm, kBase, 2 * kPages, kRw, kAnonymous).ok());
        CHECK(w.map(mm, to, 4 * kPages, kRw, kAnonymous).ok());
        w.write(mm, kBase);
        w.write(mm, to);
        w.write(mm, to + 3 * kPages);
        const Pfn page = w.leaf(mm, kBase).pfn();
        w.kernel.take_effects();
        CHECK(w.kernel.mremap(mm, kBase, 2 * kPages, 2 * kPages, kMayMove | kRemapFixed, to)
                  .address == to);
        CHECK(w.leaf(mm, to).pfn() == page);
        CHECK_EQ(mm.rss_anon, 2U);
        CHECK_EQ(w.own_tables(mm), 4U);  // the old chunk's PTE table is gone
        CHECK_EQ(w.kernel.take_effects().tables_freed, 1U);
    });
}

TEST(mremap_errors) {
    in_world("private", [](World& w) {
        Mm& mm = w.kernel.create_mm();
        CHECK(w.map(mm, kBase, 4 * kPages, kRw, kAnonymous).ok());
        const auto error = [&](VirtAddr at, std::uint64_t old_length, std::uint64_t length,
                               std::uint64_t flags, VirtAddr to = VirtAddr(0)) {
            return w.kernel.mremap(mm, at, old_length, length, flags, to).error;
        };
        CHECK(error(kBase + 1, kPages, kPages, 0) == Errno::Invalid);
        CHECK(error(kBase, kPages, 0, 0) == Errno::Invalid);
        CHECK(error(kBase, kPages, kPages, kRemapFixed, kBase + kPmdSize) == Errno::Invalid);
        CHECK(error(kBase, kPages, kPages, 8) == Errno::Invalid);
        CHECK(error(kBase, 5 * kPages, 8 * kPages, kMayMove) == Errno::Fault);
        CHECK(error(kBase - kPages, kPages, 2 * kPages, kMayMove) == Errno::Fault);
        CHECK(error(kBase, 4 * kPages, ~0ULL, kMayMove) == Errno::NoMemory);
        const std::uint64_t fixed = kMayMove | kRemapFixed;
        CHECK(error(kBase, 4 * kPages, 4 * kPages, fixed, kBase + kPages) == Errno::Invalid);
        CHECK(error(kBase, 4 * kPages, 4 * kPages, fixed, kBase + kPmdSize + 1) == Errno::Invalid);
        CHECK_EQ(mm.vmas.size(), 1U);
    });
}

TEST(madvise_dontneed_drops_pages) {
    in_world("private", [](World& w) {
        Mm& mm = w.kernel.create_mm();
        CHECK(w.map(mm, kBase, 2 * kPages, kRw, kAnonymous).ok());
        CHECK(w.map(mm, kBase + 3 * kPages, kPages, kRw, kAnonymous).ok());
        w.write(mm, kBase);
        w.write(mm, kBase + 3 * kPages);
        w.kernel.take_effects();
        CHECK(w.kernel.madvise(mm, kBase, 2 * kPages, kDontNeed) == Errno::Ok);
        CHECK_EQ(w.kernel.take_effects().flushes.size(), 1U);
        CHECK(w.read(mm, kBase) == FaultKind::Anon);
        CHECK(w.leaf(mm, kBase).pfn() == w.kernel.zero_page());
        // Over a hole: done on both sides, then ENOMEM.
        CHECK(w.kernel.madvise(mm, kBase, 4 * kPages, kDontNeed) == Errno::NoMemory);
        CHECK_EQ(mm.rss_anon, 0U);
        CHECK(w.kernel.madvise(mm, kBase, kPages, 3) == Errno::Ok);  // MADV_WILLNEED
        CHECK(w.kernel.madvise(mm, kBase, kPages, 99) == Errno::Invalid);
        CHECK(w.kernel.madvise(mm, kBase + 1, kPages, kDontNeed) == Errno::Invalid);
        CHECK(w.kernel.madvise(mm, kBase, ~0ULL, kDontNeed) == Errno::Invalid);
        CHECK(w.kernel.madvise(mm, kBase, 0, kDontNeed) == Errno::Ok);
    });
}

TEST(brk_moves_the_heaps_end) {
    in_world("private", [](World& w) {
        Mm& mm = w.kernel.create_mm();
        CHECK(w.kernel.brk(mm, VirtAddr(0x5000)) == VirtAddr(0));  // before exec: no heap
        CHECK(mm.vmas.empty());
        mm.brk_start = mm.brk = kBase + 100;
        CHECK(w.kernel.brk(mm, VirtAddr(0)) == kBase + 100);
        CHECK(w.kernel.brk(mm, kBase + 3 * kPages) == kBase + 3 * kPages);
        CHECK_EQ(mm.vmas.size(), 1U);
        CHECK(w.write(mm, kBase + kPages) == FaultKind::Anon);
        CHECK(w.kernel.brk(mm, kBase + 4 * kPages) == kBase + 4 * kPages);
        CHECK_EQ(mm.vmas.size(), 1U);  // joined
        CHECK(w.kernel.brk(mm, kBase + kPages) == kBase + kPages);
        CHECK_EQ(mm.rss_anon, 0U);
        CHECK(w.map(mm, kBase + 2 * kPages, kPages, kRw, kAnonymous).ok());
        CHECK(w.kernel.brk(mm, kBase + 8 * kPages) == kBase + kPages);  // something is in the way
    });
}

TEST(truncate_takes_pages_from_every_mapping) {
    in_world("private", [](World& w) {
        Mm& a = w.kernel.create_mm();
        Mm& b = w.kernel.create_mm();
        CHECK(w.map(a, kBase, 8 * kPages, kRw, kSharedFile, w.file, 2).ok());
        CHECK(w.map(b, kBase, 8 * kPages, kRw, kMapPrivate | kMapFixed, w.file, 0).ok());
        for (std::uint64_t i = 0; i < 8; ++i) {
            w.write(a, kBase + i * kPages);
            w.write(b, kBase + i * kPages);
        }
        w.kernel.take_effects();
        w.kernel.truncate(*w.file, 4 * kPages + 1);  // pages 0..4 stay
        CHECK_EQ(a.rss_file, 3U);
        CHECK_EQ(b.rss_anon, 5U);  // private copies beyond the end go as well
        CHECK_EQ(w.kernel.take_effects().flushes.size(), 2U);
        CHECK_EQ(w.kernel.frames().in_use(FrameUse::FilePage), 5U);
        CHECK(w.read(a, kBase + 3 * kPages) == FaultKind::Bus);
        CHECK(w.read(b, kBase + 5 * kPages) == FaultKind::Bus);
        w.kernel.truncate(*w.file, 8 * kPages);
        CHECK(w.read(a, kBase + 3 * kPages) == FaultKind::File);
        CHECK_EQ(w.kernel.take_effects().flushes.size(), 0U);
    });
}
