// MAP_POPULATE: the faults it takes, and what an engine makes of them.
#include "accounting/counters.h"
#include "accounting/marks.h"
#include "world.h"

using namespace ptshare;
using namespace ptshare::test;

namespace {

std::vector<RepeatedFault> populated(World& w, Mm& mm, std::uint64_t pages, std::uint64_t prot,
                                     std::uint64_t flags, std::shared_ptr<File> file = nullptr) {
    w.kernel.take_effects();
    CHECK(w.map(mm, kBase, pages * kPages, prot, flags | kMapFixed | kMapPopulate, std::move(file))
              .ok());
    return w.kernel.take_effects().populated;
}

}  // namespace

TEST(each_page_is_a_fault_and_equal_ones_are_one_item) {
    in_world("private", [](World& w) {
        Mm& mm = w.kernel.create_mm();
        auto items = populated(w, mm, 5, kRw, kMapPrivate | kMapAnonymous);
        CHECK_EQ(items.size(), 1U);
        CHECK(items.at(0).result.kind == FaultKind::Anon);
        CHECK_EQ(items.at(0).times, 5U);
        CHECK(w.leaf(mm, kBase + 4 * kPages).writable());
        // Taken once.
        CHECK(w.kernel.take_effects().populated.empty());
        items = populated(w, mm, 3, kRw, kMapPrivate, w.file);
        CHECK_EQ(items.size(), 1U);
        CHECK(items.at(0).result.kind == FaultKind::Cow);
        CHECK_EQ(items.at(0).times, 3U);
        // Without the right there is none.
        CHECK(populated(w, mm, 3, 0, kMapPrivate | kMapAnonymous).empty());
        CHECK_EQ(mm.rss_anon, 2U);  // the last of the first five
    });
}

TEST(fault_around_leaves_fewer_of_them) {
    in_world("private", config(64 << 10), [](World& w) {
        for (std::uint64_t i = 0; i < 40; ++i) w.file->page(i);
        Mm& mm = w.kernel.create_mm();
        w.file->resize(42 * kPages);
        // Windows of 16, 16 and 8; pages 40 and 41 are not cached: 40 for itself, then 41.
        const auto items = populated(w, mm, 50, kRw, kMapShared, w.file);
        CHECK_EQ(items.size(), 3U);
        CHECK_EQ(items.at(0).result.around, 15U);
        CHECK_EQ(items.at(0).times, 2U);
        CHECK_EQ(items.at(1).result.around, 7U);
        CHECK_EQ(items.at(1).times, 1U);
        CHECK_EQ(items.at(2).result.around, 0U);
        CHECK_EQ(items.at(2).times, 2U);  // then the file ends, and population with it
        CHECK_EQ(mm.rss_file, 42U);
        CHECK(!w.leaf(mm, kBase).dirty());  // shared pages are only read
    });
}

TEST(of_shared_tables_the_second_guest_only_links) {
    in_world("ptshare", [](World& w) {
        Mm& a = w.kernel.create_mm();
        Mm& b = w.kernel.create_mm();
        auto items = populated(w, a, 1024, kRw, kMapShared | kMapSharedPt, w.file);
        // In each chunk one that links, and 511 that do not.
        CHECK_EQ(items.size(), 4U);
        CHECK(items.at(0).result.linked && items.at(0).result.region);
        CHECK(items.at(0).result.kind == FaultKind::Host);
        CHECK_EQ(items.at(0).times, 1U);
        CHECK(!items.at(1).result.linked);
        CHECK_EQ(items.at(1).times, 511U);
        items = populated(w, b, 1024, kRw, kMapShared | kMapSharedPt, w.file);
        CHECK_EQ(items.size(), 1U);
        CHECK(items.at(0).result.kind == FaultKind::Link);
        CHECK_EQ(items.at(0).times, 2U);
    });
}

TEST(population_ends_at_the_first_fatal_fault) {
    in_world("ptshare", [](World& w) {
        Mm& a = w.guest();
        CHECK(w.kernel.mprotect(a, kBase + 2 * kPages, kPages, 0) == Errno::Ok);
        Mm& b = w.kernel.create_mm();
        const auto items = populated(w, b, 1024, kRw, kMapShared | kMapSharedPt, w.file);
        // The first links, the second does not, the third has no rights; the fourth would have.
        CHECK_EQ(items.size(), 2U);
        CHECK(items.at(0).result.linked && items.at(0).times == 1);
        CHECK(!items.at(1).result.linked && items.at(1).times == 1);
        CHECK(w.leaf(b, kBase + kPages).present());
        CHECK(!w.leaf(b, kBase + 3 * kPages).present());
        CHECK(w.read(b, kBase + 3 * kPages) == FaultKind::Host);
    });
}

TEST(counters_count_a_fault_as_often_as_it_was_taken) {
    using namespace ptshare::engine;
    Counters counters;
    FaultResult result{FaultKind::File};
    result.around = 15;
    result.region = true;
    count_fault(counters, result, 3);
    count_fault(counters, FaultResult{FaultKind::Anon});
    count_fault(counters, FaultResult{FaultKind::Segv}, 2);
    CHECK_EQ(counters.faults_file, 3U);
    CHECK_EQ(counters.fault_around_pages, 45U);
    CHECK_EQ(counters.region_faults_page, 3U);
    CHECK_EQ(counters.faults_segv, 2U);
    CHECK_EQ(minor_faults(counters), 4U);  // fatal ones are none
}

TEST(a_sample_is_what_linux_shows_of_the_process) {
    using namespace ptshare::engine;
    in_world("ptshare", [](World& w) {
        Mm& mm = w.guest();
        w.write(mm, kBase);
        CHECK(w.map(mm, kBase + 2 * kPmdSize, 2 * kPages, kRw, kAnonymous).ok());
        w.write(mm, kBase + 2 * kPmdSize);
        CHECK(w.map(mm, kBase + 3 * kPmdSize, 2 * kPages, kRw, kSharedFile, w.file).ok());
        w.read(mm, kBase + 3 * kPmdSize);
        w.read(mm, kBase + 3 * kPmdSize + kPages);
        Counters counters;
        counters.faults_file = 20;
        counters.faults_spurious = 2;
        counters.faults_segv = 1;
        const Sample sample = take_sample(3, 1, 7, mm, counters, 5);
        CHECK_EQ(sample.rank, 3U);
        CHECK_EQ(sample.process, 1U);
        CHECK_EQ(sample.mark, 7U);
        CHECK_EQ(sample.vm_pte_bytes, 5 * kPages);  // PUD, PMD, two PTE tables, a link
        CHECK_EQ(sample.rss_anon_bytes, kPages);
        CHECK_EQ(sample.rss_file_bytes, 2 * kPages);  // the shared page is the host's
        CHECK_EQ(sample.minor_faults, 17U);
    });
}
