// Machine-wide raw metrics: those of core, and those of the machine's clocks.
#include <algorithm>

#include "engine/kernel_metrics.h"
#include "engine/simulation.h"

namespace ptshare::engine {

namespace {

struct MachineMetric {
    const char* name;
    std::uint64_t (*value)(const Simulation&);
};

std::uint64_t idle_cycles(const Simulation& s) {
    std::uint64_t idle = 0;
    for (unsigned i = 0; i < s.machine().cores(); ++i) {
        const Core& core = s.machine().core(i);
        idle += core.idle + (s.cycles() - core.clock);
    }
    return idle;
}

constexpr MachineMetric kMetrics[] = {
    {"shootdown.invalidated_ranges",
     [](const Simulation& s) { return s.machine().invalidated_ranges(); }},
    {"cycles.makespan", [](const Simulation& s) { return s.cycles(); }},
    {"cycles.idle", idle_cycles},
};

}  // namespace

std::vector<std::pair<std::string, std::uint64_t>> Simulation::machine_metrics() const {
    std::vector<std::pair<std::string, std::uint64_t>> metrics;
    for (const KernelMetric& metric : kernel_metrics()) {
        metrics.emplace_back(metric.name, metric.value(machine_.kernel()));
    }
    for (const MachineMetric& metric : kMetrics) {
        metrics.emplace_back(metric.name, metric.value(*this));
    }
    return metrics;
}

std::vector<std::string> Simulation::machine_metric_names() {
    std::vector<std::string> names;
    for (const KernelMetric& metric : kernel_metrics()) names.emplace_back(metric.name);
    for (const MachineMetric& metric : kMetrics) names.emplace_back(metric.name);
    return names;
}

}  // namespace ptshare::engine
