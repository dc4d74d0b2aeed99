// What a child gets of its parent's page tables: tables, leaves, and who owns the pages afterwards.
#include "core/exec.h"
#include "world.h"

using namespace ptshare;
using namespace ptshare::test;

namespace {

void under_both(const std::function<void(World&)>& body) {
    for (const char* policy : {"private", "ptshare"}) in_world(policy, body);
}
void protect(World& w, Mm& mm, std::uint64_t prot) {
    CHECK(w.kernel.mprotect(mm, kBase, 2 * kPages, prot) == Errno::Ok);
}
bool exclusive(const Mm& mm, VirtAddr at) {
    return (World::leaf(mm, at).bits() & Pte::kExclusive) != 0;
}
// A started program of one page of code.
Mm& program(World& w) {
    Mm& mm = w.kernel.create_mm();
    w.file->resize(kPages);
    const Segment text{VirtAddr(0x400000), 0, kPages, kPages, kProtRead | kProtExec};
    map_program(w.kernel, mm, w.file, {text}, [](VirtAddr, std::uint64_t) { return true; });
    return mm;
}

}  // namespace

TEST(tables_without_leaves_are_copied_where_pages_were_written) {
    under_both([](World& w) {
        Mm& parent = w.kernel.create_mm();
        CHECK(w.map(parent, kBase, 4 * kPmdSize, kRw, kAnonymous).ok());
        w.write(parent, kBase);
        w.write(parent, kBase + 2 * kPmdSize);
        CHECK(w.kernel.madvise(parent, kBase, 4 * kPmdSize, 4) == Errno::Ok);
        w.kernel.take_effects();
        Mm& child = w.kernel.fork(parent);
        // PUD, PMD and two PTE tables, all of these empty; the root is one more.
        CHECK_EQ(child.vm_pte_bytes(), 4 * kPages);
        CHECK(child.table.has_table(kBase, Level::Pte));
        CHECK(!child.table.has_table(kBase + kPmdSize, Level::Pte));
        CHECK(child.table.has_table(kBase + 2 * kPmdSize, Level::Pte));
        const Effects effects = w.kernel.take_effects();
        CHECK_EQ(effects.tables_allocated, 5U);
        CHECK_EQ(effects.ptes_copied, 0U);
        CHECK(effects.flushes.empty());
    });
}

TEST(a_pmd_table_without_pte_tables_is_copied) {
    KernelConfig with = config();
    with.pt_reclaim = true;
    in_world("private", with, [](World& w) {
        Mm& parent = w.kernel.create_mm();
        CHECK(w.map(parent, kBase, kPmdSize, kRw, kAnonymous).ok());
        w.write(parent, kBase);
        CHECK(w.kernel.madvise(parent, kBase, kPmdSize, 4) == Errno::Ok);
        Mm& child = w.kernel.fork(parent);
        CHECK_EQ(child.vm_pte_bytes(), 2 * kPages);
        CHECK(child.table.has_table(kBase, Level::Pmd));
    });
}

TEST(areas_without_own_pages_give_the_child_no_tables) {
    under_both([](World& w) {
        Mm& parent = w.kernel.create_mm();
        CHECK(w.map(parent, kBase, kPmdSize, kRw, kSharedFile, w.file).ok());
        CHECK(w.map(parent, kBase + kPmdSize, kPmdSize, kRw, kMapPrivate | kMapFixed, w.file).ok());
        CHECK(w.map(parent, kBase + 2 * kPmdSize, kPmdSize, kRw, kAnonymous).ok());
        w.write(parent, kBase);
        w.read(parent, kBase + kPmdSize);
        w.read(parent, kBase + 2 * kPmdSize);
        Mm& child = w.kernel.fork(parent);
        CHECK_EQ(child.vm_pte_bytes(), 0U);
        // One written page of the private file: that area's leaves come along, the file's too.
        w.write(parent, kBase + kPmdSize + kPages);
        Mm& second = w.kernel.fork(parent);
        CHECK_EQ(second.vm_pte_bytes(), 3 * kPages);
        CHECK_EQ(second.rss_file, 1U);
        CHECK_EQ(second.rss_anon, 1U);
        CHECK(second.table.has_table(kBase + kPmdSize, Level::Pte));
    });
}

