// Paging-structure caches: upper entries of page tables, so that a walk starts further down.
#pragma once

#include <array>
#include <cstdint>
#include <optional>

#include "core/types.h"
#include "set_associative.h"
#include "tlb.h"

namespace ptshare {

// One array a level; an entry is the table that the level's entry points at. Rights of upper
// entries are not kept: kernels of this model set them all and decide in the leaf.
class WalkCache {
  public:
    // Entries of the caches of PMD, PUD, P4D and PGD entries, by position (see Level); the cache of
    // PTEs is the TLB. 0: no such cache. `ways` as SetAssociative.
    WalkCache(std::uint64_t pmd, std::uint64_t pud, std::uint64_t p4d, std::uint64_t pgd,
              std::uint64_t ways)
        : arrays_{Array("mmu.walk_cache.pmd_entries", pmd, ways_of(pmd, ways)),
                  Array("mmu.walk_cache.pud_entries", pud, ways_of(pud, ways)),
                  Array("mmu.walk_cache.p4d_entries", p4d, ways_of(p4d, ways)),
                  Array("mmu.walk_cache.pgd_entries", pgd, ways_of(pgd, ways))} {}

    struct Hit {
        Level level;  // of the entry found: the walk goes on one below
        Pfn table;    // that it points at
    };
    // The hit nearest to the leaf, from `top` (the root's level) down.
    std::optional<Hit> find(Pcid pcid, VirtAddr address, Level top) {
        for (unsigned level = index_of(Level::Pmd); level <= index_of(top); ++level) {
            const auto at = static_cast<Level>(level);
            if (const Pfn* table = array(at).find(prefix(address, at), key(pcid, address, at))) {
                return Hit{at, *table};
            }
        }
        return std::nullopt;
    }
    void insert(Pcid pcid, VirtAddr address, Level level, Pfn table) {
        array(level).insert(prefix(address, level), key(pcid, address, level), table);
    }

    // Entries that translate the address.
    void flush_page(Pcid pcid, VirtAddr address) {
        for (unsigned level = index_of(Level::Pmd); level < kLevels; ++level) {
            const auto at = static_cast<Level>(level);
            array(at).erase(prefix(address, at), key(pcid, address, at));
        }
    }
    void flush_pcid(Pcid pcid) {
        for (Array& each : arrays_) {
            each.erase_if([&](std::uint64_t held) { return static_cast<Pcid>(held) == pcid; });
        }
    }
    void flush_all() {
        for (Array& each : arrays_) each.erase_if([](std::uint64_t) { return true; });
    }
    bool present() const {
        for (const Array& each : arrays_) {
            if (each.present()) return true;
        }
        return false;
    }

  private:
    using Array = SetAssociative<Pfn>;

    static std::uint64_t ways_of(std::uint64_t entries, std::uint64_t ways) {
        return ways > entries ? entries : ways;
    }
    Array& array(Level level) { return arrays_[index_of(level) - 1]; }
    static constexpr std::uint64_t prefix(VirtAddr address, Level level) {
        return address.value >> (kPageShift + kIndexBits * index_of(level));
    }
    static constexpr std::uint64_t key(Pcid pcid, VirtAddr address, Level level) {
        return (prefix(address, level) << 16) | pcid;
    }

    std::array<Array, kLevels - 1> arrays_;  // index: level - 1
};

}  // namespace ptshare
