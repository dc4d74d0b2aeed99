// The kernel object's statistics: those of the machine, and two groups a started process.
#include <iterator>
#include <set>
#include <string>

#include "accounting/kernel_metrics.h"
#include "accounting/vocabulary.h"
#include "gem5/kernel.hh"

namespace ptshare::g5 {

namespace {

// Counters that are no statistics of the kernel object: gem5's caches count for themselves and do
// not say who brought a line in, and its CPUs have no cycle stack. All others are.
constexpr const char* kElsewhere[] = {
    "access.fetches",    "cache.l1i.accesses", "cache.l1i.misses",    "cache.l1d.accesses",
    "cache.l1d.misses",  "cache.l2.accesses",  "cache.l2.misses",     "cache.llc.accesses",
    "cache.llc.misses",  "cache.transfers",    "cache.invalidations", "cycles.base",
    "cycles.fetch",      "cycles.tlb",         "cycles.data",         "pte.stores.transfers",
    "pte.stores.cycles",
};
constexpr bool all_exist() {
    for (const char* name : kElsewhere) {
        if (!engine::is_metric(name)) return false;
    }
    return true;
}
static_assert(all_exist(), "a counter that gem5 leaves out has no row in the vocabulary");

std::set<std::string> counted_elsewhere() {
    std::set<std::string> names(std::begin(kElsewhere), std::end(kElsewhere));
    for (unsigned level = 0; level < kLevels; ++level) {
        for (unsigned place = 0; place < engine::kCachePlaces; ++place) {
            names.insert(engine::pte_reads_of_others_metric(level, place));
        }
        names.insert(engine::pte_transfers_metric(level));
    }
    return names;
}

}  // namespace

void Kernel::init() {
    ClockedObject::init();
    or_fatal([this] { machine_.refuse_unread(); });  // all objects have been made: they read theirs
    Values& own = values_.emplace_back(this, nullptr);
    for (const engine::KernelMetric& metric : engine::kernel_metrics()) {
        own.add(metric.name, [this, &metric] { return static_cast<double>(metric.value(core())); });
    }
    own.add("shootdown.invalidated_ranges",
            [this] { return static_cast<double>(shootdowns_.invalidated_ranges()); });
    own.add("cycles.makespan", [this] { return static_cast<double>(curCycle()); });
}

engine::Counters Kernel::total(const Rank& rank) {
    engine::Counters sum = rank.counters;
    for (Task* task : tasks()) {
        if (task->rank != &rank) continue;
        count_instructions(*task);
        engine::add(sum, task->counters);
    }
    return sum;
}

void Kernel::add_statistics(Rank& rank) {
    const std::string name = "process" + std::to_string(rank.index);
    Values& whole = values_.emplace_back(this, group_names_.emplace_back(name).c_str());
    Values& roi = values_.emplace_back(&whole, group_names_.emplace_back("roi").c_str());
    static const std::set<std::string> elsewhere = counted_elsewhere();
    const auto show = [](Values& group, engine::Counters& counters) {
        engine::for_each_counter(counters, [&](const std::string& metric, std::uint64_t& value) {
            if (elsewhere.count(metric) != 0) return;
            group.add(metric, [&value] { return static_cast<double>(value); });
        });
    };
    show(whole, rank.since_reset);
    show(roi, rank.roi);
}

void Kernel::preDumpStats() {
    ClockedObject::preDumpStats();
    for (Rank& rank : ranks_) {
        rank.since_reset = total(rank);
        engine::subtract(rank.since_reset, rank.at_reset);
    }
}

void Kernel::resetStats() {
    ClockedObject::resetStats();
    // gem5 resets before the first tick, too: what loading the programs took belongs to the run.
    if (gem5::curTick() == 0) return;
    for (Rank& rank : ranks_) rank.at_reset = total(rank);
}

}  // namespace ptshare::g5
