// UFFDIO_REGISTER: no fault-around, and a fault for the first write to what was read.
#include "world.h"

using namespace ptshare;
using namespace ptshare::test;

namespace {

// The whole file is in the page cache.
void cache_file(World& w) {
    for (std::uint64_t i = 0; i < w.file->pages(); ++i) w.file->page(i);
}
Errno enroll(World& w, Mm& mm, VirtAddr at, std::uint64_t length) {
    return w.kernel.userfault_register(mm, at, length);
}
bool enrolled(Mm& mm, VirtAddr at) {
    return mm.find(at)->has(kVmUffdWp);
}

}  // namespace

TEST(no_fault_around_where_it_is_registered) {
    in_world("private", config(64 << 10), [](World& w) {
        cache_file(w);
        Mm& mm = w.kernel.create_mm();
        CHECK(w.map(mm, kBase, 64 * kPages, kRw, kSharedFile, w.file).ok());
        CHECK(enroll(w, mm, kBase, 32 * kPages) == Errno::Ok);
        CHECK_EQ(mm.vmas.size(), 2U);
        CHECK_EQ(w.kernel.fault(mm, kBase, Access::Read).around, 0U);
        // The window of the second half begins with it.
        CHECK_EQ(w.kernel.fault(mm, kBase + 33 * kPages, Access::Read).around, 15U);
        CHECK_EQ(mm.rss_file, 17U);
        // Again: nothing changes. The rest: one VMA.
        CHECK(enroll(w, mm, kBase, 32 * kPages) == Errno::Ok);
        CHECK_EQ(mm.vmas.size(), 2U);
        CHECK(enroll(w, mm, kBase + 16 * kPages, 48 * kPages) == Errno::Ok);
        CHECK_EQ(mm.vmas.size(), 1U);
    });
}

TEST(shared_pages_that_are_read_take_a_fault_to_be_written) {
    in_world("private", [](World& w) {
        Mm& mm = w.kernel.create_mm();
        CHECK(w.map(mm, kBase, 4 * kPages, kRw, kSharedFile, w.file).ok());
        w.read(mm, kBase);
        CHECK(w.leaf(mm, kBase).writable());
        CHECK(enroll(w, mm, kBase, 4 * kPages) == Errno::Ok);
        CHECK(w.leaf(mm, kBase).writable());  // registering changes no entry
        CHECK(w.read(mm, kBase + kPages) == FaultKind::File);
        CHECK(!w.leaf(mm, kBase + kPages).writable());
        CHECK(w.write(mm, kBase + kPages) == FaultKind::WriteProtect);
        CHECK(w.leaf(mm, kBase + kPages).writable() && w.leaf(mm, kBase + kPages).dirty());
        CHECK(w.write(mm, kBase + 2 * kPages) == FaultKind::File);
        CHECK(w.leaf(mm, kBase + 2 * kPages).writable());
        // mprotect to the rights that there are looks at no page.
        CHECK(w.kernel.mprotect(mm, kBase, 2 * kPages, kRw) == Errno::Ok);
        CHECK(w.leaf(mm, kBase).writable() && w.leaf(mm, kBase + kPages).writable());
        CHECK_EQ(mm.vmas.size(), 1U);
        // mprotect makes no shared page writable, dirty or not.
        CHECK(w.kernel.mprotect(mm, kBase, 4 * kPages, kProtRead) == Errno::Ok);
        CHECK(w.kernel.mprotect(mm, kBase, 4 * kPages, kRw) == Errno::Ok);
        for (std::uint64_t i = 0; i < 3; ++i) {
            CHECK(!w.leaf(mm, kBase + i * kPages).writable());
            CHECK(w.write(mm, kBase + i * kPages) == FaultKind::WriteProtect);
        }
    });
}

