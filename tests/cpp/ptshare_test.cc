// The letter's statements, S1 to S12 and S16 of the specification, under the policies that they
// concern. Faults, tables and flushes are counted by hand.
#include "world.h"

using namespace ptshare;
using namespace ptshare::test;

namespace {

void shared(const std::function<void(World&)>& body) {
    in_world("ptshare", body);
}

const HostMm& host_of(World& w) {
    CHECK_EQ(w.kernel.hosts().size(), 1U);
    return *w.kernel.hosts().at(0);
}

// Whether the flush names [from, to) of every one of `mms`, each once.
bool flushes_all(const FlushRequest& flush, const std::vector<Mm*>& mms, VirtAddr from,
                 VirtAddr to) {
    if (flush.targets.size() != mms.size()) return false;
    return std::all_of(mms.begin(), mms.end(), [&](Mm* mm) {
        return std::any_of(flush.targets.begin(), flush.targets.end(), [&](const FlushTarget& t) {
            return t.mm == mm->id && t.start == from && t.end == to;
        });
    });
}

}  // namespace

TEST(s1_sharing_is_asked_for_by_flag_0x200000) {
    CHECK_EQ(kMapSharedPt, 0x200000U);
    shared([](World& w) {
        Mm& mm = w.kernel.create_mm();
        CHECK(w.map(mm, kBase, kPmdSize, kRw, kSharedFile, w.file).ok());
        CHECK(w.kernel.hosts().empty());
        CHECK(w.write(mm, kBase) == FaultKind::File);
        CHECK_EQ(w.kernel.tables().counts().region_pte, 0U);
    });
}

TEST(s1_policy_private_ignores_the_flag) {
    in_world("private", [](World& w) {
        Mm& a = w.guest();
        Mm& b = w.guest();
        CHECK(w.kernel.hosts().empty());
        const FaultResult first = w.kernel.fault(a, kBase, Access::Read);
        CHECK(first.kind == FaultKind::File && first.region && !first.linked);
        CHECK(w.read(b, kBase) == FaultKind::File);
        CHECK_EQ(w.kernel.tables().counts().region_pte, 2U);  // one in each process
        CHECK(w.kernel.munmap(a, kBase, kPages) == Errno::Ok);
        // Misaligned, anonymous, private: nobody looks.
        CHECK(w.map(a, kBase + 8 * kPmdSize + kPages, kPages, kRw, kPtFile, w.file).ok());
        CHECK(w.map(a, kBase + 9 * kPmdSize, kPages, kRw, kAnonymous | kMapSharedPt).ok());
        for (unsigned i = 0; i < kRefusals; ++i) CHECK_EQ(w.kernel.stats().refusals[i], 0U);
    });
}

TEST(s2_s3_wrong_requests_are_refused_by_reason_and_change_nothing) {
    shared([](World& w) {
        w.guest(2 * kPmdSize, kProtRead);
        Mm& mm = w.kernel.create_mm();
        const auto error = [&](VirtAddr at, std::uint64_t length, std::uint64_t prot,
                               std::uint64_t flags, std::shared_ptr<File> of,
                               std::uint64_t page = 0, bool writable = true) {
            return w.map(mm, at, length, prot, flags, std::move(of), page, writable).error;
        };
        const VirtAddr free_place = kBase + 64 * kPmdSize;
        // S2: address, then size.
        CHECK(error(free_place + kPages, kPmdSize, kRw, kPtFile, w.file, 2048) == Errno::Invalid);
        CHECK(error(free_place, kPmdSize + kPages, kRw, kPtFile, w.file, 2048) == Errno::Invalid);
        CHECK(error(free_place, kPmdSize - 1, kRw, kPtFile, w.file, 2048) == Errno::Invalid);
        CHECK_EQ(w.refused(Refusal::Misaligned), 3U);
        // S3: another address; the same one for other pages; another size.
        CHECK(error(free_place, 2 * kPmdSize, kProtRead, kPtFile, w.file) == Errno::Invalid);
        CHECK(error(kBase, 2 * kPmdSize, kProtRead, kPtFile, w.file, 512) == Errno::Invalid);
        CHECK_EQ(w.refused(Refusal::Address), 2U);
        CHECK(error(kBase, kPmdSize, kProtRead, kPtFile, w.file) == Errno::Invalid);
        CHECK_EQ(w.refused(Refusal::Size), 1U);
        // More than the host's protection, less than it, another right to the file.
        CHECK(error(kBase, 2 * kPmdSize, kRw, kPtFile, w.file) == Errno::Access);
        CHECK(error(kBase, 2 * kPmdSize, 0, kPtFile, w.file) == Errno::Invalid);
        CHECK(error(kBase, 2 * kPmdSize, kProtRead, kPtFile, w.file, 0, false) == Errno::Access);
        CHECK_EQ(w.refused(Refusal::Protection), 3U);
        // Memory that cannot be shared.
        CHECK(error(kBase, kPmdSize, kRw, kAnonymous | kMapSharedPt, nullptr) == Errno::Invalid);
        CHECK(error(kBase, kPmdSize, kRw, kMapPrivate | kMapFixed | kMapSharedPt, w.file) ==
              Errno::Invalid);
        CHECK_EQ(w.refused(Refusal::Private), 2U);
        CHECK(error(kBase, kPmdSize, kRw, kMapShared | kMapAnonymous | kMapFixed | kMapSharedPt,
                    nullptr) == Errno::Invalid);
        CHECK_EQ(w.refused(Refusal::Anonymous), 1U);
        CHECK(mm.vmas.empty());
        CHECK_EQ(host_of(w).guests.size(), 1U);
    });
}

