// Which tables mremap makes at the new place and leaves at the old one (move_page_tables).
#include "world.h"

using namespace ptshare;
using namespace ptshare::test;

namespace {

constexpr std::uint64_t kMayMove = 1;
constexpr std::uint64_t kMove = 3;  // MREMAP_MAYMOVE | MREMAP_FIXED
constexpr int kDontNeed = 4;
constexpr VirtAddr kFar = kBase + 512 * kPudSize;  // another entry of the PGD

KernelConfig reclaiming(std::uint64_t memory_bytes = 256ULL << 20) {
    KernelConfig with = config();
    with.pt_reclaim = true;
    with.memory_bytes = memory_bytes;
    return with;
}
bool has_pte_table(const Mm& mm, VirtAddr at) {
    return mm.table.has_table(at, Level::Pte);
}
void move(World& w, Mm& mm, VirtAddr from, std::uint64_t length, VirtAddr to) {
    CHECK(w.kernel.mremap(mm, from, length, length, kMove, to).address == to);
}
void forget(World& w, Mm& mm, VirtAddr at, std::uint64_t length) {
    CHECK(w.kernel.madvise(mm, at, length, kDontNeed) == Errno::Ok);
}

}  // namespace

TEST(a_table_without_a_page_gives_the_new_place_one) {
    in_world("private", [](World& w) {
        Mm& mm = w.kernel.create_mm();
        CHECK(w.map(mm, kBase, 3 * kPmdSize, kRw, kAnonymous).ok());
        w.write(mm, kBase);
        w.write(mm, kBase + 2 * kPmdSize);
        forget(w, mm, kBase, kPmdSize);
        w.kernel.take_effects();
        move(w, mm, kBase, 3 * kPmdSize, kFar);
        CHECK(has_pte_table(mm, kFar));  // empty
        CHECK(!has_pte_table(mm, kFar + kPmdSize));
        CHECK(has_pte_table(mm, kFar + 2 * kPmdSize));
        CHECK(!w.leaf(mm, kFar + 2 * kPmdSize).none());
        CHECK_EQ(mm.vm_pte_bytes(), 4 * kPages);  // the old place's are gone
        const Effects effects = w.kernel.take_effects();
        CHECK_EQ(effects.tables_allocated, 4U);
        CHECK_EQ(effects.tables_freed, 4U);
        CHECK_EQ(effects.ptes_changed, 2U);
        CHECK(effects.flushes.at(0).tables_freed);
    });
}

TEST(steps_stay_within_one_table_on_both_sides) {
    in_world("private", [](World& w) {
        Mm& mm = w.kernel.create_mm();
        // Chunks 0 and 1 of the old place; only the first has a table.
        CHECK(w.map(mm, kBase, 2 * kPmdSize, kRw, kAnonymous).ok());
        w.write(mm, kBase);
        // A page further in: the old chunk 0 lies in the new chunks 0 and 1, chunk 1 in 1 and 2.
        move(w, mm, kBase, 2 * kPmdSize, kFar + kPages);
        CHECK(has_pte_table(mm, kFar));
        CHECK(has_pte_table(mm, kFar + kPmdSize));
        CHECK(!has_pte_table(mm, kFar + 2 * kPmdSize));
        CHECK(!w.leaf(mm, kFar + kPages).none());
        CHECK_EQ(mm.vm_pte_bytes(), 4 * kPages);
        // Back: both tables lie in the old chunk 0, or the first page of chunk 1's.
        move(w, mm, kFar + kPages, 2 * kPmdSize, kBase);
        CHECK(has_pte_table(mm, kBase));
        CHECK(has_pte_table(mm, kBase + kPmdSize));
        CHECK_EQ(mm.vm_pte_bytes(), 4 * kPages);
    });
}

TEST(a_part_leaves_the_rest_its_table) {
    in_world("private", [](World& w) {
        Mm& mm = w.kernel.create_mm();
        CHECK(w.map(mm, kBase, kPmdSize, kRw, kAnonymous).ok());
        w.write(mm, kBase);
        // Pages that were never touched, but the table is there.
        move(w, mm, kBase + 256 * kPages, 256 * kPages, kFar + 256 * kPages);
        CHECK(has_pte_table(mm, kBase) && has_pte_table(mm, kFar));
        CHECK_EQ(mm.vm_pte_bytes(), 6 * kPages);
    });
}

TEST(a_pmd_table_alone_gives_a_pud_table) {
    in_world("private", reclaiming(), [](World& w) {
        Mm& mm = w.kernel.create_mm();
        CHECK(w.map(mm, kBase, 2 * kPmdSize, kRw, kAnonymous).ok());
        w.write(mm, kBase);
        forget(w, mm, kBase, kPmdSize);
        CHECK_EQ(mm.vm_pte_bytes(), 2 * kPages);
        move(w, mm, kBase, 2 * kPmdSize, kFar);
        CHECK(mm.table.has_table(kFar, Level::Pud));
        CHECK(!mm.table.has_table(kFar, Level::Pmd));
        CHECK_EQ(mm.vm_pte_bytes(), kPages);
        // That in turn gives nothing.
        move(w, mm, kFar, 2 * kPmdSize, kBase);
        CHECK_EQ(mm.vm_pte_bytes(), 0U);
    });
}

