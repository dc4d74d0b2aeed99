// Machine-wide raw metrics: those of core, and those of the machine's clocks.
#include "machine/machine_metrics.h"

#include <algorithm>

#include "accounting/kernel_metrics.h"
#include "accounting/vocabulary.h"

namespace ptshare::engine {

std::uint64_t machine_cycles(const Machine& machine) {
    std::uint64_t most = 0;
    for (unsigned i = 0; i < machine.cores(); ++i) most = std::max(most, machine.core(i).clock);
    return most;
}

namespace {

struct MachineMetric {
    const char* name;
    std::uint64_t (*value)(const Machine&);
};

std::uint64_t idle_cycles(const Machine& m) {
    std::uint64_t idle = 0;
    for (unsigned i = 0; i < m.cores(); ++i) {
        const Core& core = m.core(i);
        idle += core.idle + (machine_cycles(m) - core.clock);
    }
    return idle;
}

constexpr MachineMetric kMetrics[] = {
    {"shootdown.invalidated_ranges", [](const Machine& m) { return m.invalidated_ranges(); }},
    {"cycles.makespan", [](const Machine& m) { return machine_cycles(m); }},
    {"cycles.idle", idle_cycles},
};
static_assert(all_known(kMetrics), "a metric of the machine's has no row in the vocabulary");

}  // namespace

std::vector<std::pair<std::string, std::uint64_t>> machine_metrics(const Machine& machine) {
    std::vector<std::pair<std::string, std::uint64_t>> metrics;
    for (const KernelMetric& metric : kernel_metrics()) {
        metrics.emplace_back(metric.name, metric.value(machine.kernel()));
    }
    for (const MachineMetric& metric : kMetrics) {
        metrics.emplace_back(metric.name, metric.value(machine));
    }
    return metrics;
}

std::vector<std::string> machine_metric_names() {
    std::vector<std::string> names;
    for (const KernelMetric& metric : kernel_metrics()) names.emplace_back(metric.name);
    for (const MachineMetric& metric : kMetrics) names.emplace_back(metric.name);
    return names;
}

}  // namespace ptshare::engine
