#include "machine/mmu.h"

namespace ptshare::engine {

Mmu::Mmu(const Params& params, unsigned core, Hierarchy& hierarchy, TableMemory& tables)
    : TranslationCaches(params),
      step_cycles_(params.count("mmu.walker.step_cycles")),
      lock_cycles_(params.count("mmu.walker.lock_cycles")),
      core_(core),
      hierarchy_(hierarchy),
      tables_(tables) {
}

Translation Mmu::translate(VirtAddr address, Access access, const MmuContext& context,
                           Counters& counters) {
    const Lookup lookup = find(address, access, context, counters);
    Translation result;
    result.ok = lookup.found == Found::Here;
    result.address = lookup.address;
    result.tlb_cycles = lookup.cycles;
    if (lookup.found != Found::Walk) return result;
    ++(counters.*lookup.walk);
    result.ok = walk(address, access, context, counters, result);
    count_walk_time(counters, result.walk_cycles);
    if (!result.ok) {
        ++counters.walks_faulted;
        page_fault(address, context);
    }
    return result;
}

bool Mmu::walk(VirtAddr address, Access access, const MmuContext& context, Counters& counters,
               Translation& result) {
    auto [level, table] = start(address, context, counters);
    for (;; level = static_cast<Level>(index_of(level) - 1)) {
        const PhysAddr at = entry_address(table, address, level);
        // Read before its time is looked up: the host waits for both at once.
        const Pte entry = tables_.read_entry(at);
        const CacheResult read = hierarchy_.access(core_, at, AccessKind::WalkRead, counters);
        const unsigned row = index_of(kernel_name(level, levels()));
        const auto place = static_cast<unsigned>(read.served);
        ++counters.pte_reads[row][place];
        if (read.transferred) ++counters.pte_transfers[row];
        if (read.served != Served::Dram && hierarchy_.brought_by_another(core_, at)) {
            ++counters.pte_reads_of_others[row][place];
        }
        result.walk_cycles += read.latency + step_cycles_;
        if (!entry.present()) return false;
        if (level == Level::Pte || entry.large()) {
            if (!entry.permits(access)) return false;
            result.address = end(address, access, context, level, entry, tables_, at);
            if (sets_bits(entry, access)) {
                ++counters.walk_stores;
                // The line has just been read: only who else holds it can be in the way.
                const CacheResult store =
                    hierarchy_.access(core_, at, AccessKind::WalkWrite, counters);
                result.walk_cycles += lock_cycles_ + store.latency - hierarchy_.walker_latency();
            }
            return true;
        }
        keep(address, context, level, entry.pfn());
        table = entry.pfn();
    }
}

}  // namespace ptshare::engine