TEST(two_areas_in_one_chunk_need_but_one_copied) {
    under_both([](World& w) {
        Mm& parent = w.kernel.create_mm();
        CHECK(w.map(parent, kBase, kPages, kRw, kSharedFile, w.file).ok());
        CHECK(w.map(parent, kBase + kPages, kPages, kRw, kAnonymous).ok());
        w.write(parent, kBase);
        w.write(parent, kBase + kPages);
        Mm& child = w.kernel.fork(parent);
        CHECK_EQ(child.table.tables(Level::Pte), 1U);
        CHECK(w.leaf(child, kBase).none());
        CHECK(!w.leaf(child, kBase + kPages).none());
    });
}

TEST(a_guests_links_are_not_copied_but_the_tables_beside_them_are) {
    in_world("ptshare", [](World& w) {
        Mm& parent = w.guest();
        CHECK(w.map(parent, kBase + 2 * kPmdSize, kPmdSize, kRw, kAnonymous).ok());
        w.write(parent, kBase);
        w.write(parent, kBase + 2 * kPmdSize);
        CHECK_EQ(parent.vm_pte_bytes(), 4 * kPages);  // PUD, PMD, PTE, a link
        Mm& child = w.kernel.fork(parent);
        CHECK_EQ(child.vm_pte_bytes(), 3 * kPages);
        CHECK_EQ(child.table.linked_tables(Level::Pte), 0U);
        CHECK(!child.table.has_table(kBase, Level::Pte));
        CHECK_EQ(w.kernel.hosts().at(0)->guests.size(), 2U);
        CHECK(w.read(child, kBase) == FaultKind::Link);
        // A guest alone has nothing of its own to copy.
        Mm& alone = w.guest();
        w.read(alone, kBase);
        CHECK_EQ(w.kernel.fork(alone).vm_pte_bytes(), 0U);
    });
}

TEST(the_vdso_has_room_and_no_pages) {
    under_both([](World& w) {
        Mm& mm = program(w);
        const VirtAddr end = w.kernel.mmap_base();
        const VirtAddr start(end.value - 8 * kPages);
        CHECK(end == VirtAddr((1ULL << 47) - kPages - (128ULL << 20)));
        CHECK_EQ(mm.vmas.size(), 3U);  // code, stack, and this
        CHECK(mm.find(start)->start == start && mm.find(start)->end == end);
        for (const Access access : {Access::Read, Access::Write, Access::Fetch}) {
            CHECK(w.kernel.fault(mm, start, access).kind == FaultKind::Segv);
        }
        CHECK_EQ(mm.vm_pte_bytes(), 0U);
        // Not even with other rights, which it does not get.
        CHECK(w.kernel.mprotect(mm, start, 8 * kPages, kProtRead) == Errno::Access);
        CHECK(w.kernel.madvise(mm, start, 8 * kPages, 4) == Errno::Invalid);
        CHECK(w.kernel.userfault_register(mm, start, 8 * kPages) == Errno::Invalid);
        // The next mapping lies below it, and is not joined with it.
        const MapResult below = w.map(mm, VirtAddr(0), kPages, 0, kMapPrivate | kMapAnonymous);
        CHECK(below.address == VirtAddr(start.value - kPages));
        CHECK_EQ(mm.vmas.size(), 4U);
        Mm& child = w.kernel.fork(mm);
        CHECK(child.find(start)->has(kVmPfnMap));
        CHECK(w.kernel.munmap(child, start, 8 * kPages) == Errno::Ok);
        CHECK(child.find(start) == nullptr);
        CHECK(mm.find(start) != nullptr);
    });
}

TEST(the_vdsos_chunk_has_a_table_in_the_child_where_the_parent_has_one) {
    under_both([](World& w) {
        Mm& parent = program(w);
        CHECK_EQ(w.kernel.fork(parent).vm_pte_bytes(), 0U);
        const MapResult near = w.map(parent, VirtAddr(0), kPages, kProtRead, kMapShared, w.file);
        CHECK(near.ok());
        w.read(parent, near.address);  // shared: its own leaf is not copied
        Mm& child = w.kernel.fork(parent);
        CHECK_EQ(child.vm_pte_bytes(), 3 * kPages);
        CHECK(child.table.has_table(w.kernel.mmap_base() - 1, Level::Pte));
        CHECK(w.leaf(child, near.address).none());
        // Without the vdso: nothing.
        CHECK(w.kernel.munmap(parent, w.kernel.mmap_base() - 8 * kPages, 8 * kPages) == Errno::Ok);
        CHECK(!w.leaf(parent, near.address).none());
        CHECK_EQ(w.kernel.fork(parent).vm_pte_bytes(), 0U);
    });
}

