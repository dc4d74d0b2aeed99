#include "translation/translation_caches.h"

#include <string>

#include "accounting/kernel_config.h"

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
    if (page_table_levels(params) == 4) {
        p4d = pgd;
        pgd = 0;
    }
    return WalkCache(entries("pmd"), entries("pud"), p4d, pgd, params.count("mmu.walk_cache.ways"));
}

// Whether a TLB entry says what the tables say no more: another frame, or a right that they deny.
// A shared one serves also those who have no link to the host's tables yet, which are asked.
inline bool is_stale(const MmuContext& context, VirtAddr address, Pte held, PhysAddr where) {
    if (!context.suspect) return false;
    const auto leaf = context.shared.tag == 0
                          ? context.suspect->leaf(address)
                          : context.shared.table->leaf(address - context.shared.shift);
    if (!leaf || leaf->frame_of(address) != pfn_of(where)) return true;
    for (const Access access : {Access::Read, Access::Write, Access::Fetch}) {
        if (held.permits(access) && !leaf->pte.permits(access)) return true;
    }
    return false;
}

bool points_at(PageTable& table, VirtAddr address, Level level, Pfn below) {
    const Pte* entry = table.find(address, level, false);
    return entry && entry->present() && !entry->large() && entry->pfn() == below;
}

}  // namespace

TranslationCaches::FirstLevel::FirstLevel(const Params& params, const char* name)
    : small(make_tlb(params, name, "")), large(make_tlb(params, name, "_2m")) {
}

TranslationCaches::TranslationCaches(const Params& params)
    : itlb_(params, "mmu.itlb"),
      dtlb_(params, "mmu.dtlb"),
      stlb_(make_tlb(params, "mmu.stlb", "")),
      walk_cache_(make_walk_cache(params)),
      has_walk_cache_(walk_cache_.present()),
      stlb_latency_(params.count("mmu.stlb.latency")),
      levels_(page_table_levels(params)) {
}

inline PhysAddr TranslationCaches::physical(Pte leaf, PageSize size, VirtAddr address) {
    const std::uint64_t offset = address.value & ((1ULL << page_shift(size)) - 1);
    return PhysAddr(address_of(leaf.pfn()).value + offset);
}

inline const Pte* TranslationCaches::find_in(Tlb& small, Tlb& large, Pcid tag, VirtAddr address,
                                             PageSize& size) {
    size = PageSize::Small;
    if (const Pte* leaf = small.find(tag, address, size)) return leaf;
    size = PageSize::Large;
    return large.find(tag, address, size);
}

inline const Pte* TranslationCaches::find_second(Pcid tag, VirtAddr address, PageSize& size,
                                                 Lookup& result, Counters& counters) {
    if (!stlb_.present()) return nullptr;
    ++counters.stlb_accesses;
    result.cycles = stlb_latency_;
    const Pte* leaf = find_in(stlb_, stlb_, tag, address, size);
    if (!leaf) ++counters.stlb_misses;
    return leaf;
}

void TranslationCaches::forget(const MmuContext& context, VirtAddr address) {
    for (Tlb* tlb : {&itlb_.small, &itlb_.large, &dtlb_.small, &dtlb_.large, &stlb_}) {
        tlb->flush_page(context.tlb_tag(), address);
    }
}

void TranslationCaches::page_fault(VirtAddr address, const MmuContext& context) {
    forget(context, address);
    walk_cache_.flush_page(context.pcid, address);
}

TranslationCaches::Lookup TranslationCaches::find(VirtAddr address, Access access,
                                                  const MmuContext& context, Counters& counters) {
    const Pcid tag = context.tlb_tag();
    const bool fetch = access == Access::Fetch;
    FirstLevel& first = fetch ? itlb_ : dtlb_;
    Lookup result;
    // A walk ignores the upper bits and would take it for another address.
    if ((address.value >> (kPageShift + kIndexBits * levels_ - 1)) != 0) {
        result.found = Found::Outside;
        return result;
    }

    PageSize size = PageSize::Small;
    ++(fetch ? counters.itlb_accesses : counters.dtlb_accesses);
    const Pte* leaf = find_in(first.small, first.large, tag, address, size);
    const bool missed = !leaf;
    if (missed) {
        ++(fetch ? counters.itlb_misses : counters.dtlb_misses);
        leaf = find_second(tag, address, size, result, counters);
    }

    bool assist = false;
    if (leaf) {
        const bool permits = leaf->permits(access);
        assist = permits && access == Access::Write && !leaf->dirty();
        if (permits && !assist) {
            if (missed) first.insert(tag, address, size, *leaf);
            result.found = Found::Here;
            result.address = physical(*leaf, size, address);
            if (is_stale(context, address, *leaf, result.address)) ++counters.tlb_stale_hits;
            return result;
        }
        forget(context, address);
    }
    result.walk = assist  ? &Counters::walks_dirty
                  : fetch ? &Counters::walks_fetch
                          : &Counters::walks_data;
    return result;
}

