// Which neighbouring VMAs become one: rights, accounting, vm_pgoff and anon_vma.
#include "world.h"

using namespace ptshare;
using namespace ptshare::test;

namespace {

constexpr std::uint64_t kMove = 3;  // MREMAP_MAYMOVE | MREMAP_FIXED

VirtAddr page(std::uint64_t n) {
    return kBase + n * kPages;
}
void anon(World& w, Mm& mm, std::uint64_t at, std::uint64_t pages, std::uint64_t prot = kRw) {
    CHECK(w.map(mm, page(at), pages * kPages, prot, kAnonymous).ok());
}
void protect(World& w, Mm& mm, std::uint64_t at, std::uint64_t pages, std::uint64_t prot) {
    CHECK(w.kernel.mprotect(mm, page(at), pages * kPages, prot) == Errno::Ok);
}
void move(World& w, Mm& mm, std::uint64_t at, std::uint64_t pages, std::uint64_t to) {
    CHECK(w.kernel.mremap(mm, page(at), pages * kPages, pages * kPages, kMove, page(to)).ok());
}
// The VMAs from kBase on: "0-2 2-3".
std::string areas(const Mm& mm) {
    std::string text;
    for (const auto& [start, vma] : mm.vmas) {
        if (!text.empty()) text += " ";
        text += std::to_string((start - kBase) / kPages) + "-" +
                std::to_string((vma.end - kBase) / kPages);
    }
    return text;
}

}  // namespace

TEST(neighbours_that_were_never_written_merge) {
    in_world("private", [](World& w) {
        Mm& mm = w.kernel.create_mm();
        anon(w, mm, 0, 2);
        anon(w, mm, 2, 2);
        CHECK_EQ(areas(mm), "0-4");
        anon(w, mm, 6, 2);
        anon(w, mm, 4, 2);  // closes the gap
        CHECK_EQ(areas(mm), "0-8");
        w.read(mm, page(0));  // the zero page is no page of its own
        CHECK_EQ(mm.find(page(0))->anon_vma, 0U);
    });
}

TEST(one_that_was_written_merges_with_one_that_was_not) {
    in_world("private", [](World& w) {
        Mm& mm = w.kernel.create_mm();
        anon(w, mm, 2, 2);
        w.write(mm, page(2));
        const std::uint64_t id = mm.find(page(2))->anon_vma;
        CHECK(id != 0);
        anon(w, mm, 4, 2);  // behind it
        anon(w, mm, 0, 2);  // before it
        CHECK_EQ(areas(mm), "0-6");
        CHECK_EQ(mm.find(page(0))->anon_vma, id);
    });
}

TEST(two_that_were_written_apart_stay_apart_and_what_comes_between_joins_the_lower) {
    in_world("private", [](World& w) {
        Mm& mm = w.kernel.create_mm();
        anon(w, mm, 0, 1);
        anon(w, mm, 2, 1);
        w.write(mm, page(0));
        w.write(mm, page(2));
        CHECK(mm.find(page(0))->anon_vma != mm.find(page(2))->anon_vma);
        anon(w, mm, 1, 1);
        CHECK_EQ(areas(mm), "0-2 2-3");
    });
}

TEST(neighbours_but_for_their_rights_get_one_anon_vma) {
    in_world("private", [](World& w) {
        Mm& mm = w.kernel.create_mm();
        anon(w, mm, 0, 4);
        w.write(mm, page(0));
        protect(w, mm, 2, 2, kProtRead | kProtWrite | kProtExec);
        anon(w, mm, 4, 2);
        CHECK_EQ(areas(mm), "0-2 2-4 4-6");
        w.write(mm, page(4));
        CHECK_EQ(mm.find(page(4))->anon_vma, mm.find(page(0))->anon_vma);
        protect(w, mm, 2, 2, kRw);
        CHECK_EQ(areas(mm), "0-6");
        // Of two, the one behind is asked first.
        anon(w, mm, 8, 2, kProtMask);
        w.write(mm, page(8));
        const std::uint64_t behind = mm.find(page(8))->anon_vma;
        CHECK(behind != mm.find(page(0))->anon_vma);
        anon(w, mm, 6, 2, kProtWrite);
        w.write(mm, page(6));
        CHECK_EQ(mm.find(page(6))->anon_vma, behind);
    });
}

