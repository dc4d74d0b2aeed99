// Machine-wide raw metrics: name and where each comes from. Units and meaning: metrics.py.
#include <algorithm>

#include "engine/simulation.h"

namespace ptshare::engine {

namespace {

struct MachineMetric {
    const char* name;
    std::uint64_t (*value)(const Simulation&);
};

const TableStore& tables(const Simulation& s) {
    return s.machine().kernel().tables();
}

const KernelStats& stats(const Simulation& s) {
    return s.machine().kernel().stats();
}

const FrameAllocator& frames(const Simulation& s) {
    return s.machine().kernel().frames();
}

template <Level level>
std::uint64_t tables_at(const Simulation& s) {
    return tables(s).peak().by_level[index_of(level)];
}

template <Owner owner>
std::uint64_t bytes_of(const Simulation& s) {
    return tables(s).peak().by_owner[static_cast<unsigned>(owner)] * kPageSize;
}

template <Refusal reason>
std::uint64_t refused(const Simulation& s) {
    return stats(s).refusals[static_cast<unsigned>(reason)];
}

std::uint64_t idle_cycles(const Simulation& s) {
    std::uint64_t idle = 0;
    for (unsigned i = 0; i < s.machine().cores(); ++i) {
        const Core& core = s.machine().core(i);
        idle += core.idle + (s.cycles() - core.clock);
    }
    return idle;
}

constexpr MachineMetric kMetrics[] = {
    {"pt.bytes", [](const Simulation& s) { return tables(s).peak().total() * kPageSize; }},
    {"pt.bytes.guest", bytes_of<Owner::Guest>},
    {"pt.bytes.host", bytes_of<Owner::Host>},
    {"pt.tables.pte", tables_at<Level::Pte>},
    {"pt.tables.pmd", tables_at<Level::Pmd>},
    {"pt.tables.pud", tables_at<Level::Pud>},
    {"pt.tables.p4d", tables_at<Level::P4d>},
    {"pt.tables.pgd", tables_at<Level::Pgd>},
    {"pt.end.bytes", [](const Simulation& s) { return tables(s).counts().total() * kPageSize; }},
    {"pt.region.pte_tables", [](const Simulation& s) { return tables(s).peak_region_pte(); }},
    {"pt.region.bytes",
     [](const Simulation& s) { return tables(s).peak_region_pte() * kPageSize; }},
    {"pt.tables.allocated", [](const Simulation& s) { return tables(s).allocated(); }},
    {"pt.tables.freed", [](const Simulation& s) { return tables(s).freed(); }},
    {"pt.host_mms", [](const Simulation& s) { return stats(s).peak_hosts; }},
    {"share.links", [](const Simulation& s) { return stats(s).links; }},
    {"share.carried_pages", [](const Simulation& s) { return stats(s).carried_pages; }},
    {"share.refused.anonymous", refused<Refusal::Anonymous>},
    {"share.refused.private", refused<Refusal::Private>},
    {"share.refused.misaligned", refused<Refusal::Misaligned>},
    {"share.refused.address", refused<Refusal::Address>},
    {"share.refused.protection", refused<Refusal::Protection>},
    {"share.refused.size", refused<Refusal::Size>},
    {"rss.file_pages.peak", [](const Simulation& s) { return stats(s).peak_rss_file; }},
    {"rss.anon_pages.peak", [](const Simulation& s) { return stats(s).peak_rss_anon; }},
    {"frames.page_cache", [](const Simulation& s) { return frames(s).in_use(FrameUse::FilePage); }},
    {"frames.end",
     [](const Simulation& s) {
         return frames(s).in_use(FrameUse::Table) + frames(s).in_use(FrameUse::AnonPage);
     }},
    {"shootdown.invalidated_ranges",
     [](const Simulation& s) { return s.machine().invalidated_ranges(); }},
    {"cycles.makespan", [](const Simulation& s) { return s.cycles(); }},
    {"cycles.idle", idle_cycles},
};

}  // namespace

std::vector<std::pair<std::string, std::uint64_t>> Simulation::machine_metrics() const {
    std::vector<std::pair<std::string, std::uint64_t>> metrics;
    for (const MachineMetric& metric : kMetrics)
        metrics.emplace_back(metric.name, metric.value(*this));
    return metrics;
}

std::vector<std::string> Simulation::machine_metric_names() {
    std::vector<std::string> names;
    for (const MachineMetric& metric : kMetrics) names.emplace_back(metric.name);
    return names;
}

}  // namespace ptshare::engine