TEST(a_whole_pmd_table_moves_without_pte_tables_too) {
    in_world("private", reclaiming(), [](World& w) {
        Mm& mm = w.kernel.create_mm();
        CHECK(w.map(mm, kBase, kPudSize, kRw, kAnonymous).ok());
        w.write(mm, kBase + 5 * kPmdSize);
        forget(w, mm, kBase, kPudSize);
        CHECK_EQ(mm.vm_pte_bytes(), 2 * kPages);
        move(w, mm, kBase, kPudSize, kFar);
        CHECK(mm.table.has_table(kFar, Level::Pmd));
        CHECK_EQ(mm.vm_pte_bytes(), 2 * kPages);
        // Not to a place that does not start a PUD entry.
        move(w, mm, kFar, kPudSize, kBase + kPmdSize);
        CHECK(!mm.table.has_table(kBase + kPmdSize, Level::Pmd));
        CHECK_EQ(mm.vm_pte_bytes(), kPages);
    });
}

TEST(what_is_grown_has_no_tables) {
    in_world("private", [](World& w) {
        Mm& mm = w.kernel.create_mm();
        CHECK(w.map(mm, kBase, kPmdSize, kRw, kAnonymous).ok());
        w.write(mm, kBase);
        CHECK(w.kernel.mremap(mm, kBase, kPmdSize, 3 * kPmdSize, kMove, kFar).address == kFar);
        CHECK_EQ(mm.table.tables(Level::Pte), 1U);
        CHECK(has_pte_table(mm, kFar));
        CHECK(mm.find(kFar)->end == kFar + 3 * kPmdSize);
        // In place.
        CHECK(w.kernel.mremap(mm, kFar, 3 * kPmdSize, 5 * kPmdSize, 0, VirtAddr(0)).ok());
        CHECK_EQ(mm.table.tables(Level::Pte), 1U);
        CHECK_EQ(mm.vmas.size(), 1U);
    });
}

TEST(memory_that_runs_out_leaves_nothing_at_the_new_place) {
    // Reserved 2; root, PUD, PMD and two PTE tables; a page: two frames are left, for a PUD and a
    // PMD table, and the destination needs two PTE tables more.
    in_world("private", reclaiming(10 * kPageSize), [](World& w) {
        Mm& mm = w.kernel.create_mm();
        CHECK(w.map(mm, kBase, 2 * kPmdSize, kRw, kAnonymous).ok());
        w.read(mm, kBase);
        w.write(mm, kBase + kPmdSize);
        CHECK_EQ(w.table_frames(), 5U);
        CHECK_THROWS(w.kernel.mremap(mm, kBase, 2 * kPmdSize, 2 * kPmdSize, kMove, kFar),
                     OutOfMemory, "exhausted");
        CHECK_EQ(w.table_frames(), 5U);
        CHECK(!mm.table.has_table(kFar, Level::Pud));
        CHECK(!w.leaf(mm, kBase).none() && !w.leaf(mm, kBase + kPmdSize).none());
        CHECK_EQ(mm.vmas.size(), 1U);
        CHECK(mm.vmas.begin()->first == kBase);
        CHECK_EQ(w.audit_lines(), 0U);
        // To a place that needs no upper tables it goes.
        move(w, mm, kBase, 2 * kPmdSize, kBase + 4 * kPmdSize);
    });
}

TEST(the_kernel_places_what_must_move_as_it_places_mmaps) {
    in_world("private", [](World& w) {
        Mm& mm = w.kernel.create_mm();
        CHECK(w.map(mm, kBase, 4 * kPages, kRw, kAnonymous).ok());
        CHECK(w.map(mm, kBase + 4 * kPages, kPages, kProtRead, kAnonymous).ok());
        const MapResult wide =
            w.kernel.mremap(mm, kBase, 4 * kPages, kPmdSize, kMayMove, VirtAddr(0));
        CHECK(wide.address == align_down(w.kernel.mmap_base(), kPmdSize) - kPmdSize);
        CHECK(w.map(mm, kBase, 4 * kPages, kRw, kSharedFile, w.file).ok());
        const MapResult file =
            w.kernel.mremap(mm, kBase, 4 * kPages, kPmdSize, kMayMove, VirtAddr(0));
        CHECK(file.address == wide.address - kPmdSize);
        CHECK(w.map(mm, kBase, 4 * kPages, kRw, kAnonymous).ok());
        const MapResult narrow =
            w.kernel.mremap(mm, kBase, 4 * kPages, 8 * kPages, kMayMove, VirtAddr(0));
        CHECK(narrow.address == w.kernel.mmap_base() - 8 * kPages);
    });
}
