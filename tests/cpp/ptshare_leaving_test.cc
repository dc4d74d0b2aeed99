// Policy ptshare where processes come and go (S11, S12), and the calls that reach every guest.
#include "world.h"

using namespace ptshare;
using namespace ptshare::test;

namespace {

constexpr int kDontNeed = 4;

void shared(const std::function<void(World&)>& body) {
    in_world("ptshare", body);
}

enum class Way { Unmap, Exit, Replace };

void leave(World& w, Mm& mm, Way way) {
    switch (way) {
        case Way::Unmap:
            CHECK(w.kernel.munmap(mm, kBase, 2 * kPmdSize) == Errno::Ok);
            break;
        case Way::Exit:  // exec and a killing signal come down to it too
            w.kernel.exit(mm);
            break;
        case Way::Replace:
            CHECK(w.map(mm, kBase, 2 * kPmdSize, kRw, kAnonymous).ok());
            break;
    }
}

}  // namespace

TEST(s11_the_last_guest_frees_whatever_the_order_and_way_of_leaving) {
    std::vector<unsigned> order = {0, 1, 2};
    do {
        for (unsigned ways = 0; ways < 27; ++ways) {
            shared([&](World& w) {
                std::vector<Mm*> guests;
                for (int i = 0; i < 3; ++i) guests.push_back(&w.guest());
                w.write(*guests[0], kBase);
                w.write(*guests[1], kBase + kPmdSize);
                w.read(*guests[1], kBase);  // guest 2 links nothing
                unsigned way = ways;
                for (std::size_t left = 0; left < 3; ++left, way /= 3) {
                    CHECK_EQ(w.kernel.hosts().size(), 1U);
                    CHECK_EQ(w.kernel.hosts()[0]->mm.rss_file, 2U);
                    CHECK_EQ(w.own_tables(w.kernel.hosts()[0]->mm), 5U);
                    leave(w, *guests[order[left]], static_cast<Way>(way % 3));
                    CHECK_EQ(w.audit_lines(), 0U);
                    // The survivors' pages are where they were.
                    for (std::size_t i = left + 1; i < 3; ++i) {
                        if (order[i] == 0) CHECK(w.leaf(*guests[0], kBase).present());
                    }
                }
                CHECK(w.kernel.hosts().empty());
                const TableCounts& counts = w.kernel.tables().counts();
                CHECK_EQ(counts.by_owner[static_cast<unsigned>(Owner::Host)], 0U);
                CHECK_EQ(counts.region_pte, 0U);
            });
        }
    } while (std::next_permutation(order.begin(), order.end()));
}

TEST(s11_leaving_flushes_the_leaver_once_and_nobody_else) {
    shared([](World& w) {
        Mm& a = w.guest();
        Mm& b = w.guest();
        w.write(a, kBase);
        w.write(b, kBase);
        w.kernel.take_effects();
        CHECK(w.kernel.munmap(a, kBase, 2 * kPmdSize) == Errno::Ok);
        Effects effects = w.kernel.take_effects();
        CHECK_EQ(effects.flushes.size(), 1U);
        CHECK_EQ(effects.flushes[0].targets.size(), 1U);
        CHECK(effects.flushes[0].targets[0].mm == a.id);
        CHECK(effects.flushes[0].tables_freed);  // walk caches hold the link
        CHECK_EQ(effects.ptes_changed, 0U);      // unlinked, not zapped
        CHECK_EQ(effects.tables_freed, 2U);      // a's PUD and PMD table
        CHECK(w.kernel.munmap(b, kBase, 2 * kPmdSize) == Errno::Ok);
        effects = w.kernel.take_effects();
        CHECK_EQ(effects.ptes_changed, 1U);
        CHECK_EQ(effects.tables_freed, 6U);  // b's two and the host's four
        CHECK_EQ(effects.flushes.size(), 1U);
    });
}

TEST(s11_a_guest_may_come_back) {
    shared([](World& w) {
        Mm& a = w.guest();
        w.write(a, kBase);
        const MmId first = w.kernel.hosts()[0]->mm.id;
        CHECK(w.kernel.munmap(a, kBase, 2 * kPmdSize) == Errno::Ok);
        CHECK(w.map(a, kBase, 2 * kPmdSize, kRw, kPtFile, w.file).ok());
        CHECK(w.kernel.hosts()[0]->mm.id != first);
        CHECK(w.write(a, kBase) == FaultKind::Host);
        // Mapped over itself by the only guest: out and in again, with a fresh host.
        CHECK(w.map(a, kBase, 2 * kPmdSize, kRw, kPtFile, w.file).ok());
        CHECK_EQ(w.kernel.hosts().size(), 1U);
        CHECK_EQ(w.kernel.hosts()[0]->guests.size(), 1U);
        CHECK_EQ(w.kernel.stats().peak_hosts, 1U);
    });
}

TEST(fork_makes_the_child_a_guest_without_copying) {
    shared([](World& w) {
        Mm& parent = w.guest();
        w.write(parent, kBase);
        w.kernel.take_effects();
        Mm& child = w.kernel.fork(parent);
        CHECK_EQ(w.kernel.take_effects().ptes_copied, 0U);
        CHECK_EQ(w.own_tables(child), 1U);
        CHECK_EQ(w.kernel.hosts()[0]->guests.size(), 2U);
        CHECK(w.leaf(parent, kBase).writable());  // shared memory stays shared
        CHECK(w.write(child, kBase) == FaultKind::Link);
        w.kernel.exit(parent);
        CHECK(w.leaf(child, kBase).present());
        CHECK_EQ(w.kernel.hosts()[0]->guests.size(), 1U);
    });
}

