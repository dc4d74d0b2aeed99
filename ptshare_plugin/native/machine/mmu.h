// One core's MMU: translation caches and a walker that reads tables through the cache model.
#pragma once

#include <cstdint>

#include "core/physical.h"
#include "machine/cache.h"
#include "translation/translation_caches.h"

namespace ptshare::engine {

struct Translation {
    bool ok = false;  // false: a page fault
    PhysAddr address;
    // Cycles that it took; the caller charges them. walk_cycles stands in Counters::walk_cycles
    // too.
    std::uint64_t tlb_cycles = 0;
    std::uint64_t walk_cycles = 0;
};

class Mmu : public TranslationCaches {
  public:
    // `hierarchy` serves the walker's reads for `core`, `tables` holds what it reads. Both must
    // outlive the MMU. Throws std::invalid_argument naming a parameter that makes no MMU.
    Mmu(const Params& params, unsigned core, Hierarchy& hierarchy, TableMemory& tables);

    // A look-up, and the walk if there must be one. A walk sets A in the leaf, and D for a write.
    Translation translate(VirtAddr address, Access access, const MmuContext& context,
                          Counters& counters);

  private:
    bool walk(VirtAddr address, Access access, const MmuContext& context, Counters& counters,
              Translation& result);

    std::uint64_t step_cycles_;
    std::uint64_t lock_cycles_;
    unsigned core_;
    Hierarchy& hierarchy_;
    TableMemory& tables_;
};

}  // namespace ptshare::engine
