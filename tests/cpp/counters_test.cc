// Counters by the names of the vocabulary: each has its row, and sums take in all that they are of.
#include "accounting/counters.h"

#include <iterator>
#include <string>
#include <vector>

#include "accounting/vocabulary.h"
#include "check.h"
#include "machine/machine_metrics.h"

using namespace ptshare;
using namespace ptshare::engine;

namespace {

std::uint64_t value_of(const Counters& counters, const std::string& metric) {
    std::uint64_t found = 0;
    unsigned times = 0;
    for_each_counter(counters, [&](const std::string& name, std::uint64_t value) {
        if (name != metric) return;
        found = value;
        ++times;
    });
    CHECK_EQ(times, 1U);
    return found;
}

}  // namespace

TEST(all_that_is_counted_has_its_row) {
    const Counters none;
    unsigned counted = 0;
    for_each_counter(none, [&](const std::string& name, std::uint64_t) {
        CHECK(find_metric(name) != nullptr);
        ++counted;
    });
    const std::vector<std::string> machine = machine_metric_names();
    for (const std::string& name : machine) CHECK(find_metric(name) != nullptr);
    CHECK_EQ(counted + machine.size(), std::size(kMetricRows));  // and no row is of nothing
    CHECK(find_metric("fault.none") == nullptr);
    CHECK_EQ(std::string(find_metric("pt.region.bytes")->unit), "bytes");
    CHECK_EQ(std::string(find_metric("walk.cycles")->unit), "cycles");
}

TEST(a_fault_is_counted_by_its_kind) {
    const char* const names[] = {"link",          "host",     "file", "anon", "cow",
                                 "write_protect", "spurious", "segv", "bus"};
    CHECK_EQ(std::size(kFaultKinds), std::size(names));
    for (const FaultKind kind : kFaultKinds) {
        const std::string name = names[static_cast<unsigned>(kind)];
        CHECK_EQ(std::string(name_of(kind)), name);
        Counters counters;
        count_fault(counters, FaultResult{kind}, 3);
        CHECK_EQ(value_of(counters, "fault." + name), 3U);
        CHECK_EQ(all_faults(counters), 3U);
        CHECK_EQ(minor_faults(counters), name == "segv" || name == "bus" ? 0U : 3U);
    }
}

TEST(of_a_region_only_faults_that_bring_a_page_or_a_link_are_counted_again) {
    const struct {
        FaultKind kind;
        std::uint64_t page;
        std::uint64_t link;
    } expected[] = {
        {FaultKind::Link, 0, 3},     {FaultKind::Host, 3, 0}, {FaultKind::File, 3, 0},
        {FaultKind::Anon, 3, 0},     {FaultKind::Cow, 3, 0},  {FaultKind::WriteProtect, 0, 0},
        {FaultKind::Spurious, 0, 0}, {FaultKind::Segv, 0, 0}, {FaultKind::Bus, 0, 0},
    };
    CHECK_EQ(std::size(expected), std::size(kFaultKinds));
    for (const auto& [kind, page, link] : expected) {
        Counters counters;
        FaultResult result{kind};
        result.region = true;
        count_fault(counters, result, 3);
        CHECK_EQ(value_of(counters, "fault.region.page"), page);
        CHECK_EQ(value_of(counters, "fault.region.link"), link);
        count_fault(counters, FaultResult{kind}, 8);  // outside of it
        CHECK_EQ(value_of(counters, "fault.region.page"), page);
        CHECK_EQ(value_of(counters, "fault.region.link"), link);
    }
}

TEST(all_cycles_are_the_whole_stack) {
    Counters counters;
    counters.walk_cycles = 1000;  // of walks, not of the process
    std::uint64_t next = 1;
    for_each_counter(counters, [&](const std::string& name, std::uint64_t& value) {
        if (name.rfind("cycles.", 0) != 0) return;
        value = next;
        next *= 2;
    });
    CHECK_EQ(next, 512U);
    CHECK_EQ(all_cycles(counters), 511U);
}
