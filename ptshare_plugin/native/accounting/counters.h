// What the engines count for each process. A name without a row in
// ptshare_plugin/metrics/vocabulary.py, where unit and meaning stand, does not compile.
#pragma once

#include <array>
#include <cstdint>
#include <string>

#include "core/kernel.h"
#include "core/types.h"

namespace ptshare::engine {

// The cycle stack: what a process's time went to. The categories partition it.
#define PTSHARE_CYCLES(X)                   \
    X(cycles_base, "cycles.base")           \
    X(cycles_fetch, "cycles.fetch")         \
    X(cycles_tlb, "cycles.tlb")             \
    X(cycles_walk, "cycles.walk")           \
    X(cycles_data, "cycles.data")           \
    X(cycles_fault, "cycles.fault")         \
    X(cycles_syscall, "cycles.syscall")     \
    X(cycles_shootdown, "cycles.shootdown") \
    X(cycles_switch, "cycles.switch")

#define PTSHARE_FAULT_COUNTER(X, kind, name) X(faults_##name, "fault." #name)

// X(field, metric name)
#define PTSHARE_COUNTERS(X)                             \
    X(instructions, "instructions")                     \
    X(data_reads, "access.reads")                       \
    X(data_writes, "access.writes")                     \
    X(fetches, "access.fetches")                        \
    X(itlb_accesses, "tlb.itlb.accesses")               \
    X(itlb_misses, "tlb.itlb.misses")                   \
    X(dtlb_accesses, "tlb.dtlb.accesses")               \
    X(dtlb_misses, "tlb.dtlb.misses")                   \
    X(stlb_accesses, "tlb.stlb.accesses")               \
    X(stlb_misses, "tlb.stlb.misses")                   \
    X(tlb_stale_hits, "tlb.stale_hits")                 \
    X(walks_data, "walk.data")                          \
    X(walks_fetch, "walk.fetch")                        \
    X(walks_faulted, "walk.faulted")                    \
    X(walks_dirty, "walk.dirty_assists")                \
    X(walk_cycles, "walk.cycles")                       \
    X(walk_stores, "walk.stores")                       \
    X(pwc_pmd_hits, "walk_cache.pmd.hits")              \
    X(pwc_pud_hits, "walk_cache.pud.hits")              \
    X(pwc_p4d_hits, "walk_cache.p4d.hits")              \
    X(pwc_pgd_hits, "walk_cache.pgd.hits")              \
    X(pwc_misses, "walk_cache.misses")                  \
    X(pwc_stale_hits, "walk_cache.stale_hits")          \
    X(l1i_accesses, "cache.l1i.accesses")               \
    X(l1i_misses, "cache.l1i.misses")                   \
    X(l1d_accesses, "cache.l1d.accesses")               \
    X(l1d_misses, "cache.l1d.misses")                   \
    X(l2_accesses, "cache.l2.accesses")                 \
    X(l2_misses, "cache.l2.misses")                     \
    X(llc_accesses, "cache.llc.accesses")               \
    X(llc_misses, "cache.llc.misses")                   \
    X(cache_transfers, "cache.transfers")               \
    X(cache_invalidations, "cache.invalidations")       \
    X(table_stores, "pte.stores.lines")                 \
    X(table_store_transfers, "pte.stores.transfers")    \
    X(table_store_cycles, "pte.stores.cycles")          \
    PTSHARE_FAULT_KINDS(PTSHARE_FAULT_COUNTER, X)       \
    X(fault_around_pages, "fault.around_pages")         \
    X(region_faults_link, "fault.region.link")          \
    X(region_faults_page, "fault.region.page")          \
    X(syscalls, "syscall.count")                        \
    X(syscalls_unknown, "syscall.unknown")              \
    X(switches, "sched.switches")                       \
    X(shootdowns, "shootdown.requests")                 \
    X(shootdown_ipis, "shootdown.ipis")                 \
    X(shootdown_received, "shootdown.received")         \
    X(tlb_flushed_entries, "shootdown.flushed_entries") \
    PTSHARE_CYCLES(X)

// Where a memory read was served; also the column of the PTE-read matrix.
enum class Served : unsigned { L1 = 0, L2 = 1, Llc = 2, Dram = 3 };
constexpr unsigned kServedPlaces = 4;
// As metrics name them; index: Served.
constexpr const char* kPlaceNames[kServedPlaces] = {"l1", "l2", "llc", "dram"};
constexpr unsigned kCachePlaces = kServedPlaces - 1;  // all but memory

// Walks by the cycles that they took, "walk.latency.from_<bound>": below 8, then a power of two
// each, the last one without an end.
constexpr unsigned kWalkLatencies = 10;
constexpr std::uint64_t walk_latency_bound(unsigned index) {
    return index == 0 ? 0 : std::uint64_t{4} << index;
}

struct Counters {
#define PTSHARE_FIELD(field, name) std::uint64_t field = 0;
    PTSHARE_COUNTERS(PTSHARE_FIELD)
#undef PTSHARE_FIELD
    // PTE reads of the walker: [level from PTE up to PGD][place].
    std::array<std::array<std::uint64_t, kServedPlaces>, kLevels> pte_reads{};
    // Of these, from lines that another mm brought in.
    std::array<std::array<std::uint64_t, kCachePlaces>, kLevels> pte_reads_of_others{};
    // Of those from the LLC, which came from another core's cache instead.
    std::array<std::uint64_t, kLevels> pte_transfers{};
    // They add up to the walks that have ended.
    std::array<std::uint64_t, kWalkLatencies> walk_latency{};
};

// Metrics of pte_reads and pte_reads_of_others.
inline std::string pte_reads_metric(unsigned level, unsigned place) {
    return std::string("walk.reads.") + kLevelNames[level] + "." + kPlaceNames[place];
}
inline std::string pte_reads_of_others_metric(unsigned level, unsigned place) {
    return pte_reads_metric(level, place) + ".other";
}

inline std::string pte_transfers_metric(unsigned level) {
    return std::string("walk.reads.") + kLevelNames[level] + ".transfers";
}

// Calls fn(metric name, value) for each of them, always in the same order; the values can be
// changed when the counters can.
template <class AnyCounters, class Fn>
void for_each_counter(AnyCounters& counters, Fn&& fn) {
#define PTSHARE_VISIT(field, name) fn(std::string(name), counters.field);
    PTSHARE_COUNTERS(PTSHARE_VISIT)
#undef PTSHARE_VISIT
    for (unsigned level = 0; level < kLevels; ++level) {
        for (unsigned place = 0; place < kServedPlaces; ++place) {
            fn(pte_reads_metric(level, place), counters.pte_reads[level][place]);
            if (place < kCachePlaces) {
                fn(pte_reads_of_others_metric(level, place),
                   counters.pte_reads_of_others[level][place]);
            }
        }
        fn(pte_transfers_metric(level), counters.pte_transfers[level]);
    }
    for (unsigned i = 0; i < kWalkLatencies; ++i) {
        fn("walk.latency.from_" + std::to_string(walk_latency_bound(i)), counters.walk_latency[i]);
    }
}

void add(Counters& to, const Counters& from);
void subtract(Counters& from, const Counters& what);
// Counts the time of a walk that has ended.
void count_walk_time(Counters& counters, std::uint64_t cycles);
// Faults of the kinds that a process survives, fault.minor of the vocabulary; and of all kinds,
// fault.total.
std::uint64_t minor_faults(const Counters& counters);
std::uint64_t all_faults(const Counters& counters);
// The whole cycle stack, cycles.total.
std::uint64_t all_cycles(const Counters& counters);
// Counts a fault by its kind.
void count_fault(Counters& counters, const FaultResult& result, std::uint64_t times = 1);
// Counts those that MAP_POPULATE took.
void count_populated(Counters& counters, const Effects& effects);

}  // namespace ptshare::engine
