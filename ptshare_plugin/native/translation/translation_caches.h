// One core's translation caches: L1 TLBs for instructions and data, a second level, walk caches.
// They decide what a look-up finds, and count. Who walks and what time passes is another's: Mmu
// walks at once, gem5's walker with packets.
#pragma once

#include <cstdint>
#include <optional>

#include "accounting/counters.h"
#include "accounting/params.h"
#include "core/physical.h"
#include "core/tables.h"
#include "core/types.h"
#include "translation/tlb.h"
#include "translation/walk_cache.h"

namespace ptshare::engine {

// Whose TLB entries all that map it share (mmu.shared_tags).
struct SharedRange {
    Pcid tag = 0;                      // of the entries; 0: no range, they have the PCID
    const PageTable* table = nullptr;  // the host's, not owned
    std::uint64_t shift = 0;           // an address less this is the host's
};

// CR3: which table to walk, and the tag of its translations.
struct MmuContext {
    Pfn root;
    Pcid pcid = 0;
    bool shares_tags = false;  // mmu.shared_tags
    SharedRange shared{};      // that is accessed; set by SharedTags::use for each access
    // Set while the caches may hold what was to be flushed: what they serve is compared with these
    // tables, and counted when it differs. Not owned.
    PageTable* suspect = nullptr;

    Pcid tlb_tag() const { return shared.tag != 0 ? shared.tag : pcid; }
};

class TranslationCaches {
  public:
    // Throws std::invalid_argument naming a parameter that makes no MMU.
    explicit TranslationCaches(const Params& params);

    enum class Found {
        Here,     // the access is translated
        Walk,     // the tables must be walked
        Outside,  // beyond the user half: a page fault, without a look-up
    };
    struct Lookup {
        Found found = Found::Walk;
        PhysAddr address;  // with Here
        // With Walk: what counts it, for whoever walks; several look-ups may share a walk.
        std::uint64_t Counters::*walk = nullptr;
        std::uint64_t cycles = 0;  // of the second level, if it was asked
    };
    // As hardware does: L1 TLB (no cost), second level. A write through an entry whose D is clear
    // must walk to set it (a dirty assist); the walk starts below what the walk caches hold, about
    // which the manual says nothing. An entry that forbids the access is dropped and the walk
    // decides, so that the fault reports what the tables say now (Intel SDM volume 3A, 4.10.4.2).
    // Counts accesses and misses.
    // What serves though the tables say otherwise is a stale hit.
    Lookup find(VirtAddr address, Access access, const MmuContext& context, Counters& counters);
    // Where find() would send the access without a walk, if it would; counts and changes nothing.
    std::optional<PhysAddr> held(VirtAddr address, Access access, const MmuContext& context);

    // Whether the first level alone serves a data access to a 4 KiB page. If it does, counts as
    // find() would; if not, nothing is counted, and find() comes next.
    bool hit(VirtAddr address, Access access, const MmuContext& context, Counters& counters,
             PhysAddr& at) {
        if (context.suspect || context.shares_tags) return false;
        if ((address.value >> (kPageShift + kIndexBits * levels_ - 1)) != 0) return false;
        const Pte* leaf = dtlb_.small.find(context.pcid, address, PageSize::Small);
        if (!leaf || !leaf->permits(access)) return false;
        if (access == Access::Write && !leaf->dirty()) return false;
        ++counters.dtlb_accesses;
        at = PhysAddr(address_of(leaf->pfn()).value + page_offset(address));
        return true;
    }

    // Where a walk of `context` starts: the table to read, and its position. An entry of the walk
    // caches that the tables hold no more is a stale hit; what such a walk would read cannot be
    // known, and it starts at the root.
    struct Start {
        Level level;
        Pfn table;
    };
    Start start(VirtAddr address, const MmuContext& context, Counters& counters);
    // A walk read an entry at `level` that points at `table`.
    void keep(VirtAddr address, const MmuContext& context, Level level, Pfn table);
    // What a walk for such an access sets in the leaf: A, and D for a write.
    static std::uint64_t bits_of(Access access) {
        return Pte::kAccessed | (access == Access::Write ? Pte::kDirty : std::uint64_t{0});
    }
    static bool sets_bits(Pte leaf, Access access) { return leaf.with(bits_of(access)) != leaf; }
    // A walk ended at `leaf`, which permits the access and stands at `at` in a table at `level`:
    // sets its bits and fills the TLBs. Returns where the access goes.
    PhysAddr end(VirtAddr address, Access access, const MmuContext& context, Level level, Pte leaf,
                 TableMemory& tables, PhysAddr at);

    // The access ends in a page fault, which drops the page's TLB entries, whatever they permit,
    // and the walk-cache entries that its translation would use; those of other pages stay (Intel
    // SDM volume 3A, 4.10.4.1).
    void page_fault(VirtAddr address, const MmuContext& context);

    // Which entries of the walk caches go with a flush of some pages: those that translate them,
    // all of their PCID, or none.
    enum class WalkEntries { Pages, Pcid, Keep };
    // Flushes return how many TLB entries they dropped, walk caches not counted.
    std::uint64_t flush_range(Pcid pcid, VirtAddr start, VirtAddr end,
                              WalkEntries walk_entries = WalkEntries::Pages);
    std::uint64_t flush_pcid(Pcid pcid);
    std::uint64_t flush_all();

    // Calls fn(pcid, address, page size, leaf) for every TLB entry; one page may be in two arrays.
    template <class Fn>
    void for_each_entry(Fn&& fn) const {
        for (const Tlb* tlb : {&itlb_.small, &itlb_.large, &dtlb_.small, &dtlb_.large, &stlb_}) {
            tlb->for_each(fn);
        }
    }

    unsigned levels() const { return levels_; }

  private:
    struct FirstLevel {
        FirstLevel(const Params& params, const char* name);
        void insert(Pcid tag, VirtAddr address, PageSize size, Pte leaf) {
            (size == PageSize::Small ? small : large).insert(tag, address, size, leaf);
        }
        Tlb small;
        Tlb large;
    };

    static PhysAddr physical(Pte leaf, PageSize size, VirtAddr address);
    // In the arrays for pages of either size, which may be one; `size`: of the page found.
    static const Pte* find_in(Tlb& small, Tlb& large, Pcid tag, VirtAddr address, PageSize& size);
    // After a miss in the first level.
    const Pte* find_second(Pcid tag, VirtAddr address, PageSize& size, Lookup& result,
                           Counters& counters);
    // Of the TLBs alone.
    void forget(const MmuContext& context, VirtAddr address);

    FirstLevel itlb_;
    FirstLevel dtlb_;
    Tlb stlb_;
    WalkCache walk_cache_;
    bool has_walk_cache_;
    std::uint64_t stlb_latency_;
    unsigned levels_;
};

}  // namespace ptshare::engine
