// One CPU's dynamic address-space ids, as Linux keeps them (arch/x86/mm/tlb.c, choose_new_asid).
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "core/mm.h"
#include "translation/tlb.h"

namespace ptshare::engine {

class Asids {
  public:
    // What the CPU's translation caches may hold of one mm.
    struct Slot {
        MmId mm;
        std::uint64_t generation = 0;  // Mm::tlb_generation up to which it is clean
        bool suspect = false;          // a flush was due that this CPU has not carried out
    };
    // The same of one shared range (mmu.shared_tags), for whoever maps it.
    struct SharedSlot {
        std::uint64_t serial = 0;      // of the range that the tag was for; 0: of none
        std::uint64_t generation = 0;  // of the host
        bool suspect = false;
    };

    // `count`: mmu.pcids, TLB_NR_DYN_ASIDS in Linux; 0: a CPU without PCIDs.
    explicit Asids(std::uint64_t count)
        : tagged_(count != 0), capacity_(std::max<std::uint64_t>(count, 1)) {}

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
            next_ = (next_ + 1) % capacity_;
            if (loaded_ == slots_.size()) slots_.emplace_back();
        }
        Slot& slot = slots_[loaded_];
        const bool flush = slot.mm != mm || slot.generation != generation;
        if (flush) slot = {mm, generation, false};
        return {pcid_of(slot), flush};
    }

    // Those in use; none before the first load.
    std::vector<Slot>& slots() { return slots_; }
    std::vector<SharedSlot>& shared() { return shared_; }  // by the tag's index, as far as used
    SharedSlot* find_shared(std::size_t index, std::uint64_t serial) {
        const bool held = index < shared_.size() && shared_[index].serial == serial;
        return held ? &shared_[index] : nullptr;
    }
    Pcid pcid_of(const Slot& slot) const {
        return static_cast<Pcid>(tagged_ ? &slot - slots_.data() + 1 : 0);
    }
    bool is_loaded(const Slot& slot) const { return &slot == &slots_[loaded_]; }
    // Whether the mm loaded, which there must be, may meet a translation that was to be flushed.
    bool suspect() const {
        return slots_[loaded_].suspect ||
               std::any_of(shared_.begin(), shared_.end(),
                           [](const SharedSlot& slot) { return slot.suspect; });
    }

  private:
    bool tagged_;
    std::size_t capacity_;
    std::vector<Slot> slots_;  // at most capacity_
    std::vector<SharedSlot> shared_;
    std::size_t next_ = 0;  // given to the next mm that has none
    std::size_t loaded_ = 0;
};

}  // namespace ptshare::engine