TEST(s3_an_address_left_to_the_kernel_is_the_hosts) {
    shared([](World& w) {
        Mm& first = w.kernel.create_mm();
        const std::uint64_t flags = kMapShared | kMapSharedPt;
        const MapResult made = w.map(first, VirtAddr(0), kPmdSize, kRw, flags, w.file);
        CHECK(made.ok() && is_aligned(made.address.value, kPmdSize));
        Mm& second = w.kernel.create_mm();
        CHECK(w.map(second, VirtAddr(0), kPmdSize, kRw, flags, w.file).address == made.address);
        // Where that is taken there is no other place.
        Mm& third = w.kernel.create_mm();
        CHECK(w.map(third, made.address + kPages, kPages, kRw, kAnonymous).ok());
        CHECK(w.map(third, VirtAddr(0), kPmdSize, kRw, flags, w.file).error == Errno::Invalid);
        CHECK_EQ(w.refused(Refusal::Address), 1U);
    });
}

TEST(s4_s6_the_host_mm_stands_by_itself) {
    shared([](World& w) {
        Mm& a = w.guest();
        const HostMm& host = host_of(w);
        CHECK(host.start == kBase && host.end == kBase + 2 * kPmdSize);
        CHECK(w.kernel.find_mm(host.mm.id) == nullptr);  // attached to no process
        CHECK_EQ(host.mm.vmas.size(), 1U);
        const Vma& theirs = host.mm.vmas.begin()->second;
        CHECK(theirs.start == host.start && theirs.end == host.end && !theirs.has(kVmSharedPt));
        const Vma& ours = a.vmas.begin()->second;
        CHECK(ours.has(kVmSharedPt) && kVmSharedPt > (1ULL << 31));
        CHECK_EQ(w.own_tables(host.mm), 1U);
        w.write(a, kBase);
        // Host: root, PUD, PMD, PTE. Guest: root, PUD, PMD.
        CHECK_EQ(w.own_tables(host.mm), 4U);
        CHECK_EQ(w.own_tables(a), 3U);
        const TableCounts& counts = w.kernel.tables().counts();
        CHECK_EQ(counts.by_owner[static_cast<unsigned>(Owner::Host)], 4U);
        CHECK_EQ(counts.by_owner[static_cast<unsigned>(Owner::Guest)], 3U);
        CHECK_EQ(host.mm.rss_file, 1U);
        CHECK_EQ(a.rss_file, 0U);
    });
}

TEST(vm_pte_bytes_counts_a_linked_table_for_each_that_links_it) {
    for (const unsigned levels : {4U, 5U}) {
        KernelConfig with = config();
        with.levels = levels;
        in_world("ptshare", with, [&](World& w) {
            Mm& a = w.guest();
            Mm& b = w.guest();
            CHECK_EQ(a.vm_pte_bytes(), 0U);  // the root is not counted
            w.write(a, kBase);
            w.write(b, kBase);
            w.write(b, kBase + kPmdSize);
            // PUD, PMD (and P4D), and one PTE table of the host, or two.
            CHECK_EQ(a.vm_pte_bytes(), (levels - 1) * kPageSize);
            CHECK_EQ(b.vm_pte_bytes(), levels * kPageSize);
            CHECK_EQ(host_of(w).mm.vm_pte_bytes(), levels * kPageSize);
            CHECK(w.kernel.munmap(b, kBase, 2 * kPmdSize) == Errno::Ok);
            CHECK_EQ(b.vm_pte_bytes(), 0U);
        });
    }
}

