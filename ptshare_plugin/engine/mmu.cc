#include "engine/mmu.h"

#include <stdexcept>
#include <string>

namespace ptshare::engine {

namespace {

Tlb make_tlb(const Params& params, const std::string& name, const char* suffix) {
    const std::string entries = name + ".entries" + suffix;
    return Tlb(entries, params.count(entries), params.count(name + ".ways" + suffix));
}

WalkCache make_walk_cache(const Params& params) {
    const auto entries = [&](const char* level) {
        return params.count(std::string("mmu.walk_cache.") + level + "_entries");
    };
    std::uint64_t p4d = entries("p4d");
    std::uint64_t pgd = entries("pgd");
    // With four levels the root, called PGD, stands at P4D's position.
    if (params.count("mmu.levels") == 4) {
        p4d = pgd;
        pgd = 0;
    }
    return WalkCache(entries("pmd"), entries("pud"), p4d, pgd, params.count("mmu.walk_cache.ways"));
}

}  // namespace

Mmu::FirstLevel::FirstLevel(const Params& params, const char* name)
    : small(make_tlb(params, name, "")), large(make_tlb(params, name, "_2m")) {
}

Mmu::Mmu(const Params& params, unsigned core, Hierarchy& hierarchy, TableMemory& tables)
    : itlb_(params, "mmu.itlb"),
      dtlb_(params, "mmu.dtlb"),
      stlb_(make_tlb(params, "mmu.stlb", "")),
      walk_cache_(make_walk_cache(params)),
      has_walk_cache_(walk_cache_.present()),
      stlb_latency_(params.count("mmu.stlb.latency")),
      step_cycles_(params.count("mmu.walker.step_cycles")),
      levels_(static_cast<unsigned>(params.count("mmu.levels"))),
      core_(core),
      hierarchy_(hierarchy),
      tables_(tables) {
    if (levels_ != 4 && levels_ != 5) throw std::invalid_argument("mmu.levels must be 4 or 5");
}

PhysAddr Mmu::physical(Pte leaf, PageSize size, VirtAddr address) {
    const std::uint64_t offset = address.value & ((1ULL << page_shift(size)) - 1);
    return PhysAddr(address_of(leaf.pfn()).value + offset);
}

Pte* Mmu::find_first(FirstLevel& tlb, Pcid pcid, VirtAddr address, PageSize& size) {
    size = PageSize::Small;
    if (Pte* leaf = tlb.small.find(pcid, address, size)) return leaf;
    size = PageSize::Large;
    return tlb.large.find(pcid, address, size);
}

void Mmu::forget(Pcid pcid, VirtAddr address) {
    for (Tlb* tlb : {&itlb_.small, &itlb_.large, &dtlb_.small, &dtlb_.large, &stlb_}) {
        tlb->flush_page(pcid, address);
    }
    walk_cache_.flush_page(pcid, address);
}

Translation Mmu::translate(VirtAddr address, Access access, const MmuContext& context,
                           Counters& counters) {
    const bool fetch = access == Access::Fetch;
    FirstLevel& first = fetch ? itlb_ : dtlb_;
    const Pcid pcid = context.pcid;
    Translation result;
    // Beyond the user half. A walk ignores the upper bits and would take it for another address.
    if ((address.value >> (kPageShift + kIndexBits * levels_ - 1)) != 0) return result;
    PageSize size = PageSize::Small;
    bool assist = false;

    // Whether a cached leaf serves the access as it stands; if not, why it must be walked again.
    const auto serves = [&](const Pte& leaf) {
        if (!leaf.permits(access)) return false;
        assist = access == Access::Write && !leaf.dirty();
        return !assist;
    };

    ++(fetch ? counters.itlb_accesses : counters.dtlb_accesses);
    if (const Pte* leaf = find_first(first, pcid, address, size)) {
        if (serves(*leaf)) {
            result.ok = true;
            result.address = physical(*leaf, size, address);
            return result;
        }
        forget(pcid, address);
    } else {
        ++(fetch ? counters.itlb_misses : counters.dtlb_misses);
        if (stlb_.present()) {
            ++counters.stlb_accesses;
            result.tlb_cycles = stlb_latency_;
            size = PageSize::Small;
            const Pte* second = stlb_.find(pcid, address, size);
            if (!second) {
                size = PageSize::Large;
                second = stlb_.find(pcid, address, size);
            }
            if (second && serves(*second)) {
                Tlb& refill = size == PageSize::Small ? first.small : first.large;
                refill.insert(pcid, address, size, *second);
                result.ok = true;
                result.address = physical(*second, size, address);
                return result;
            }
            if (second) {
                forget(pcid, address);
            } else {
                ++counters.stlb_misses;
            }
        }
    }
    if (assist) {
        ++counters.walks_dirty;
    } else {
        ++(fetch ? counters.walks_fetch : counters.walks_data);
    }
    Pte leaf;
    result.ok = walk(address, access, context, counters, result, leaf, size);
    counters.walk_cycles += result.walk_cycles;
    if (!result.ok) {
        ++counters.walks_faulted;
        return result;
    }
    (size == PageSize::Small ? first.small : first.large).insert(pcid, address, size, leaf);
    if (stlb_.present()) stlb_.insert(pcid, address, size, leaf);
    result.address = physical(leaf, size, address);
    return result;
}

bool Mmu::walk(VirtAddr address, Access access, const MmuContext& context, Counters& counters,
               Translation& result, Pte& leaf, PageSize& size) {
    const Level top = top_level(levels_);
    Level level = top;
    Pfn table = context.root;
    if (has_walk_cache_) {
        if (const auto hit = walk_cache_.find(context.pcid, address, top)) {
            static constexpr std::uint64_t Counters::*kHits[kLevels] = {
                nullptr, &Counters::pwc_pmd_hits, &Counters::pwc_pud_hits, &Counters::pwc_p4d_hits,
                &Counters::pwc_pgd_hits};
            ++(counters.*kHits[index_of(kernel_name(hit->level, levels_))]);
            level = static_cast<Level>(index_of(hit->level) - 1);
            table = hit->table;
        } else {
            ++counters.pwc_misses;
        }
    }
    for (;; level = static_cast<Level>(index_of(level) - 1)) {
        const std::uint64_t index =
            (address.value >> (kPageShift + kIndexBits * index_of(level))) & (kEntries - 1);
        const PhysAddr at(address_of(table).value + index * sizeof(Pte));
        // Read before its time is looked up: the host waits for both at once.
        const Pte entry = tables_.read_entry(at);
        const CacheResult read = hierarchy_.access(core_, at, AccessKind::WalkRead, counters);
        ++counters
              .pte_reads[index_of(kernel_name(level, levels_))][static_cast<unsigned>(read.served)];
        result.walk_cycles += read.latency + step_cycles_;
        if (!entry.present()) return false;
        if (level == Level::Pte || entry.large()) {
            if (!entry.permits(access)) return false;
            const std::uint64_t bits =
                Pte::kAccessed | (access == Access::Write ? Pte::kDirty : std::uint64_t{0});
            leaf = entry.with(bits);
            if (leaf != entry) tables_.set_entry_bits(at, bits);
            size = level == Level::Pte ? PageSize::Small : PageSize::Large;
            return true;
        }
        if (has_walk_cache_) walk_cache_.insert(context.pcid, address, level, entry.pfn());
        table = entry.pfn();
    }
}

std::uint64_t Mmu::flush_range(Pcid pcid, VirtAddr start, VirtAddr end) {
    std::uint64_t dropped = 0;
    for (VirtAddr at = align_down(start, kPageSize); at < end; at = at + kPageSize) {
        for (Tlb* tlb : {&itlb_.small, &itlb_.large, &dtlb_.small, &dtlb_.large, &stlb_}) {
            dropped += tlb->flush_page(pcid, at);
        }
        walk_cache_.flush_page(pcid, at);
    }
    return dropped;
}

std::uint64_t Mmu::flush_pcid(Pcid pcid) {
    std::uint64_t dropped = 0;
    for (Tlb* tlb : {&itlb_.small, &itlb_.large, &dtlb_.small, &dtlb_.large, &stlb_}) {
        dropped += tlb->flush_pcid(pcid);
    }
    walk_cache_.flush_pcid(pcid);
    return dropped;
}

std::uint64_t Mmu::flush_all() {
    std::uint64_t dropped = 0;
    for (Tlb* tlb : {&itlb_.small, &itlb_.large, &dtlb_.small, &dtlb_.large, &stlb_}) {
        dropped += tlb->flush_all();
    }
    walk_cache_.flush_all();
    return dropped;
}

}  // namespace ptshare::engine