TEST(private_pages_are_writable_as_ever) {
    in_world("private", [](World& w) {
        Mm& mm = w.kernel.create_mm();
        CHECK(w.map(mm, kBase, 4 * kPages, kRw, kAnonymous).ok());
        CHECK(enroll(w, mm, kBase, 4 * kPages) == Errno::Ok);
        CHECK(w.write(mm, kBase) == FaultKind::Anon);
        CHECK(w.leaf(mm, kBase).writable());
    });
}

TEST(a_child_and_a_moved_area_are_not_registered) {
    in_world("private", config(64 << 10), [](World& w) {
        cache_file(w);
        Mm& mm = w.kernel.create_mm();
        CHECK(w.map(mm, kBase, 16 * kPages, kRw, kSharedFile, w.file).ok());
        CHECK(enroll(w, mm, kBase, 16 * kPages) == Errno::Ok);
        Mm& child = w.kernel.fork(mm);
        CHECK(enrolled(mm, kBase) && !enrolled(child, kBase));
        CHECK_EQ(w.kernel.fault(child, kBase, Access::Read).around, 15U);
        CHECK(w.leaf(child, kBase).writable());
        const VirtAddr to = kBase + kPmdSize;
        w.read(mm, kBase);
        CHECK(w.kernel.mremap(mm, kBase, 8 * kPages, 8 * kPages, 3, to).address == to);
        CHECK(!enrolled(mm, to) && enrolled(mm, kBase + 8 * kPages));
        CHECK(!w.leaf(mm, to).writable());  // it moved as it was
        CHECK_EQ(w.kernel.fault(mm, to + kPages, Access::Read).around, 6U);
        // In place it stays what it is, and grows so.
        CHECK(
            w.kernel.mremap(mm, kBase + 8 * kPages, 8 * kPages, 12 * kPages, 0, VirtAddr(0)).ok());
        CHECK(enrolled(mm, kBase + 19 * kPages));
        CHECK_EQ(mm.vmas.size(), 2U);
    });
}

TEST(errors_change_nothing) {
    in_world("private", [](World& w) {
        Mm& mm = w.kernel.create_mm();
        CHECK(w.map(mm, kBase, 2 * kPages, kRw, kAnonymous).ok());
        CHECK(w.map(mm, kBase + 4 * kPages, kPages, kProtRead, kSharedFile, w.file, 0, false).ok());
        CHECK(enroll(w, mm, kBase + 1, kPages) == Errno::Invalid);
        CHECK(enroll(w, mm, kBase, kPages + 1) == Errno::Invalid);
        CHECK(enroll(w, mm, kBase, 0) == Errno::Invalid);
        CHECK(enroll(w, mm, VirtAddr(0), kPages) == Errno::Invalid);
        CHECK(enroll(w, mm, kBase, ~0ULL << kPageShift) == Errno::Invalid);
        CHECK(enroll(w, mm, kBase + 2 * kPages, 2 * kPages) == Errno::Invalid);  // a hole
        // A file that can never be written, in the middle of the range.
        CHECK(enroll(w, mm, kBase, 5 * kPages) == Errno::NotPermitted);
        CHECK(!enrolled(mm, kBase) && !enrolled(mm, kBase + 4 * kPages));
        CHECK_EQ(mm.vmas.size(), 2U);
        // Holes between are passed over.
        CHECK(w.map(mm, kBase + 4 * kPages, kPages, kProtRead, kSharedFile, w.file, 0, true).ok());
        CHECK(enroll(w, mm, kBase + kPages, 8 * kPages) == Errno::Ok);
        CHECK(!enrolled(mm, kBase) && enrolled(mm, kBase + kPages));
        CHECK(enrolled(mm, kBase + 4 * kPages));
    });
}

