#include "engine/shootdown.h"

#include <algorithm>

namespace ptshare::engine {

namespace {

bool before(const FlushTarget* a, const FlushTarget* b) {
    return a->mm < b->mm;
}
// The targets of one mm lie side by side.
auto first_of(const std::vector<const FlushTarget*>& targets, MmId mm) {
    return std::lower_bound(targets.begin(), targets.end(), mm,
                            [](const FlushTarget* target, MmId id) { return target->mm < id; });
}
template <class Iterator>
bool is_of(const std::vector<const FlushTarget*>& targets, Iterator it, MmId mm) {
    return it != targets.end() && (*it)->mm == mm;
}

}  // namespace

Shootdowns::Shootdowns(const Params& params, const Costs& costs)
    : costs_(costs),
      tags_(params),
      flush_ceiling_(params.count("kernel.flush_ceiling_pages")),
      batch_(params.flag("shootdown.batch")),
      broadcast_(params.flag("shootdown.broadcast")) {
}

MmuContext Shootdowns::load(Asids& asids, TranslationCaches& caches, Mm& mm) const {
    const Asids::Choice chosen = asids.load(mm.id, mm.tlb_generation);
    if (chosen.flush) caches.flush_pcid(chosen.pcid);
    // Without PCIDs, loading CR3 leaves nothing behind.
    if (chosen.flush && chosen.pcid == 0 && tags_.on()) {
        caches.flush_all();
        asids.shared().clear();
    }
    return {mm.table.root(), chosen.pcid, tags_.on(), {}, asids.suspect() ? &mm.table : nullptr};
}

void Shootdowns::flush(Cpu& cpu, Pcid tag, const FlushTarget& target, Reach& reach) const {
    reach.reached = true;
    if (pages_of(target) > flush_ceiling_) {
        reach.dropped += cpu.caches->flush_pcid(tag);
    } else {
        reach.dropped += cpu.caches->flush_range(tag, target.start, target.end);
    }
    reach.cycles += costs_.flush_pages(target, flush_ceiling_);
}

Shootdowns::Reach Shootdowns::flush_everything(const Targets& targets, Cpu& cpu) const {
    Reach reach{true, 0, cpu.caches->flush_all()};
    for (Asids::Slot& slot : cpu.asids->slots()) {
        slot.suspect = false;
        for (auto it = first_of(targets, slot.mm); is_of(targets, it, slot.mm); ++it) {
            slot.generation = std::max(slot.generation, (*it)->generation);
        }
    }
    cpu.asids->shared().clear();
    cpu.changed = true;
    return reach;
}

Shootdowns::Reach Shootdowns::flush_mms(const FlushRequest& request, const Targets& targets,
                                        bool broadcast, Cpu& cpu) const {
    const bool all_holders = broadcast || request.strategy == FlushStrategy::Sharers;
    Reach reach;
    for (Asids::Slot& slot : cpu.asids->slots()) {
        const bool runs = cpu.running && cpu.asids->is_loaded(slot);
        for (auto it = first_of(targets, slot.mm); is_of(targets, it, slot.mm); ++it) {
            const FlushTarget& target = **it;
            if (target.generation != 0 && (runs || all_holders)) {
                flush(cpu, cpu.asids->pcid_of(slot), target, reach);
                slot.generation = std::max(slot.generation, target.generation);
            } else {
                slot.suspect = true;
            }
            cpu.changed |= runs;
        }
    }
    return reach;
}

// Those of the range itself, which nobody owns.
void Shootdowns::flush_tags(const FlushRequest& request, const Targets& targets, bool broadcast,
                            Cpu& cpu, Reach& reach) const {
    const bool all_holders = broadcast || request.strategy == FlushStrategy::Sharers;
    for (const FlushTarget* target : targets) {
        const Pcid tag = tags_.find(request.host, target->start - request.host_start);
        bool runs = false;
        for (const Asids::Slot& slot : cpu.asids->slots()) {
            runs |= cpu.running && cpu.asids->is_loaded(slot) && slot.mm == target->mm;
        }
        for (Asids::SharedSlot& slot : cpu.asids->shared()) {
            if (slot.tag != tag) continue;
            if (target->generation != 0 && (runs || all_holders)) {
                // Loading a guest did not look: an earlier flush may be due still.
                if (slot.generation + 1 < request.host_generation) {
                    reach.dropped += cpu.caches->flush_pcid(tag);
                }
                flush(cpu, tag, *target, reach);
                slot.generation = request.host_generation;
            } else if (slot.generation != request.host_generation || target->generation == 0) {
                slot.suspect = true;
            }
            cpu.changed = true;
        }
    }
}

// One instruction for everything, or one for each mm, as each has a tag of its own; one wait.
std::uint64_t Shootdowns::broadcast_cycles(bool everything, const Targets& targets,
                                           std::uint64_t others) const {
    const auto told = std::count_if(targets.begin(), targets.end(), [](const FlushTarget* target) {
        return target->generation != 0;
    });
    const auto issued = everything ? 1 : static_cast<std::uint64_t>(told);
    return costs_.shootdown_local + issued * costs_.broadcast_issue + costs_.broadcast(others);
}

std::uint64_t Shootdowns::round(const FlushRequest& request, const Targets& targets,
                                Counters& asking, std::vector<Cpu>& cpus) {
    const bool host = request.host != MmId(0);
    const bool everything = host && request.strategy == FlushStrategy::AllCpus;
    // Others than the caller are told.
    const bool others = std::any_of(targets.begin(), targets.end(), [&](const FlushTarget* target) {
        return target->generation != 0 && target->mm != request.caller;
    });
    const bool broadcast = host && broadcast_ && (everything || others);
    std::uint64_t interrupted = 0;
    for (Cpu& cpu : cpus) {
        Reach reach = everything ? flush_everything(targets, cpu)
                                 : flush_mms(request, targets, broadcast, cpu);
        if (host && !everything && tags_.on()) {
            flush_tags(request, targets, broadcast, cpu, reach);
        }
        (cpu.running ? *cpu.running : asking).tlb_flushed_entries += reach.dropped;
        if (!reach.reached || broadcast) continue;
        cpu.cycles += costs_.shootdown_local + reach.cycles;
        if (cpu.running == &asking) continue;
        ++interrupted;
        cpu.cycles += costs_.shootdown_receive;
        if (cpu.running) ++cpu.running->shootdown_received;
    }
    asking.shootdown_ipis += interrupted;
    return broadcast ? broadcast_cycles(everything, targets, cpus.size() - 1)
                     : costs_.interrupts(interrupted);
}

std::uint64_t Shootdowns::carry_out(const FlushRequest& request, Counters& asking,
                                    std::vector<Cpu>& cpus) {
    invalidated_ranges_ += request.targets.size();
    ++asking.shootdowns;
    Targets targets;
    for (const FlushTarget& target : request.targets) targets.push_back(&target);
    if (batch_ || request.host == MmId(0)) {
        std::stable_sort(targets.begin(), targets.end(), before);
        return round(request, targets, asking, cpus);
    }
    std::uint64_t waited = 0;
    for (const FlushTarget* target : targets) waited += round(request, {target}, asking, cpus);
    return waited;
}

}  // namespace ptshare::engine
