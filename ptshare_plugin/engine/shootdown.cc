#include "engine/shootdown.h"

#include <unordered_map>

namespace ptshare::engine {

Shootdowns::Shootdowns(const Params& params, const Costs& costs)
    : costs_(costs), flush_ceiling_(params.count("kernel.flush_ceiling_pages")) {
}

std::uint64_t Shootdowns::flush(const Cpu& cpu, const FlushTarget& target) const {
    const std::uint64_t pages = (target.end - target.start) >> kPageShift;
    std::uint64_t cycles = costs_.shootdown_local;
    std::uint64_t dropped = 0;
    if (pages > flush_ceiling_) {
        dropped = cpu.caches->flush_pcid(cpu.pcid);
    } else {
        dropped = cpu.caches->flush_range(cpu.pcid, target.start, target.end);
        cycles += pages * costs_.flush_page;
    }
    cpu.counters->tlb_flushed_entries += dropped;
    return cycles;
}

std::uint64_t Shootdowns::carry_out(const FlushRequest& request, Counters& asking,
                                    std::vector<Cpu>& cpus) {
    std::unordered_map<std::uint64_t, const FlushTarget*> targets;
    for (const FlushTarget& target : request.targets) targets[target.mm.value] = &target;
    invalidated_ranges_ += request.targets.size();
    ++asking.shootdowns;
    std::uint64_t interrupted = 0;
    for (Cpu& cpu : cpus) {
        const auto hit = targets.find(cpu.mm.value);
        if (hit == targets.end()) continue;
        cpu.flushed = true;
        cpu.cycles = flush(cpu, *hit->second);
        if (cpu.counters == &asking) continue;
        ++interrupted;
        ++cpu.counters->shootdown_received;
        cpu.cycles += costs_.shootdown_receive;
    }
    if (interrupted == 0) return 0;
    asking.shootdown_ipis += interrupted;
    return costs_.shootdown_first + (interrupted - 1) * costs_.shootdown_next;
}

}  // namespace ptshare::engine
