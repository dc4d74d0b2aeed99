// One CPU's dynamic address-space ids, as Linux keeps them (arch/x86/mm/tlb.c, choose_new_asid).
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "core/mm.h"
#include "core/mmu/tlb.h"

namespace ptshare::engine {

class Asids {
  public:
    // `count`: mmu.pcids, TLB_NR_DYN_ASIDS in Linux; 0: a CPU without PCIDs.
    explicit Asids(std::uint64_t count)
        : tagged_(count != 0), slots_(std::max<std::uint64_t>(count, 1)) {}

    struct Choice {
        Pcid pcid = 0;       // slot + 1, as kern_pcid(); 0 without PCIDs
        bool flush = false;  // what the CPU holds under it is another mm's, or stale
    };
    // An mm is loaded: in the slot that it has, else in the next one in turn.
    Choice load(MmId mm, std::uint64_t generation) {
        const auto found = std::find_if(slots_.begin(), slots_.end(),
                                        [mm](const Slot& slot) { return slot.mm == mm; });
        if (found != slots_.end()) {
            loaded_ = static_cast<std::size_t>(found - slots_.begin());
        } else {
            loaded_ = next_;
            next_ = (next_ + 1) % slots_.size();
        }
        Slot& slot = slots_[loaded_];
        const bool flush = slot.mm != mm || slot.generation != generation;
        slot = {mm, generation};
        return {static_cast<Pcid>(tagged_ ? loaded_ + 1 : 0), flush};
    }

    MmId loaded() const { return slots_[loaded_].mm; }
    // The loaded mm was flushed up to this generation.
    void flushed(std::uint64_t generation) { slots_[loaded_].generation = generation; }

  private:
    struct Slot {
        MmId mm;
        std::uint64_t generation = 0;  // Mm::tlb_generation up to which it is clean
    };

    bool tagged_;
    std::vector<Slot> slots_;  // never empty
    std::size_t next_ = 0;     // given to the next mm that has none
    std::size_t loaded_ = 0;
};

}  // namespace ptshare::engine