std::optional<PhysAddr> TranslationCaches::held(VirtAddr address, Access access,
                                                const MmuContext& context) {
    FirstLevel& first = access == Access::Fetch ? itlb_ : dtlb_;
    const std::pair<Tlb*, PageSize> in_order[] = {{&first.small, PageSize::Small},
                                                  {&first.large, PageSize::Large},
                                                  {&stlb_, PageSize::Small},
                                                  {&stlb_, PageSize::Large}};
    for (const auto& [tlb, size] : in_order) {
        const Pte* leaf = tlb->peek(context.tlb_tag(), address, size);
        if (!leaf) continue;
        if (!leaf->permits(access) || (access == Access::Write && !leaf->dirty())) break;
        return physical(*leaf, size, address);
    }
    return std::nullopt;
}

TranslationCaches::Start TranslationCaches::start(VirtAddr address, const MmuContext& context,
                                                  Counters& counters) {
    const Level top = top_level(levels_);
    if (!has_walk_cache_) return {top, context.root};
    if (const auto hit = walk_cache_.find(context.pcid, address, top)) {
        if (context.suspect && !points_at(*context.suspect, address, hit->level, hit->table)) {
            ++counters.pwc_stale_hits;
            return {top, context.root};
        }
        static constexpr std::uint64_t Counters::*kHits[kLevels] = {
            nullptr, &Counters::pwc_pmd_hits, &Counters::pwc_pud_hits, &Counters::pwc_p4d_hits,
            &Counters::pwc_pgd_hits};
        ++(counters.*kHits[index_of(kernel_name(hit->level, levels_))]);
        return {static_cast<Level>(index_of(hit->level) - 1), hit->table};
    }
    ++counters.pwc_misses;
    return {top, context.root};
}

void TranslationCaches::keep(VirtAddr address, const MmuContext& context, Level level, Pfn table) {
    if (has_walk_cache_) walk_cache_.insert(context.pcid, address, level, table);
}

PhysAddr TranslationCaches::end(VirtAddr address, Access access, const MmuContext& context,
                                Level level, Pte leaf, TableMemory& tables, PhysAddr at) {
    const Pte used = leaf.with(bits_of(access));
    if (sets_bits(leaf, access)) tables.set_entry_bits(at, bits_of(access));
    const PageSize size = level == Level::Pte ? PageSize::Small : PageSize::Large;
    FirstLevel& first = access == Access::Fetch ? itlb_ : dtlb_;
    first.insert(context.tlb_tag(), address, size, used);
    if (stlb_.present()) stlb_.insert(context.tlb_tag(), address, size, used);
    return physical(used, size, address);
}

std::uint64_t TranslationCaches::flush_range(Pcid pcid, VirtAddr start, VirtAddr end,
                                             WalkEntries walk_entries) {
    std::uint64_t dropped = 0;
    for (VirtAddr at = align_down(start, kPageSize); at < end; at = at + kPageSize) {
        for (Tlb* tlb : {&itlb_.small, &itlb_.large, &dtlb_.small, &dtlb_.large, &stlb_}) {
            dropped += tlb->flush_page(pcid, at);
        }
        if (walk_entries == WalkEntries::Pages) walk_cache_.flush_page(pcid, at);
    }
    if (walk_entries == WalkEntries::Pcid) walk_cache_.flush_pcid(pcid);
    return dropped;
}

std::uint64_t TranslationCaches::flush_pcid(Pcid pcid) {
    std::uint64_t dropped = 0;
    for (Tlb* tlb : {&itlb_.small, &itlb_.large, &dtlb_.small, &dtlb_.large, &stlb_}) {
        dropped += tlb->flush_pcid(pcid);
    }
    walk_cache_.flush_pcid(pcid);
    return dropped;
}

std::uint64_t TranslationCaches::flush_all() {
    std::uint64_t dropped = 0;
    for (Tlb* tlb : {&itlb_.small, &itlb_.large, &dtlb_.small, &dtlb_.large, &stlb_}) {
        dropped += tlb->flush_all();
    }
    walk_cache_.flush_all();
    return dropped;
}

}  // namespace ptshare::engine