TEST(a_guest_program_keeps_its_vdso_out_of_the_shared_range) {
    in_world("ptshare", [](World& w) {
        Mm& mm = program(w);
        w.file->resize(8 * kPmdSize);
        // Its own address, and the kernel's choice: below the vdso, aligned.
        const MapResult shared =
            w.map(mm, VirtAddr(0), kPmdSize, kRw, kMapShared | kMapSharedPt, w.file);
        CHECK(shared.ok());
        CHECK(is_aligned(shared.address.value, kPmdSize));
        CHECK(shared.address + kPmdSize <= w.kernel.mmap_base() - 8 * kPages);
        w.write(mm, shared.address);
        Mm& child = w.kernel.fork(mm);
        // The link stands in another entry of the PMD table that the vdso's chunk has: the child
        // gets a PUD and a PMD table, without entries.
        CHECK_EQ(child.vm_pte_bytes(), 2 * kPages);
        CHECK_EQ(child.table.linked_tables(Level::Pte), 0U);
        // Over the vdso it unmaps it, as over anything else.
        const VirtAddr over = align_down(w.kernel.mmap_base() - kPages, kPmdSize);
        Mm& other = program(w);
        w.file->resize(8 * kPmdSize);
        const std::size_t before = other.vmas.size();
        CHECK(w.map(other, over, kPmdSize, kRw, kPtFile, w.file, 1024).ok());
        CHECK_EQ(other.vmas.size(), before);
        CHECK(w.read(other, w.kernel.mmap_base() - kPages) == FaultKind::Host);
    });
}

TEST(a_page_that_was_never_forked_is_writable_again_at_once) {
    under_both([](World& w) {
        Mm& mm = w.kernel.create_mm();
        CHECK(w.map(mm, kBase, 2 * kPages, kRw, kAnonymous).ok());
        w.write(mm, kBase);
        CHECK(exclusive(mm, kBase));
        protect(w, mm, kProtRead);
        CHECK(!w.leaf(mm, kBase).writable() && exclusive(mm, kBase));
        protect(w, mm, 0);
        protect(w, mm, kRw);
        CHECK(w.leaf(mm, kBase).writable());
        CHECK(w.write(mm, kBase) == FaultKind::Spurious);
        // The zero page is nobody's.
        w.read(mm, kBase + kPages);
        CHECK(!exclusive(mm, kBase + kPages));
        protect(w, mm, kProtRead);
        protect(w, mm, kRw);
        CHECK(!w.leaf(mm, kBase + kPages).writable());
    });
}

TEST(a_page_that_was_forked_takes_a_fault_although_nobody_else_has_it) {
    under_both([](World& w) {
        Mm& mm = w.kernel.create_mm();
        CHECK(w.map(mm, kBase, 2 * kPages, kRw, kAnonymous).ok());
        w.write(mm, kBase);
        const Pfn pfn = w.leaf(mm, kBase).pfn();
        Mm& child = w.kernel.fork(mm);
        CHECK(!exclusive(mm, kBase) && !exclusive(child, kBase));
        w.kernel.exit(child);
        protect(w, mm, kProtRead);
        protect(w, mm, kRw);
        CHECK(!w.leaf(mm, kBase).writable());
        w.kernel.take_effects();
        CHECK(w.write(mm, kBase) == FaultKind::WriteProtect);
        CHECK(w.leaf(mm, kBase).pfn() == pfn);  // no copy
        CHECK(w.kernel.take_effects().flushes.empty());
        CHECK(exclusive(mm, kBase));
        protect(w, mm, kProtRead);
        protect(w, mm, kRw);
        CHECK(w.leaf(mm, kBase).writable());
    });
}

TEST(a_copy_is_exclusive_from_the_start) {
    under_both([](World& w) {
        Mm& mm = w.kernel.create_mm();
        CHECK(w.map(mm, kBase, 2 * kPages, kRw, kAnonymous).ok());
        w.write(mm, kBase);
        Mm& child = w.kernel.fork(mm);
        CHECK(w.write(child, kBase) == FaultKind::Cow);
        CHECK(exclusive(child, kBase) && !exclusive(mm, kBase));
        protect(w, child, kProtRead);
        protect(w, child, kRw);
        CHECK(w.leaf(child, kBase).writable());
        // And moves with its page.
        CHECK(w.kernel.mremap(child, kBase, kPages, kPages, 3, kBase + kPmdSize).ok());
        CHECK(exclusive(child, kBase + kPmdSize));
    });
}