TEST(an_inherited_one_does_not_merge_with_one_that_has_none) {
    in_world("private", [](World& w) {
        Mm& parent = w.kernel.create_mm();
        anon(w, parent, 2, 2);
        w.write(parent, page(2));
        Mm& child = w.kernel.fork(parent);
        anon(w, child, 4, 2);
        anon(w, child, 0, 2);
        CHECK_EQ(areas(child), "0-2 2-4 4-6");
        // Nor does it give on what it has: its neighbours get one each, and stay apart.
        w.write(child, page(4));
        w.write(child, page(0));
        CHECK(child.find(page(4))->anon_vma != child.find(page(2))->anon_vma);
        CHECK(child.find(page(0))->anon_vma != child.find(page(2))->anon_vma);
        // Moved away and back as it is.
        anon(w, child, 6, 2);
        move(w, child, 2, 2, 32);
        move(w, child, 32, 2, 2);
        CHECK_EQ(areas(child), "0-2 2-4 4-8");
        // Parts of it still do.
        protect(w, child, 2, 1, kProtRead);
        CHECK_EQ(areas(child), "0-2 2-3 3-4 4-8");
        protect(w, child, 2, 1, kRw);
        CHECK_EQ(areas(child), "0-2 2-4 4-8");
        // The parent's is its own.
        anon(w, parent, 4, 2);
        CHECK_EQ(areas(parent), "2-6");
        // Never written, nothing was inherited.
        Mm& bare = w.kernel.create_mm();
        anon(w, bare, 0, 2);
        Mm& heir = w.kernel.fork(bare);
        anon(w, heir, 2, 2);
        CHECK_EQ(areas(heir), "0-4");
    });
}

TEST(memory_that_was_not_accounted_does_not_merge) {
    in_world("private", [](World& w) {
        Mm& mm = w.kernel.create_mm();
        anon(w, mm, 0, 2);
        anon(w, mm, 2, 2, 0);
        w.write(mm, page(0));
        CHECK(mm.find(page(0))->has(kVmAccount) && !mm.find(page(2))->has(kVmAccount));
        // Written, the first stays accounted for without the right; the second never was.
        protect(w, mm, 0, 4, kProtRead);
        CHECK_EQ(areas(mm), "0-2 2-4");
        CHECK(mm.find(page(0))->has(kVmAccount) && !mm.find(page(2))->has(kVmAccount));
        protect(w, mm, 0, 4, kRw);
        CHECK_EQ(areas(mm), "0-4");
        // Not written, the accounting goes with the right.
        Mm& fresh = w.kernel.create_mm();
        anon(w, fresh, 0, 2);
        anon(w, fresh, 2, 2, 0);
        protect(w, fresh, 0, 4, kProtRead);
        CHECK_EQ(areas(fresh), "0-4");
        CHECK(!fresh.find(page(0))->has(kVmAccount));
    });
}

TEST(a_private_file_stays_accounted_for) {
    in_world("private", [](World& w) {
        Mm& mm = w.kernel.create_mm();
        const std::uint64_t flags = kMapPrivate | kMapFixed;
        CHECK(w.map(mm, page(0), 2 * kPages, kProtRead, flags, w.file, 0).ok());
        CHECK(w.map(mm, page(2), 2 * kPages, kProtRead, flags, w.file, 2).ok());
        CHECK_EQ(areas(mm), "0-4");
        protect(w, mm, 2, 2, kRw);
        protect(w, mm, 2, 2, kProtRead);
        CHECK_EQ(areas(mm), "0-2 2-4");
        // Shared memory is the file's: no accounting, and it joins again.
        Mm& other = w.kernel.create_mm();
        CHECK(w.map(other, page(0), 4 * kPages, kRw, kSharedFile, w.file, 0).ok());
        protect(w, other, 2, 2, kProtRead);
        CHECK_EQ(areas(other), "0-2 2-4");
        protect(w, other, 2, 2, kRw);
        CHECK_EQ(areas(other), "0-4");
    });
}

