// TLB shootdowns: which CPUs flush what, and what that costs each.
#pragma once

#include <cstdint>
#include <vector>

#include "core/kernel.h"
#include "engine/costs.h"
#include "engine/counters.h"
#include "engine/params.h"
#include "engine/translation_caches.h"

namespace ptshare::engine {

class Shootdowns {
  public:
    // `costs` must outlive this.
    Shootdowns(const Params& params, const Costs& costs);

    // A CPU that runs an mm. Nothing is owned.
    struct Cpu {
        MmId mm;
        TranslationCaches* caches = nullptr;
        Pcid pcid = 0;
        Counters* counters = nullptr;
        // Set by carry_out: whether it flushed, and the cycles that this took it.
        bool flushed = false;
        std::uint64_t cycles = 0;
    };
    // Linux's native_flush_tlb_multi with PCIDs: CPUs that run an affected mm are interrupted;
    // those that only hold entries of one find the newer generation when they load it again.
    // `asking`: counters of the CPU whose kernel asks; it may be among `cpus`. Returns the cycles
    // that it waits for the others. Counts all but cycles, which the caller charges.
    std::uint64_t carry_out(const FlushRequest& request, Counters& asking, std::vector<Cpu>& cpus);

    std::uint64_t invalidated_ranges() const { return invalidated_ranges_; }
    // For a checkpoint.
    void set_invalidated_ranges(std::uint64_t count) { invalidated_ranges_ = count; }

  private:
    std::uint64_t flush(const Cpu& cpu, const FlushTarget& target) const;

    const Costs& costs_;
    std::uint64_t flush_ceiling_;  // pages
    std::uint64_t invalidated_ranges_ = 0;
};

}  // namespace ptshare::engine
