// TLB shootdowns: which CPUs flush what, and what that costs each.
#pragma once

#include <cstdint>
#include <vector>

#include "accounting/costs.h"
#include "accounting/counters.h"
#include "accounting/params.h"
#include "core/kernel.h"
#include "translation/asids.h"
#include "translation/shared_tags.h"
#include "translation/translation_caches.h"

namespace ptshare::engine {

class Shootdowns {
  public:
    // `costs` must outlive this.
    Shootdowns(const Params& params, const Costs& costs);

    // A CPU of the machine. Nothing is owned.
    struct Cpu {
        Asids* asids = nullptr;
        TranslationCaches* caches = nullptr;
        Counters* running = nullptr;  // of the task that it runs; null: none, it is idle
        // What it runs waits, and nothing else is there to run: in Linux's lazy TLB mode the mm
        // stays loaded.
        bool lazy = false;
        // Set by carry_out: whether translations of what it runs were dropped, or are suspect now,
        // and the cycles that this took it.
        bool changed = false;
        std::uint64_t cycles = 0;
    };
    // An mm is loaded on a CPU, `cpu` among those of the machine, also when it comes back to it
    // from being lazy; what the CPU must not use of it any more is dropped. `mm` must outlive its
    // being loaded.
    MmuContext load(unsigned cpu, Asids& asids, TranslationCaches& caches, Mm& mm) const;

    // A change of an mm's own tables is flushed as by Linux's native_flush_tlb_multi with PCIDs:
    // CPUs that run the mm are interrupted; those that only hold entries of it find the newer
    // generation when they load it again, and so do lazy ones when they come back. Where tables are
    // freed, lazy ones are interrupted, too, and so is who has left the mm and stands in its mask;
    // both leave the mask then. Without that, who has left is trimmed from the mask, by an
    // interrupt, in the first flush after kernel.cpumask_trim_cycles (Linux 6.14, commit
    // 209954cbc7d0; its first is one such time after the mm's start, here at once: processes of
    // interest are older).
    //
    // A change of host tables goes by the request's strategy, with shootdown.batch in one round for
    // all guests, else in a round for each, and with shootdown.broadcast by an instruction instead
    // of interrupts. Whoever is left out keeps its entries, and they are suspect.
    //
    // `asking`: counters of the CPU whose kernel asks, at its time `now`; it may be among `cpus`,
    // which are all of the machine. Returns the cycles that it waits for the others. Counts all but
    // cycles, which the caller charges.
    std::uint64_t carry_out(const FlushRequest& request, Counters& asking, std::vector<Cpu>& cpus,
                            Kernel& kernel, std::uint64_t now);

    SharedTags& tags() { return tags_; }

    std::uint64_t invalidated_ranges() const { return invalidated_ranges_; }
    // For a checkpoint.
    void set_invalidated_ranges(std::uint64_t count) { invalidated_ranges_ = count; }

  private:
    using Targets = std::vector<const FlushTarget*>;  // by mm, which may map a range twice

    // What one round comes to on one CPU.
    struct Reach {
        bool reached = false;
        std::uint64_t cycles = 0;
        std::uint64_t dropped = 0;
    };
    std::uint64_t round(const FlushRequest& request, const Targets& targets, bool broadcast,
                        Counters& asking, std::vector<Cpu>& cpus, Kernel& kernel,
                        std::uint64_t now);
    // The CPUs that are interrupted though they run none of the targets: a bit each.
    std::uint64_t stragglers(const FlushRequest& request, const Targets& targets,
                             const Counters& asking, const std::vector<Cpu>& cpus, Kernel& kernel,
                             std::uint64_t now) const;
    Reach flush_everything(const Targets& targets, Cpu& cpu) const;
    Reach flush_mms(const FlushRequest& request, const Targets& targets, bool broadcast,
                    Cpu& cpu) const;
    void flush_tags(const FlushRequest& request, const Targets& targets, bool broadcast, Cpu& cpu,
                    Reach& reach) const;
    // Entries of one tag; whether all of it, as when the CPU is `behind`.
    bool flush(Cpu& cpu, Pcid tag, const FlushTarget& target, bool behind,
               TranslationCaches::WalkEntries walk_entries, Reach& reach) const;
    // What goes of the walk caches of a PCID, loaded or not.
    TranslationCaches::WalkEntries walk_entries(const FlushRequest& request, bool broadcast,
                                                bool loaded) const;
    void mark_suspects(const FlushRequest& request, const Targets& targets, bool broadcast,
                       Cpu& cpu) const;
    // Whether the mm is loaded and its translations are in use.
    static bool runs(const Cpu& cpu, MmId mm);
    static bool has_loaded(const Cpu& cpu, MmId mm);
    // Whether the CPU flushes a target at once, unless all flush everything.
    static bool is_told(const FlushRequest& request, const FlushTarget& target, bool broadcast,
                        const Cpu& cpu);
    std::uint64_t broadcast_cycles(bool everything, const Targets& targets,
                                   std::uint64_t others) const;

    const Costs& costs_;
    SharedTags tags_;
    std::uint64_t flush_ceiling_;  // pages
    std::uint64_t trim_cycles_;    // 0: who leaves an mm leaves its mask at once
    bool invlpg_spares_;           // entries of the walk caches for other pages
    bool batch_;
    bool broadcast_;
    std::uint64_t invalidated_ranges_ = 0;
};

}  // namespace ptshare::engine
