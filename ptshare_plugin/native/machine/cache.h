// Caches and memory: where a physical address is served, how long it takes, and coherence.
#pragma once

#include <cstdint>
#include <string>
#include <unordered_map>
#include <vector>

#include "accounting/counters.h"
#include "accounting/params.h"
#include "core/types.h"
#include "machine/tag_array.h"

namespace ptshare::engine {

enum class AccessKind { Read, Write, Fetch, WalkRead };

struct CacheResult {
    Served served = Served::Dram;
    std::uint64_t latency = 0;  // cycles from the request to the data
};

// Each core has an L1I, an L1D and an L2 that includes both; all cores share an LLC that includes
// every L2. L2 and LLC may be absent (bytes = 0). Lines are kept coherent by a directory with the
// states of MESI: a line is with one core that may write it, or with several that may read it.
// State changes take the latency of where they are decided, and no bandwidth.
class Hierarchy {
  public:
    static constexpr unsigned kMaxCores = 64;  // width of the directory's presence mask

    // Throws std::invalid_argument naming the parameter that makes no cache, or too many cores.
    Hierarchy(const Params& params, unsigned cores);

    // One access to the line of `address`. The latency is that of the place that served it. A page
    // walker's read enters at mmu.walker.port.
    CacheResult access(unsigned core, PhysAddr address, AccessKind kind, Counters& counters) {
        const std::uint64_t line = address.value >> line_shift_;
        if (kind == AccessKind::WalkRead && walker_at_l2_) {
            return beyond_l1(core, line, kind, nullptr, counters);
        }
        const bool fetch = kind == AccessKind::Fetch;
        TagArray& l1 = fetch ? cores_[core].l1i : cores_[core].l1d;
        ++(fetch ? counters.l1i_accesses : counters.l1d_accesses);
        if (const TagArray::Place place = l1.find(line)) {
            CacheResult result{Served::L1, fetch ? l1i_latency_ : l1d_latency_};
            // One branch that is rarely taken.
            const bool clean = place.state() != LineState::Modified;
            if (clean & (kind == AccessKind::Write)) {
                result.latency += write_clean(core, line, place, counters);
            }
            return result;
        }
        ++(fetch ? counters.l1i_misses : counters.l1d_misses);
        return beyond_l1(core, line, kind, &l1, counters);
    }

    // What `core` brings in from memory from now on is brought in by `bringer`, an mm's number.
    void set_bringer(unsigned core, std::uint64_t bringer) {
        cores_[core].bringer = static_cast<std::uint32_t>(bringer);
    }
    // Whether the line of `address`, held by a cache, was last brought in from memory on behalf of
    // another mm than the one that `core` runs.
    bool brought_by_another(unsigned core, PhysAddr address) {
        if (llc_bringers_.empty() && llc_.present()) return only_bringer_ != cores_[core].bringer;
        return bringer(address.value >> line_shift_) != cores_[core].bringer;
    }

    // A hint that an access to `address` is about to come. Changes nothing but the host's caches.
    [[gnu::always_inline]] void prefetch(unsigned core, PhysAddr address) const {
        const std::uint64_t line = address.value >> line_shift_;
        cores_[core].l1d.prefetch(line);
        cores_[core].l2.prefetch(line);
        llc_.prefetch(line);
    }

  private:
    static constexpr std::uint64_t kNobody = ~0ULL;

    // L1D and L2 copies of one line have the same state.
    struct Private {
        TagArray l1i;
        TagArray l1d;
        TagArray l2;
        std::uint32_t bringer = 0;  // mm that runs on the core
    };
    // Who has a line. Presence is conservative: a core that dropped a clean line stays listed.
    // Exclusive: the one core listed may write it, and may have.
    struct Directory {
        std::uint64_t present = 0;  // mask of cores
        bool exclusive = false;
    };

    // What the directory has of a line, and where the line is in the LLC, if there is one.
    struct Found {
        Directory directory;
        TagArray::Place place;
        bool in_llc = false;
    };

    // `l1`: to be filled; null: none.
    CacheResult beyond_l1(unsigned core, std::uint64_t line, AccessKind kind, TagArray* l1,
                          Counters& counters);
    CacheResult miss(unsigned core, std::uint64_t line, bool write, Counters& counters,
                     LineState& granted);
    std::uint64_t write_clean(unsigned core, std::uint64_t line, const TagArray::Place& place,
                              Counters& counters);
    std::uint64_t upgrade(unsigned core, std::uint64_t line, Counters& counters);
    Found look_up(std::uint64_t line, Counters& counters);
    std::uint64_t listed(const TagArray::Place& place);
    void record(std::uint64_t line, const TagArray::Place& place, const Directory& directory);
    void note_bringer(std::uint64_t line, const TagArray::Place& place, std::uint32_t bringer);
    std::uint32_t bringer(std::uint64_t line);
    void invalidate(unsigned core, std::uint64_t line);
    void invalidate_others(unsigned core, std::uint64_t line, std::uint64_t present,
                           Counters& counters);
    void fill_l2(unsigned core, std::uint64_t line, LineState state);
    bool downgrade(unsigned core, std::uint64_t line);

    unsigned line_shift_;
    bool walker_at_l2_;
    std::uint64_t l1i_latency_;
    std::uint64_t l1d_latency_;
    std::uint64_t l2_latency_;
    std::uint64_t llc_latency_;
    std::uint64_t transfer_latency_;
    std::uint64_t dram_latency_;
    std::vector<Private> cores_;
    TagArray llc_;  // the payload is Directory::present; LineState::Exclusive is its flag
    // Who brought each line of the LLC in, by TagArray::Place::beside; empty while all were brought
    // in by one.
    std::vector<std::uint32_t, HugeAllocator<std::uint32_t>> llc_bringers_;
    std::uint64_t only_bringer_ = kNobody;
    // Where there is no LLC: the directory, and who brought each line in.
    std::unordered_map<std::uint64_t, Directory> lines_;
    std::unordered_map<std::uint64_t, std::uint32_t> bringers_;
};

}  // namespace ptshare::engine
