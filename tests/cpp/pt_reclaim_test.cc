// MADV_DONTNEED with KernelConfig::pt_reclaim: which PTE tables go, and who hears of it.
#include "world.h"

using namespace ptshare;
using namespace ptshare::test;

namespace {

constexpr int kDontNeed = 4;

KernelConfig reclaiming() {
    KernelConfig with = config();
    with.pt_reclaim = true;
    return with;
}

std::uint64_t pte_tables(const Mm& mm) {
    return mm.table.tables(Level::Pte);
}

// 4 x 2 MiB of anonymous memory with one page in each.
Mm& four_chunks(World& w) {
    Mm& mm = w.kernel.create_mm();
    CHECK(w.map(mm, kBase, 4 * kPmdSize, kRw, kAnonymous).ok());
    for (std::uint64_t i = 0; i < 4; ++i) w.write(mm, kBase + i * kPmdSize);
    w.kernel.take_effects();
    return mm;
}

}  // namespace

TEST(tables_wholly_in_the_zapped_range_go) {
    in_world("private", reclaiming(), [](World& w) {
        Mm& mm = four_chunks(w);
        // A page short of the first chunk and one into the last: the two between go.
        CHECK(w.kernel.madvise(mm, kBase + kPages, 3 * kPmdSize, kDontNeed) == Errno::Ok);
        CHECK_EQ(pte_tables(mm), 2U);
        CHECK(mm.table.has_table(kBase, Level::Pte));
        CHECK(!mm.table.has_table(kBase + kPmdSize, Level::Pte));
        CHECK(!mm.table.has_table(kBase + 2 * kPmdSize, Level::Pte));
        CHECK(mm.table.has_table(kBase + 3 * kPmdSize, Level::Pte));
        CHECK_EQ(mm.rss_anon, 1U);  // the first page lies before the range
        const Effects effects = w.kernel.take_effects();
        CHECK_EQ(effects.tables_freed, 2U);
        CHECK_EQ(effects.ptes_changed, 3U);
        CHECK_EQ(effects.flushes.size(), 1U);
        CHECK(effects.flushes[0].tables_freed);
        CHECK(effects.flushes[0].targets[0].start == kBase + kPages);
        CHECK(effects.flushes[0].targets[0].end == kBase + 3 * kPmdSize + kPages);
        // All of it: the upper tables stay.
        CHECK(w.kernel.madvise(mm, kBase, 4 * kPmdSize, kDontNeed) == Errno::Ok);
        CHECK_EQ(pte_tables(mm), 0U);
        CHECK_EQ(mm.vm_pte_bytes(), 2 * kPages);
        CHECK(w.write(mm, kBase + kPmdSize) == FaultKind::Anon);
        CHECK_EQ(mm.vm_pte_bytes(), 3 * kPages);
    });
}

TEST(tables_that_were_empty_already_go_too) {
    in_world("private", reclaiming(), [](World& w) {
        Mm& mm = four_chunks(w);
        CHECK(w.kernel.madvise(mm, kBase, kPages, kDontNeed) == Errno::Ok);
        CHECK_EQ(pte_tables(mm), 4U);
        Effects effects = w.kernel.take_effects();
        CHECK(!effects.flushes.at(0).tables_freed);
        CHECK(w.kernel.madvise(mm, kBase, kPmdSize, kDontNeed) == Errno::Ok);
        CHECK_EQ(pte_tables(mm), 3U);
        effects = w.kernel.take_effects();
        CHECK_EQ(effects.ptes_changed, 0U);
        CHECK(effects.flushes.at(0).tables_freed);
        // Nothing is left to do: no flush.
        CHECK(w.kernel.madvise(mm, kBase, kPmdSize, kDontNeed) == Errno::Ok);
        CHECK(w.kernel.take_effects().flushes.empty());
    });
}

TEST(two_vmas_in_one_chunk_keep_its_table) {
    in_world("private", reclaiming(), [](World& w) {
        Mm& mm = w.kernel.create_mm();
        CHECK(w.map(mm, kBase, kPmdSize / 2, kRw, kAnonymous).ok());
        CHECK(w.map(mm, kBase + kPmdSize / 2, kPmdSize / 2, kProtRead, kAnonymous).ok());
        w.write(mm, kBase);
        w.read(mm, kBase + kPmdSize / 2);
        CHECK(w.kernel.madvise(mm, kBase, kPmdSize, kDontNeed) == Errno::Ok);
        CHECK_EQ(pte_tables(mm), 1U);
        CHECK(w.leaf(mm, kBase).none() && w.leaf(mm, kBase + kPmdSize / 2).none());
        for (const FlushRequest& request : w.kernel.take_effects().flushes) {
            CHECK(!request.tables_freed);
        }
    });
}

TEST(files_tables_go_as_well) {
    in_world("private", reclaiming(), [](World& w) {
        Mm& mm = w.kernel.create_mm();
        CHECK(w.map(mm, kBase, kPmdSize, kRw, kSharedFile, w.file).ok());
        w.write(mm, kBase);
        CHECK(w.kernel.madvise(mm, kBase, kPmdSize, kDontNeed) == Errno::Ok);
        CHECK_EQ(pte_tables(mm), 0U);
        CHECK_EQ(mm.rss_file, 0U);
    });
}

TEST(without_pt_reclaim_tables_stay) {
    in_world("private", [](World& w) {
        Mm& mm = four_chunks(w);
        CHECK(w.kernel.madvise(mm, kBase, 4 * kPmdSize, kDontNeed) == Errno::Ok);
        CHECK_EQ(pte_tables(mm), 4U);
        CHECK_EQ(mm.rss_anon, 0U);
        const Effects effects = w.kernel.take_effects();
        CHECK_EQ(effects.tables_freed, 0U);
        CHECK_EQ(effects.flushes.size(), 1U);
        CHECK(!effects.flushes[0].tables_freed);
    });
}

TEST(a_hosts_tables_stay) {
    in_world("ptshare", reclaiming(), [](World& w) {
        Mm& a = w.guest();
        Mm& b = w.guest();
        w.write(a, kBase);
        w.read(b, kBase);
        w.kernel.take_effects();
        CHECK(w.kernel.madvise(a, kBase, 2 * kPmdSize, kDontNeed) == Errno::Ok);
        HostMm& host = *w.kernel.hosts().at(0);
        CHECK_EQ(pte_tables(host.mm), 1U);
        CHECK_EQ(host.mm.rss_file, 0U);
        CHECK_EQ(b.table.linked_tables(Level::Pte), 1U);
        const Effects effects = w.kernel.take_effects();
        CHECK_EQ(effects.flushes.size(), 1U);
        CHECK_EQ(effects.flushes[0].targets.size(), 2U);
        CHECK(!effects.flushes[0].tables_freed);
        // Own memory beside it is reclaimed, links are none of its tables.
        CHECK(w.map(a, kBase + 2 * kPmdSize, kPmdSize, kRw, kAnonymous).ok());
        w.write(a, kBase + 2 * kPmdSize);
        CHECK_EQ(pte_tables(a), 1U);
        CHECK(w.kernel.madvise(a, kBase, 3 * kPmdSize, kDontNeed) == Errno::Ok);
        CHECK_EQ(pte_tables(a), 0U);
        CHECK_EQ(a.table.linked_tables(Level::Pte), 1U);
        CHECK(w.read(b, kBase) == FaultKind::Host);
    });
}