TEST(s5_pages_of_the_creator_are_carried_into_the_host) {
    shared([](World& w) {
        Mm& mm = w.kernel.create_mm();
        CHECK(w.map(mm, kBase, 2 * kPmdSize, kRw, kSharedFile, w.file).ok());
        for (std::uint64_t i = 0; i < 10; ++i) w.write(mm, kBase + i * 60 * kPages);
        w.read(mm, kBase + kPages);
        w.kernel.take_effects();
        CHECK(w.map(mm, kBase, 2 * kPmdSize, kRw, kPtFile, w.file).ok());
        CHECK_EQ(w.kernel.stats().carried_pages, 11U);
        CHECK_EQ(w.kernel.take_effects().ptes_copied, 11U);
        CHECK_EQ(mm.rss_file, 0U);
        CHECK_EQ(host_of(w).mm.rss_file, 11U);
        CHECK(w.leaf(host_of(w).mm, kBase).dirty());
        CHECK(!w.leaf(host_of(w).mm, kBase + kPages).dirty());
        CHECK(w.read(mm, kBase + 60 * kPages) == FaultKind::Link);  // no page is faulted in again
        // The next guest brings nothing: the host is there.
        Mm& late = w.kernel.create_mm();
        CHECK(w.map(late, kBase, 2 * kPmdSize, kRw, kSharedFile, w.file).ok());
        w.write(late, kBase + 5 * kPages);
        CHECK(w.map(late, kBase, 2 * kPmdSize, kRw, kPtFile, w.file).ok());
        CHECK_EQ(w.kernel.stats().carried_pages, 11U);
    });
}

TEST(s5_only_pages_that_the_new_mapping_shows_are_carried) {
    shared([](World& w) {
        Mm& mm = w.kernel.create_mm();
        // Private memory, lower and higher offsets, another file, and at last the right one.
        CHECK(w.map(mm, kBase, 4 * kPages, kRw, kMapPrivate | kMapFixed, w.file).ok());
        CHECK(w.map(mm, kBase + 4 * kPages, 2 * kPages, kRw, kSharedFile, w.file, 5).ok());
        CHECK(w.map(mm, kBase + 6 * kPages, 2 * kPages, kRw, kSharedFile, w.file, 5).ok());
        auto other = w.kernel.create_file("other");
        other->resize(kPmdSize);
        CHECK(w.map(mm, kBase + 8 * kPages, 4 * kPages, kRw, kSharedFile, other, 8).ok());
        CHECK(w.map(mm, kBase + 12 * kPages, 4 * kPages, kRw, kSharedFile, w.file, 12).ok());
        for (std::uint64_t i = 0; i < 16; ++i) w.write(mm, kBase + i * kPages);
        CHECK(w.kernel.mprotect(mm, kBase + 15 * kPages, kPages, 0) == Errno::Ok);
        CHECK(w.map(mm, kBase, kPmdSize, kRw, kPtFile, w.file).ok());
        CHECK_EQ(w.kernel.stats().carried_pages, 4U);
        // The host's protection holds, whatever the old mapping had.
        CHECK(w.leaf(host_of(w).mm, kBase + 15 * kPages).permits(Access::Write));
    });
}

TEST(s7_s8_a_guest_links_and_sees_what_others_fault_in) {
    shared([](World& w) {
        Mm& a = w.guest();
        Mm& b = w.guest();
        const FaultResult first = w.kernel.fault(a, kBase, Access::Write);
        CHECK(first.kind == FaultKind::Host && first.linked && first.region);
        const FaultResult second = w.kernel.fault(b, kBase + 8, Access::Read);
        CHECK(second.kind == FaultKind::Link && second.linked);
        HostMm& host = *w.kernel.hosts()[0];
        CHECK(*a.table.find(kBase, Level::Pmd) == *host.mm.table.find(kBase, Level::Pmd));
        CHECK(*b.table.find(kBase, Level::Pmd) == *host.mm.table.find(kBase, Level::Pmd));
        // Linked: a page that a faults in is there for b without a fault.
        const FaultResult third = w.kernel.fault(a, kBase + 7 * kPages, Access::Read);
        CHECK(third.kind == FaultKind::Host && !third.linked);
        CHECK(w.leaf(b, kBase + 7 * kPages).permits(Access::Write));
        CHECK(w.write(b, kBase + 7 * kPages) == FaultKind::Spurious);
        CHECK_EQ(w.kernel.stats().links, 2U);
        CHECK_EQ(w.kernel.take_effects().flushes.size(), 0U);  // nothing was taken from anyone
        // A second chunk: a page in the host, another link.
        CHECK(w.read(b, kBase + kPmdSize) == FaultKind::Host);
        CHECK(w.read(a, kBase + kPmdSize) == FaultKind::Link);
        CHECK_EQ(w.kernel.tables().counts().region_pte, 2U);
        CHECK_EQ(host.mm.rss_file, 3U);
    });
}

