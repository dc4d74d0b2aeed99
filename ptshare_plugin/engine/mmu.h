// One core's MMU: L1 TLBs for instructions and data, a second level, walk caches and the walker.
#pragma once

#include <cstdint>

#include "core/mmu/tlb.h"
#include "core/mmu/walk_cache.h"
#include "core/physical.h"
#include "core/types.h"
#include "engine/cache.h"
#include "engine/counters.h"
#include "engine/params.h"

namespace ptshare::engine {

// CR3: which table to walk, and the tag of its translations.
struct MmuContext {
    Pfn root;
    Pcid pcid = 0;
};

struct Translation {
    bool ok = false;  // false: a page fault
    PhysAddr address;
    // Cycles that it took; the caller charges them. walk_cycles stands in Counters::walk_cycles
    // too.
    std::uint64_t tlb_cycles = 0;
    std::uint64_t walk_cycles = 0;
};

class Mmu {
  public:
    // `hierarchy` serves the walker's reads for `core`, `tables` holds what it reads. Both must
    // outlive the MMU. Throws std::invalid_argument naming a parameter that makes no MMU.
    Mmu(const Params& params, unsigned core, Hierarchy& hierarchy, TableMemory& tables);

    // Translates as hardware does: L1 TLB (no cost), second level, page walk. A walk sets A in the
    // leaf, and D for a write. A write through a TLB entry whose D is clear walks again to set it
    // (a dirty assist). An entry that forbids the access is dropped and the walk decides, so that
    // the fault reports what the tables say now (Intel SDM volume 3A, 4.10.4.2). An address beyond
    // the user half faults at once: no count, no cycles.
    Translation translate(VirtAddr address, Access access, const MmuContext& context,
                          Counters& counters);

    // Flushes return how many TLB entries they dropped, walk caches not counted.
    std::uint64_t flush_range(Pcid pcid, VirtAddr start, VirtAddr end);
    std::uint64_t flush_pcid(Pcid pcid);
    std::uint64_t flush_all();

    // Calls fn(pcid, address, page size, leaf) for every TLB entry; one page may be in two arrays.
    template <class Fn>
    void for_each_entry(Fn&& fn) const {
        for (const Tlb* tlb : {&itlb_.small, &itlb_.large, &dtlb_.small, &dtlb_.large, &stlb_}) {
            tlb->for_each(fn);
        }
    }

  private:
    struct FirstLevel {
        FirstLevel(const Params& params, const char* name);
        Tlb small;
        Tlb large;
    };

    Pte* find_first(FirstLevel& tlb, Pcid pcid, VirtAddr address, PageSize& size);
    void forget(Pcid pcid, VirtAddr address);
    bool walk(VirtAddr address, Access access, const MmuContext& context, Counters& counters,
              Translation& result, Pte& leaf, PageSize& size);
    static PhysAddr physical(Pte leaf, PageSize size, VirtAddr address);

    FirstLevel itlb_;
    FirstLevel dtlb_;
    Tlb stlb_;
    WalkCache walk_cache_;
    bool has_walk_cache_;
    std::uint64_t stlb_latency_;
    std::uint64_t step_cycles_;
    unsigned levels_;
    unsigned core_;
    Hierarchy& hierarchy_;
    TableMemory& tables_;
};

}  // namespace ptshare::engine
