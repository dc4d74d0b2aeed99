// The kernel object's statistics: those of the machine, and two groups a started process.
#include <string>

#include "engine/kernel_metrics.h"
#include "gem5/kernel.hh"

namespace ptshare::g5 {

namespace {

// What this engine counts for a process; the rest is gem5's to count.
bool counted_here(const std::string& name) {
    for (const char* prefix :
         {"instructions", "access.reads", "access.writes", "tlb.", "walk", "fault.", "syscall.",
          "shootdown.", "cycles.walk", "cycles.fault", "cycles.syscall", "cycles.shootdown"}) {
        if (name.rfind(prefix, 0) == 0) return true;
    }
    return false;
}

}  // namespace

void Kernel::init() {
    ClockedObject::init();
    Values& own = values_.emplace_back(this, nullptr);
    for (const engine::KernelMetric& metric : engine::kernel_metrics()) {
        own.add(metric.name, [this, &metric] { return static_cast<double>(metric.value(core())); });
    }
    own.add("shootdown.invalidated_ranges",
            [this] { return static_cast<double>(invalidated_ranges_); });
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
    using engine::Counters;
    const std::string name = "process" + std::to_string(rank.index);
    Values& whole = values_.emplace_back(this, group_names_.emplace_back(name).c_str());
    Values& roi = values_.emplace_back(&whole, group_names_.emplace_back("roi").c_str());
    const auto add = [&](const std::string& metric, auto value) {
        whole.add(metric, [this, &rank, value] {
            return static_cast<double>(value(total(rank)) - value(rank.at_reset));
        });
        roi.add(metric, [&rank, value] { return static_cast<double>(value(rank.roi)); });
    };
#define PTSHARE_VALUE(field, metric) \
    if (counted_here(metric)) add(metric, [](const Counters& c) { return c.field; });
    PTSHARE_COUNTERS(PTSHARE_VALUE)
#undef PTSHARE_VALUE
    static constexpr const char* kLevelNames[] = {"pte", "pmd", "pud", "p4d", "pgd"};
    static constexpr const char* kPlaceNames[] = {"l1", "l2", "llc", "dram"};
    for (unsigned level = 0; level < kLevels; ++level) {
        for (unsigned place = 0; place < engine::kServedPlaces; ++place) {
            add(std::string("walk.reads.") + kLevelNames[level] + "." + kPlaceNames[place],
                [level, place](const Counters& c) { return c.pte_reads[level][place]; });
        }
    }
}

void Kernel::resetStats() {
    ClockedObject::resetStats();
    // gem5 resets before the first tick, too: what loading the programs took belongs to the run.
    if (gem5::curTick() == 0) return;
    for (Rank& rank : ranks_) rank.at_reset = total(rank);
}

}  // namespace ptshare::g5
