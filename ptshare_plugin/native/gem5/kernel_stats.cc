// The kernel object's statistics: those of the machine, and two groups a started process.
#include <string>

#include "accounting/kernel_metrics.h"
#include "gem5/kernel.hh"

namespace ptshare::g5 {

namespace {

// What this engine counts for a process; the rest is gem5's to count.
bool counted_here(const std::string& name) {
    // gem5's caches do not say who brought a line in.
    const std::string others = ".other";
    if (name.size() > others.size() &&
        name.compare(name.size() - others.size(), others.size(), others) == 0) {
        return false;
    }
    for (const char* prefix :
         {"instructions", "access.reads", "access.writes", "tlb.", "walk", "fault.", "syscall.",
          "sched.", "shootdown.", "cycles.walk", "cycles.fault", "cycles.syscall",
          "cycles.shootdown", "cycles.switch"}) {
        if (name.rfind(prefix, 0) == 0) return true;
    }
    return false;
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
    const auto show = [](Values& group, engine::Counters& counters) {
        engine::for_each_counter(counters, [&](const std::string& metric, std::uint64_t& value) {
            if (!counted_here(metric)) return;
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