TEST(s8_with_dirty_tracking_the_write_fault_is_the_hosts_too) {
    KernelConfig with = config();
    with.dirty_tracking = true;
    in_world("ptshare", with, [](World& w) {
        Mm& a = w.guest();
        Mm& b = w.guest();
        CHECK(w.read(a, kBase) == FaultKind::Host);
        const FaultResult result = w.kernel.fault(b, kBase, Access::Write);
        CHECK(result.kind == FaultKind::WriteProtect && result.linked);
        CHECK(w.leaf(a, kBase).writable());
    });
}

TEST(s8_fault_around_fills_the_host_up_to_its_vmas_edges) {
    in_world("ptshare", config(64 << 10), [](World& w) {
        for (std::uint64_t i = 0; i < 64; ++i) w.file->page(i);
        Mm& a = w.guest();
        Mm& b = w.guest();
        CHECK_EQ(w.kernel.fault(a, kBase + 20 * kPages, Access::Read).around, 15U);  // [16, 32)
        CHECK(w.kernel.mprotect(b, kBase + 40 * kPages, 4 * kPages, kProtRead) == Errno::Ok);
        // The host's VMA of pages 40..43 cuts the window [32, 48).
        CHECK_EQ(w.kernel.fault(a, kBase + 41 * kPages, Access::Read).around, 3U);
        CHECK_EQ(host_of(w).mm.rss_file, 20U);
    });
}

TEST(s9_one_mprotect_reaches_every_sharer) {
    shared([](World& w) {
        Mm& a = w.guest();
        Mm& b = w.guest();
        Mm& c = w.guest();  // never touches: no link, but a guest
        const VirtAddr at = kBase + 3 * kPages;
        const VirtAddr end = at + 2 * kPages;
        for (Mm* mm : {&a, &b}) {
            w.write(*mm, at);
            w.write(*mm, end);
        }
        w.kernel.take_effects();
        CHECK(w.kernel.mprotect(b, at, 2 * kPages, kProtRead) == Errno::Ok);
        const Effects effects = w.kernel.take_effects();
        CHECK_EQ(effects.ptes_changed, 1U);  // one PTE, whatever the number of guests
        CHECK_EQ(effects.flushes.size(), 1U);
        CHECK(flushes_all(effects.flushes[0], {&a, &b, &c}, at, end));
        CHECK(!effects.flushes[0].tables_freed);
        for (Mm* mm : {&a, &b, &c}) {
            CHECK(w.write(*mm, at) == FaultKind::Segv);
            CHECK(w.write(*mm, at + kPages) == FaultKind::Segv);  // not yet mapped
            CHECK(w.kernel.fault(*mm, at, Access::Read).kind != FaultKind::Segv);
        }
        CHECK(w.leaf(a, end).writable());  // beyond the range
        // A late guest gets what holds now.
        Mm& late = w.guest();
        CHECK(w.write(late, at) == FaultKind::Segv);
        // And anybody may give it back: to more, PTEs that nobody may have cached as more.
        CHECK(w.kernel.mprotect(late, at, 2 * kPages, kRw) == Errno::Ok);
        CHECK(w.leaf(a, at).writable());
        CHECK_EQ(host_of(w).mm.vmas.size(), 1U);
    });
}

TEST(s9_mprotect_keeps_within_what_the_file_allows) {
    shared([](World& w) {
        Mm& mm = w.kernel.create_mm();
        CHECK(w.map(mm, kBase, kPmdSize, kProtRead, kPtFile, w.file, 0, false).ok());
        w.read(mm, kBase);
        CHECK(w.kernel.mprotect(mm, kBase, kPages, kRw) == Errno::Access);
        CHECK_EQ(host_of(w).mm.vmas.size(), 1U);
        CHECK(w.kernel.mprotect(mm, kBase, kPages, 0) == Errno::Ok);
        CHECK(w.read(mm, kBase) == FaultKind::Segv);
        CHECK(w.kernel.mprotect(mm, kBase, kPages, kProtRead) == Errno::Ok);
        CHECK(w.leaf(mm, kBase).permits(Access::Read));
    });
}

