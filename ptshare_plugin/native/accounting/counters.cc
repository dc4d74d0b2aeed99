#include "accounting/counters.h"

#include "accounting/vocabulary.h"

namespace ptshare::engine {

#define PTSHARE_KNOWN(field, name) \
    static_assert(is_metric(name), name " has no row in the vocabulary");
PTSHARE_COUNTERS(PTSHARE_KNOWN)
#undef PTSHARE_KNOWN

namespace {

// Index: FaultKind.
constexpr std::uint64_t Counters::*kByKind[] = {
#define PTSHARE_MEMBER(X, kind, name) &Counters::faults_##name,
    PTSHARE_FAULT_KINDS(PTSHARE_MEMBER, )
#undef PTSHARE_MEMBER
};

std::uint64_t faults(const Counters& counters, FaultKind kind) {
    return counters.*kByKind[static_cast<unsigned>(kind)];
}

}  // namespace

void add(Counters& to, const Counters& from) {
#define PTSHARE_ADD(field, name) to.field += from.field;
    PTSHARE_COUNTERS(PTSHARE_ADD)
#undef PTSHARE_ADD
    for (std::size_t level = 0; level < to.pte_reads.size(); ++level) {
        for (std::size_t place = 0; place < kServedPlaces; ++place) {
            to.pte_reads[level][place] += from.pte_reads[level][place];
        }
        for (std::size_t place = 0; place < kCachePlaces; ++place) {
            to.pte_reads_of_others[level][place] += from.pte_reads_of_others[level][place];
        }
        to.pte_transfers[level] += from.pte_transfers[level];
    }
    for (std::size_t i = 0; i < kWalkLatencies; ++i) to.walk_latency[i] += from.walk_latency[i];
}

void subtract(Counters& from, const Counters& what) {
#define PTSHARE_SUBTRACT(field, name) from.field -= what.field;
    PTSHARE_COUNTERS(PTSHARE_SUBTRACT)
#undef PTSHARE_SUBTRACT
    for (std::size_t level = 0; level < from.pte_reads.size(); ++level) {
        for (std::size_t place = 0; place < kServedPlaces; ++place) {
            from.pte_reads[level][place] -= what.pte_reads[level][place];
        }
        for (std::size_t place = 0; place < kCachePlaces; ++place) {
            from.pte_reads_of_others[level][place] -= what.pte_reads_of_others[level][place];
        }
        from.pte_transfers[level] -= what.pte_transfers[level];
    }
    for (std::size_t i = 0; i < kWalkLatencies; ++i) from.walk_latency[i] -= what.walk_latency[i];
}

void count_walk_time(Counters& counters, std::uint64_t cycles) {
    counters.walk_cycles += cycles;
    unsigned index = 0;
    while (index + 1 < kWalkLatencies && cycles >= walk_latency_bound(index + 1)) ++index;
    ++counters.walk_latency[index];
}

std::uint64_t minor_faults(const Counters& counters) {
    std::uint64_t sum = 0;
    for (const FaultKind kind : kFaultKinds) sum += is_fatal(kind) ? 0 : faults(counters, kind);
    return sum;
}

std::uint64_t all_faults(const Counters& counters) {
    std::uint64_t sum = 0;
    for (const FaultKind kind : kFaultKinds) sum += faults(counters, kind);
    return sum;
}

std::uint64_t all_cycles(const Counters& counters) {
    std::uint64_t sum = 0;
#define PTSHARE_SUM(field, name) sum += counters.field;
    PTSHARE_CYCLES(PTSHARE_SUM)
#undef PTSHARE_SUM
    return sum;
}

void count_fault(Counters& counters, const FaultResult& result, std::uint64_t times) {
    counters.*kByKind[static_cast<unsigned>(result.kind)] += times;
    counters.fault_around_pages += result.around * times;
    if (!result.region) return;
    if (result.kind == FaultKind::Link) counters.region_faults_link += times;
    if (result.kind == FaultKind::Host || result.kind == FaultKind::File ||
        result.kind == FaultKind::Anon || result.kind == FaultKind::Cow) {
        counters.region_faults_page += times;
    }
}

void count_populated(Counters& counters, const Effects& effects) {
    for (const RepeatedFault& item : effects.populated) {
        count_fault(counters, item.result, item.times);
    }
}

}  // namespace ptshare::engine