TEST(s12_counters_of_a_group_of_processes) {
    shared([](World& w) {
        std::vector<Mm*> guests;
        for (int i = 0; i < 8; ++i) guests.push_back(&w.guest());
        for (Mm* mm : guests) {
            for (std::uint64_t page = 0; page < 1024; page += 128)
                w.read(*mm, kBase + page * kPages);
        }
        // 8 x (root, PUD, PMD) and the host's root, PUD, PMD and two PTE tables.
        CHECK_EQ(w.kernel.tables().counts().total(), 29U);
        CHECK_EQ(w.kernel.tables().counts().region_pte, 2U);
        CHECK_EQ(w.kernel.stats().links, 16U);
        CHECK_EQ(w.kernel.stats().peak_rss_file, 8U);
    });
    in_world("private", [](World& w) {
        for (int i = 0; i < 8; ++i) {
            Mm& mm = w.guest();
            for (std::uint64_t page = 0; page < 1024; page += 128)
                w.read(mm, kBase + page * kPages);
        }
        CHECK_EQ(w.kernel.tables().counts().total(), 40U);
        CHECK_EQ(w.kernel.tables().counts().region_pte, 16U);
        CHECK_EQ(w.kernel.stats().peak_rss_file, 64U);
    });
}

TEST(ranges_of_one_file_have_hosts_of_their_own) {
    shared([](World& w) {
        Mm& mm = w.guest();
        CHECK(w.map(mm, kBase + 4 * kPmdSize, kPmdSize, kProtRead, kPtFile, w.file, 1024).ok());
        CHECK_EQ(w.kernel.hosts().size(), 2U);
        // A request over both fits neither.
        CHECK(w.map(mm, kBase + 8 * kPmdSize, 4 * kPmdSize, kRw, kPtFile, w.file).error ==
              Errno::Invalid);
        CHECK_EQ(w.kernel.stats().peak_hosts, 2U);
    });
}

TEST(madvise_dontneed_drops_pages_for_all) {
    shared([](World& w) {
        Mm& a = w.guest();
        Mm& b = w.guest();
        for (std::uint64_t i = 0; i < 4; ++i) w.write(a, kBase + i * kPages);
        w.read(b, kBase);
        w.kernel.take_effects();
        CHECK(w.kernel.madvise(b, kBase + kPages, 2 * kPages, kDontNeed) == Errno::Ok);
        const Effects effects = w.kernel.take_effects();
        CHECK_EQ(effects.ptes_changed, 2U);
        CHECK_EQ(effects.flushes.size(), 1U);
        CHECK_EQ(effects.flushes[0].targets.size(), 2U);
        CHECK(w.leaf(a, kBase + kPages).none());
        CHECK(w.leaf(a, kBase).present() && w.leaf(a, kBase + 3 * kPages).present());
        CHECK(w.read(a, kBase + kPages) == FaultKind::Host);
        CHECK(w.leaf(b, kBase + kPages).present());
    });
}

TEST(mmap_populates_the_host_and_links) {
    shared([](World& w) {
        Mm& a = w.kernel.create_mm();
        CHECK(w.map(a, kBase, 2 * kPmdSize, kRw, kPtFile | kMapPopulate, w.file).ok());
        CHECK_EQ(w.kernel.hosts()[0]->mm.rss_file, 1024U);
        CHECK_EQ(w.kernel.stats().links, 2U);
        Mm& b = w.kernel.create_mm();
        CHECK(w.map(b, kBase, 2 * kPmdSize, kRw, kPtFile | kMapPopulate, w.file).ok());
        CHECK_EQ(w.kernel.stats().links, 4U);
        CHECK(w.leaf(b, kBase + kPmdSize).permits(Access::Write));
    });
}

TEST(access_past_the_file_is_a_bus_error_and_links_nothing) {
    shared([](World& w) {
        w.file->resize(kPmdSize + 1);
        Mm& mm = w.guest(2 * kPmdSize);
        CHECK(w.read(mm, kBase + kPmdSize + kPages) == FaultKind::Bus);
        CHECK_EQ(w.kernel.stats().links, 0U);
        CHECK(w.read(mm, kBase + kPmdSize) == FaultKind::Host);
        w.kernel.truncate(*w.file, 2 * kPmdSize);
        CHECK(w.read(mm, kBase + kPmdSize + kPages) == FaultKind::Host);
    });
}

TEST(truncate_takes_pages_from_host_and_reaches_every_guest) {
    shared([](World& w) {
        Mm& a = w.guest();
        Mm& b = w.guest();
        for (std::uint64_t i = 0; i < 4; ++i) w.write(a, kBase + i * kPages);
        w.read(b, kBase);
        w.kernel.take_effects();
        w.kernel.truncate(*w.file, 2 * kPages);
        const Effects effects = w.kernel.take_effects();
        CHECK_EQ(effects.ptes_changed, 2U);
        CHECK_EQ(effects.flushes.size(), 1U);
        CHECK_EQ(effects.flushes[0].targets.size(), 2U);
        CHECK(effects.flushes[0].targets[0].start == kBase + 2 * kPages);
        CHECK(w.leaf(b, kBase + 3 * kPages).none());
        CHECK(w.read(b, kBase + 3 * kPages) == FaultKind::Bus);
        CHECK(w.read(b, kBase + kPages) == FaultKind::Spurious);
    });
}

TEST(an_unknown_policy_is_refused_by_name) {
    CHECK_THROWS(make_policy("none"), std::invalid_argument, "private, ptshare");
}