TEST(s9_mprotect_across_private_and_shared_memory) {
    shared([](World& w) {
        Mm& a = w.guest();
        Mm& b = w.guest();
        CHECK(w.map(a, kBase - 2 * kPages, 2 * kPages, kRw, kAnonymous).ok());
        for (VirtAddr at : {kBase - kPages, kBase, kBase + kPages}) w.write(a, at);
        w.kernel.take_effects();
        CHECK(w.kernel.mprotect(a, kBase - kPages, 2 * kPages, kProtRead) == Errno::Ok);
        CHECK(!w.leaf(a, kBase - kPages).writable());
        CHECK(!w.leaf(a, kBase).writable());
        CHECK(w.leaf(a, kBase + kPages).writable());
        CHECK(w.write(b, kBase) == FaultKind::Segv);
        CHECK_EQ(w.kernel.take_effects().flushes.size(), 2U);
    });
}

TEST(s10_a_part_cannot_be_unmapped) {
    shared([](World& w) {
        Mm& mm = w.guest();
        CHECK(w.map(mm, kBase - kPages, kPages, kRw, kAnonymous).ok());
        w.write(mm, kBase - kPages);
        w.write(mm, kBase);
        w.write(mm, kBase + kPmdSize);
        w.kernel.take_effects();
        const TableCounts before = w.kernel.tables().counts();
        CHECK(w.kernel.munmap(mm, kBase, kPages) == Errno::Invalid);
        CHECK(w.kernel.munmap(mm, kBase, kPmdSize) == Errno::Invalid);
        CHECK(w.kernel.munmap(mm, kBase + kPmdSize, kPmdSize) == Errno::Invalid);
        CHECK(w.kernel.munmap(mm, kBase - kPages, 2 * kPages) == Errno::Invalid);
        CHECK(w.map(mm, kBase + kPages, kPages, kRw, kAnonymous).error == Errno::Invalid);
        CHECK(w.map(mm, kBase, kPmdSize, kRw, kSharedFile, w.file).error == Errno::Invalid);
        for (std::uint64_t flags : {0U, 1U}) {
            CHECK(
                w.kernel.mremap(mm, kBase, 2 * kPmdSize, 3 * kPmdSize, flags, VirtAddr(0)).error ==
                Errno::Invalid);
        }
        CHECK(w.kernel.mremap(mm, kBase, 2 * kPmdSize, kPmdSize, 0, VirtAddr(0)).error ==
              Errno::Invalid);
        CHECK(w.kernel.mremap(mm, kBase - kPages, kPages, kPages, 3, kBase + kPages).error ==
              Errno::Invalid);
        // Nothing changed: the same areas, tables, pages; nobody was told to flush.
        CHECK_EQ(mm.vmas.size(), 2U);
        CHECK(w.kernel.tables().counts() == before);
        const Effects effects = w.kernel.take_effects();
        CHECK_EQ(effects.ptes_changed, 0U);
        CHECK(effects.flushes.empty());
        CHECK(w.write(mm, kBase - kPages) == FaultKind::Spurious);
        CHECK(w.write(mm, kBase) == FaultKind::Spurious);
        // More than the whole is as good as the whole.
        CHECK(w.kernel.munmap(mm, kBase - kPages, 2 * kPmdSize + kPages) == Errno::Ok);
        CHECK(w.kernel.hosts().empty());
    });
}

TEST(s13_room_around_ranges_is_summed_and_its_peak_kept) {
    KernelConfig with = config();
    with.share_level = Level::Pmd;
    in_world("ptshare", with, [](World& w) {
        constexpr std::uint64_t kRoom = 1020ULL << 20;  // 1 GiB, less the range's 4 MiB
        CHECK_EQ(w.kernel.stats().peak_room, 0U);
        Mm& a = w.guest();
        CHECK_EQ(w.kernel.stats().peak_room, kRoom);
        w.guest();
        w.kernel.fork(a);
        CHECK_EQ(w.kernel.stats().peak_room, 3 * kRoom);
        w.kernel.exit(a);
        CHECK_EQ(w.kernel.stats().room, 2 * kRoom);
        CHECK_EQ(w.kernel.stats().peak_room, 3 * kRoom);
        w.guest();
        CHECK_EQ(w.kernel.stats().peak_room, 3 * kRoom);
        w.guest();
        CHECK_EQ(w.kernel.stats().peak_room, 4 * kRoom);
    });
}