TEST(moved_after_a_write_it_keeps_its_page_numbers) {
    in_world("private", [](World& w) {
        Mm& mm = w.kernel.create_mm();
        anon(w, mm, 0, 2);
        anon(w, mm, 8, 2);
        w.write(mm, page(0));
        move(w, mm, 0, 2, 10);
        CHECK_EQ(areas(mm), "8-10 10-12");
        CHECK_EQ(mm.find(page(10))->file_page, vpn_of(page(0)).value);
        move(w, mm, 10, 2, 0);  // where its numbers fit again
        anon(w, mm, 2, 2);
        CHECK_EQ(areas(mm), "0-4 8-10");
    });
}

TEST(moved_before_a_write_it_merges_where_it_comes) {
    in_world("private", [](World& w) {
        Mm& mm = w.kernel.create_mm();
        anon(w, mm, 0, 2);
        anon(w, mm, 8, 2);
        w.write(mm, page(8));
        w.read(mm, page(0));
        move(w, mm, 0, 2, 10);
        CHECK_EQ(areas(mm), "8-12");
        CHECK(w.leaf(mm, page(10)).present());
    });
}

TEST(mprotect_that_changes_no_flag_does_nothing) {
    in_world("private", [](World& w) {
        Mm& mm = w.kernel.create_mm();
        anon(w, mm, 0, 4);
        for (std::uint64_t i = 0; i < 4; ++i) w.write(mm, page(i));
        // After a fork the child's exit leaves pages that mprotect would otherwise look at.
        w.kernel.exit(w.kernel.fork(mm));
        const Pte before = w.leaf(mm, page(1));
        w.kernel.take_effects();
        protect(w, mm, 1, 2, kRw);
        CHECK_EQ(areas(mm), "0-4");
        CHECK(w.leaf(mm, page(1)) == before);
        const Effects effects = w.kernel.take_effects();
        CHECK_EQ(effects.ptes_changed, 0U);
        CHECK(effects.flushes.empty());
        // Across VMAs, only those that differ change.
        protect(w, mm, 2, 1, kProtRead);
        w.kernel.take_effects();
        protect(w, mm, 1, 2, kProtRead);
        CHECK_EQ(areas(mm), "0-1 1-3 3-4");
        CHECK_EQ(w.kernel.take_effects().ptes_changed, 0U);  // read-only since the fork
    });
}

TEST(a_bus_error_of_a_write_prepares_for_the_page_first) {
    in_world("private", [](World& w) {
        Mm& mm = w.kernel.create_mm();
        w.file->resize(kPages);
        CHECK(w.map(mm, page(0), 4 * kPages, kRw, kMapPrivate | kMapFixed, w.file).ok());
        CHECK(w.read(mm, page(2)) == FaultKind::Bus);
        CHECK_EQ(mm.find(page(0))->anon_vma, 0U);
        // The tables down to the PMD table, without a PTE table.
        CHECK_EQ(mm.vm_pte_bytes(), 2 * kPages);
        CHECK(mm.table.has_table(page(2), Level::Pmd) && !mm.table.has_table(page(2), Level::Pte));
        CHECK(w.write(mm, page(2)) == FaultKind::Bus);
        CHECK(mm.find(page(0))->anon_vma != 0);
        CHECK_EQ(mm.vm_pte_bytes(), 2 * kPages);
        // So that fork copies the tables.
        Mm& child = w.kernel.fork(mm);
        CHECK_EQ(child.vm_pte_bytes(), 2 * kPages);
    });
}

TEST(a_bus_error_in_shared_memory_sets_no_anon_vma) {
    in_world("private", [](World& w) {
        Mm& mm = w.kernel.create_mm();
        w.file->resize(kPages);
        CHECK(w.map(mm, page(0), 4 * kPages, kRw, kSharedFile, w.file).ok());
        CHECK(w.write(mm, page(2)) == FaultKind::Bus);
        CHECK_EQ(mm.find(page(0))->anon_vma, 0U);
        CHECK_EQ(mm.vm_pte_bytes(), 2 * kPages);
    });
}