TEST(a_move_ends_the_registration_of_neighbours_that_it_joins) {
    in_world("private", [](World& w) {
        Mm& mm = w.kernel.create_mm();
        const auto page = [](std::uint64_t i) { return kBase + i * kPages; };
        CHECK(w.map(mm, kBase, 16 * kPages, kRw, kAnonymous).ok());
        CHECK(enroll(w, mm, kBase, 16 * kPages) == Errno::Ok);
        // Never written, so that it fits where it comes: 0 to 8 are one area, registered no more.
        CHECK(w.kernel.mremap(mm, page(8), 2 * kPages, 2 * kPages, 3, page(4)).ok());
        CHECK_EQ(mm.vmas.size(), 2U);
        CHECK(!enrolled(mm, kBase) && !enrolled(mm, page(7)));
        CHECK(enrolled(mm, page(10)));
        // Written, it keeps its own numbers and joins nobody.
        w.write(mm, page(10));
        CHECK(w.kernel.mremap(mm, page(10), kPages, kPages, 3, page(14)).ok());
        CHECK(!enrolled(mm, page(14)));
        CHECK(enrolled(mm, page(13)) && enrolled(mm, page(15)));
    });
}

TEST(files_with_dirty_tracking_cannot_be_registered) {
    KernelConfig with = config();
    with.dirty_tracking = true;
    in_world("private", with, [](World& w) {
        Mm& mm = w.kernel.create_mm();
        CHECK(w.map(mm, kBase, kPages, kRw, kAnonymous).ok());
        CHECK(w.map(mm, kBase + kPages, kPages, kRw, kSharedFile, w.file).ok());
        CHECK(enroll(w, mm, kBase, 2 * kPages) == Errno::Invalid);
        CHECK(!enrolled(mm, kBase));
        CHECK(enroll(w, mm, kBase, kPages) == Errno::Ok);
    });
}

TEST(of_a_guest_the_hosts_areas_are_registered) {
    in_world("ptshare", config(64 << 10), [](World& w) {
        cache_file(w);
        Mm& a = w.guest();
        Mm& b = w.guest();
        HostMm& host = *w.kernel.hosts().at(0);
        CHECK(enroll(w, a, kBase + kPmdSize, kPmdSize) == Errno::Ok);
        CHECK(!enrolled(a, kBase + kPmdSize));
        CHECK_EQ(a.vmas.size(), 1U);  // the guest's stays whole
        CHECK_EQ(host.mm.vmas.size(), 2U);
        CHECK(!enrolled(host.mm, host.start) && enrolled(host.mm, host.start + kPmdSize));
        // For all guests.
        CHECK_EQ(w.kernel.fault(b, kBase, Access::Read).around, 15U);
        CHECK_EQ(w.kernel.fault(b, kBase + kPmdSize, Access::Read).around, 0U);
        CHECK(!w.leaf(b, kBase + kPmdSize).writable());
        CHECK(w.write(a, kBase + kPmdSize) == FaultKind::WriteProtect);
        CHECK(w.leaf(b, kBase + kPmdSize).writable());
        // A child of a guest is one too; the host stays registered, also when the first has left.
        Mm& child = w.kernel.fork(a);
        w.kernel.exit(a);
        CHECK_EQ(w.kernel.fault(child, kBase + kPmdSize + 16 * kPages, Access::Read).around, 0U);
        // A newcomer is judged by what the host was made with.
        Mm& c = w.guest();
        CHECK_EQ(w.kernel.hosts().size(), 1U);
        CHECK(w.read(c, kBase + kPmdSize) == FaultKind::Link);
        CHECK(w.kernel.munmap(c, kBase, 2 * kPmdSize) == Errno::Ok);
    });
}

TEST(a_range_over_guest_and_own_memory_registers_both) {
    in_world("ptshare", [](World& w) {
        Mm& mm = w.guest();
        CHECK(w.map(mm, kBase + 2 * kPmdSize, 2 * kPages, kRw, kAnonymous).ok());
        CHECK(enroll(w, mm, kBase + kPmdSize, kPmdSize + kPages) == Errno::Ok);
        HostMm& host = *w.kernel.hosts().at(0);
        CHECK(enrolled(host.mm, host.start + kPmdSize));
        CHECK(enrolled(mm, kBase + 2 * kPmdSize));
        CHECK(!enrolled(mm, kBase + 2 * kPmdSize + kPages));
    });
}
