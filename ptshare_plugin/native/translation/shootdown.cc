#include "translation/shootdown.h"

#include <algorithm>
#include <utility>

namespace ptshare::engine {

namespace {

// Whether INVLPG spares entries of the walk caches that translate other pages.
constexpr Choice<bool> kInvlpg[] = {{"pcid", false}, {"page", true}};

// Of a CPU in Mm::cpus; none of one that has no place there.
constexpr std::uint64_t bit(unsigned cpu) {
    return cpu < 64 ? 1ULL << cpu : 0;
}

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
      trim_cycles_(params.count("kernel.cpumask_trim_cycles")),
      invlpg_spares_(params.choice("mmu.walk_cache.invlpg", kInvlpg)),
      batch_(params.flag("shootdown.batch")),
      broadcast_(params.flag("shootdown.broadcast")) {
}

MmuContext Shootdowns::load(unsigned cpu, Asids& asids, TranslationCaches& caches, Mm& mm) const {
    mm.cpus |= bit(cpu);
    const Asids::Choice chosen = asids.load(mm.id, mm.tlb_generation);
    if (chosen.flush) caches.flush_pcid(chosen.pcid);
    // Without PCIDs, loading CR3 leaves nothing behind.
    if (chosen.flush && chosen.pcid == 0 && tags_.on()) {
        caches.flush_all();
        asids.shared().clear();
    }
    return {mm.table.root(), chosen.pcid, tags_.on(), {}, asids.suspect() ? &mm.table : nullptr};
}

// CPUs flush pages of the loaded PCID by INVLPG, those of another by INVPCID, type 0, which names
// its PCID and address. INVLPGB, as Linux gives it, leaves the walk caches alone unless page tables
// are freed (arch/x86/include/asm/invlpgb.h: final translations only).
TranslationCaches::WalkEntries Shootdowns::walk_entries(const FlushRequest& request, bool broadcast,
                                                        bool loaded) const {
    using Entries = TranslationCaches::WalkEntries;
    if (broadcast) return request.tables_freed ? Entries::Pages : Entries::Keep;
    return loaded && !invlpg_spares_ ? Entries::Pcid : Entries::Pages;
}

bool Shootdowns::flush(Cpu& cpu, Pcid tag, const FlushTarget& target, bool behind,
                       TranslationCaches::WalkEntries walk_entries, Reach& reach) const {
    reach.reached = true;
    // As Linux: who has missed a flush before this one drops everything.
    if (behind || pages_of(target) > flush_ceiling_) {
        reach.dropped += cpu.caches->flush_pcid(tag);
        return true;
    }
    reach.dropped += cpu.caches->flush_range(tag, target.start, target.end, walk_entries);
    return false;
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
    return reach;
}

Shootdowns::Reach Shootdowns::flush_mms(const FlushRequest& request, const Targets& targets,
                                        bool broadcast, Cpu& cpu) const {
    Reach reach;
    for (Asids::Slot& slot : cpu.asids->slots()) {
        for (auto it = first_of(targets, slot.mm); is_of(targets, it, slot.mm); ++it) {
            const FlushTarget& target = **it;
            if (!is_told(request, target, broadcast, cpu)) continue;
            const bool behind = slot.generation + 1 < target.generation;
            const auto entries = walk_entries(request, broadcast, cpu.asids->is_loaded(slot));
            const bool whole = flush(cpu, cpu.asids->pcid_of(slot), target, behind, entries, reach);
            if (whole) slot.suspect = false;
            slot.generation = std::max(slot.generation, target.generation);
            reach.cycles += costs_.flush_pages(target, flush_ceiling_);
        }
    }
    return reach;
}

// Those of the range itself, which nobody owns; they are flushed along with the mms' own, at once.
void Shootdowns::flush_tags(const FlushRequest& request, const Targets& targets, bool broadcast,
                            Cpu& cpu, Reach& reach) const {
    const bool grows = request.strategy != FlushStrategy::CallerOnly;
    std::vector<std::uint64_t> done;
    for (const FlushTarget* target : targets) {
        const std::uint64_t shift = target->start - request.host_start;
        if (std::find(done.begin(), done.end(), shift) != done.end()) continue;
        if (!is_told(request, *target, broadcast, cpu)) continue;
        done.push_back(shift);
        const SharedTags::Tag* tag = tags_.find(request.host, shift);
        Asids::SharedSlot* slot = tag ? cpu.asids->find_shared(tag->index, tag->serial) : nullptr;
        if (!slot) continue;
        const bool behind = slot->generation + (grows ? 1 : 0) < request.host_generation;
        // The walk caches know PCIDs alone.
        const bool whole =
            flush(cpu, tag->pcid(), *target, behind, TranslationCaches::WalkEntries::Keep, reach);
        if (whole) slot->suspect = false;
        slot->generation = request.host_generation;
    }
    if (!reach.reached) return;
    const std::uint64_t ranges = std::max<std::uint64_t>(done.size(), 1);
    reach.cycles = ranges * costs_.flush_pages(*targets.front(), flush_ceiling_);
}

bool Shootdowns::runs(const Cpu& cpu, MmId mm) {
    return cpu.running && !cpu.lazy && has_loaded(cpu, mm);
}

bool Shootdowns::has_loaded(const Cpu& cpu, MmId mm) {
    const auto& slots = cpu.asids->slots();
    return std::any_of(slots.begin(), slots.end(), [&](const Asids::Slot& slot) {
        return slot.mm == mm && cpu.asids->is_loaded(slot);
    });
}

bool Shootdowns::is_told(const FlushRequest& request, const FlushTarget& target, bool broadcast,
                         const Cpu& cpu) {
    if (target.generation == 0) return false;
    return broadcast || request.strategy == FlushStrategy::Sharers || runs(cpu, target.mm);
}

// What was not flushed by now is due still.
void Shootdowns::mark_suspects(const FlushRequest& request, const Targets& targets, bool broadcast,
                               Cpu& cpu) const {
    for (Asids::Slot& slot : cpu.asids->slots()) {
        for (auto it = first_of(targets, slot.mm); is_of(targets, it, slot.mm); ++it) {
            const std::uint64_t generation = (*it)->generation;
            slot.suspect |= generation == 0 || slot.generation < generation;
            cpu.changed |= cpu.running && cpu.asids->is_loaded(slot);
        }
    }
    if (request.host == MmId(0) || !tags_.on()) return;
    cpu.changed = true;
    // Under CallerOnly the host's generation does not grow: who was not told was left out.
    const bool grows = request.strategy != FlushStrategy::CallerOnly;
    std::vector<std::uint64_t> told;
    for (const FlushTarget* target : targets) {
        if (!grows && is_told(request, *target, broadcast, cpu))
            told.push_back(target->start.value);
    }
    for (const FlushTarget* target : targets) {
        const SharedTags::Tag* tag = tags_.find(request.host, target->start - request.host_start);
        Asids::SharedSlot* slot = tag ? cpu.asids->find_shared(tag->index, tag->serial) : nullptr;
        if (!slot) continue;
        const bool left_out =
            !grows && std::find(told.begin(), told.end(), target->start.value) == told.end();
        slot->suspect |= left_out || slot->generation < request.host_generation;
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

std::uint64_t Shootdowns::stragglers(const FlushRequest& request, const Targets& targets,
                                     const Counters& asking, const std::vector<Cpu>& cpus,
                                     Kernel& kernel, std::uint64_t now) const {
    std::uint64_t interrupted = 0;
    for (const FlushTarget* target : targets) {
        Mm* const mm = target->generation == 0 ? nullptr : kernel.find_mm(target->mm);
        if (!mm) continue;
        std::uint64_t lazy = 0;  // the mm is loaded, and no task of it runs
        std::uint64_t gone = 0;  // another is loaded
        std::uint64_t idle = 0;  // of these, who runs nothing
        bool others = false;
        for (unsigned i = 0; i < cpus.size(); ++i) {
            if ((mm->cpus & bit(i)) == 0) continue;
            others |= cpus[i].running != &asking;
            if (runs(cpus[i], mm->id)) continue;
            (has_loaded(cpus[i], mm->id) ? lazy : gone) |= bit(i);
            if (cpus[i].lazy || !cpus[i].running) idle |= bit(i);
        }
        if (trim_cycles_ == 0) mm->cpus &= ~std::exchange(gone, 0);
        std::uint64_t told = 0;
        if (request.tables_freed) {
            told = lazy | gone;
        } else if (others && trim_cycles_ != 0 && now >= mm->next_trim) {
            told = gone & ~idle;
            mm->next_trim = now + trim_cycles_;
        }
        mm->cpus &= ~told;
        interrupted |= told;
    }
    return interrupted;
}

std::uint64_t Shootdowns::round(const FlushRequest& request, const Targets& targets, bool broadcast,
                                Counters& asking, std::vector<Cpu>& cpus, Kernel& kernel,
                                std::uint64_t now) {
    const bool host = request.host != MmId(0);
    const bool everything = host && request.strategy == FlushStrategy::AllCpus;
    const bool as_linux = !everything && !broadcast && request.strategy != FlushStrategy::Sharers;
    const std::uint64_t also =
        as_linux ? stragglers(request, targets, asking, cpus, kernel, now) : 0;
    std::uint64_t interrupted = 0;
    for (unsigned i = 0; i < cpus.size(); ++i) {
        Cpu& cpu = cpus[i];
        Reach reach = everything ? flush_everything(targets, cpu)
                                 : flush_mms(request, targets, broadcast, cpu);
        if (host && !everything && tags_.on()) {
            flush_tags(request, targets, broadcast, cpu, reach);
        }
        cpu.changed |= everything;
        // A task that waits is not stopped.
        Counters* const running = cpu.lazy ? nullptr : cpu.running;
        (running ? *running : asking).tlb_flushed_entries += reach.dropped;
        const bool straggles = !reach.reached && (also & bit(i)) != 0;
        if ((!reach.reached && !straggles) || broadcast) continue;
        if (running == &asking) {
            cpu.cycles += costs_.shootdown_local + reach.cycles;
            continue;
        }
        ++interrupted;
        if (!running) continue;
        ++running->shootdown_received;
        cpu.cycles += costs_.shootdown_receive;
        if (reach.reached) cpu.cycles += costs_.shootdown_local + reach.cycles;
    }
    asking.shootdown_ipis += interrupted;
    return broadcast ? broadcast_cycles(everything, targets, cpus.size() - 1)
                     : costs_.interrupts(interrupted);
}

std::uint64_t Shootdowns::carry_out(const FlushRequest& request, Counters& asking,
                                    std::vector<Cpu>& cpus, Kernel& kernel, std::uint64_t now) {
    invalidated_ranges_ += request.targets.size();
    ++asking.shootdowns;
    Targets targets;
    for (const FlushTarget& target : request.targets) targets.push_back(&target);
    std::stable_sort(targets.begin(), targets.end(), before);
    const bool host = request.host != MmId(0);
    const bool everything = request.strategy == FlushStrategy::AllCpus;
    const bool broadcast =
        host && broadcast_ && std::any_of(targets.begin(), targets.end(), [&](const auto* target) {
            return everything || (target->generation != 0 && target->mm != request.caller);
        });
    std::uint64_t waited = 0;
    if (batch_ || !host) {
        waited = round(request, targets, broadcast, asking, cpus, kernel, now);
    } else {
        for (const FlushTarget* target : targets) {
            waited += round(request, {target}, broadcast, asking, cpus, kernel, now);
        }
    }
    for (Cpu& cpu : cpus) mark_suspects(request, targets, broadcast, cpu);
    return waited;
}

}  // namespace ptshare::engine
