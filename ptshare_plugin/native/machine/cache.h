// Caches and memory: where a physical address is served, how long it takes, and coherence.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "accounting/counters.h"
#include "accounting/params.h"
#include "core/types.h"
#include "machine/directory.h"
#include "machine/tag_array.h"

namespace ptshare::engine {

enum class AccessKind { Read, Write, Fetch, WalkRead, WalkWrite };

struct CacheResult {
    Served served = Served::Dram;
    std::uint64_t latency = 0;  // cycles from the request to the data
    bool transferred = false;   // from another core's cache, which counts as the LLC
};

// Each core has an L1I, an L1D and an L2 that includes both; all cores share an LLC. L2 and LLC may
// be absent (bytes = 0). Lines are kept coherent by a directory with the states of MESI: a line is
// with one core that may write it, or with several that may read it. State changes take the latency
// of where they are decided, and no bandwidth.
//
// An inclusive LLC holds what any L2 holds, and what it evicts leaves them all; the directory is
// beside its lines. One that is not inclusive is filled with what L2s evict and with what was
// written by one core and is read by another; a line that one core alone takes from it leaves it.
// Without a copy there, another core's cache gives its own. The directory is a table of its own.
class Hierarchy {
  public:
    static constexpr unsigned kMaxCores = 64;  // width of the directory's presence mask

    // Throws std::invalid_argument naming the parameter that makes no cache, or too many cores.
    Hierarchy(const Params& params, unsigned cores);

    // One access to the line of `address`. The latency is that of the place that served it. A page
    // walker's enters at mmu.walker.port.
    CacheResult access(unsigned core, PhysAddr address, AccessKind kind, Counters& counters) {
        const std::uint64_t line = address.value >> line_shift_;
        if (walker_at_l2_ && (kind == AccessKind::WalkRead || kind == AccessKind::WalkWrite)) {
            return at_l2(core, line, kind, counters);
        }
        const bool fetch = kind == AccessKind::Fetch;
        TagArray& l1 = fetch ? cores_[core].l1i : cores_[core].l1d;
        ++(fetch ? counters.l1i_accesses : counters.l1d_accesses);
        if (const TagArray::Place place = l1.find(line)) {
            CacheResult result{Served::L1, fetch ? l1i_latency_ : l1d_latency_, false};
            // One branch that is rarely taken.
            const bool clean = place.state() != LineState::Modified;
            if (clean & is_write(kind)) {
                result.latency += write_clean(core, line, place, counters);
            }
            return result;
        }
        ++(fetch ? counters.l1i_misses : counters.l1d_misses);
        return beyond_l1(core, line, kind, &l1, counters);
    }

    // Of an access of the walker that its port serves.
    std::uint64_t walker_latency() const { return walker_at_l2_ ? l2_latency_ : l1d_latency_; }

    // What `core` brings in from memory from now on is brought in by `bringer`, an mm's number.
    void set_bringer(unsigned core, std::uint64_t bringer) {
        cores_[core].bringer = static_cast<std::uint32_t>(bringer);
    }
    // Whether the line of `address`, held by a cache, was last brought in from memory on behalf of
    // another mm than the one that `core` runs.
    bool brought_by_another(unsigned core, PhysAddr address) {
        // Empty while all lines were brought in by one.
        if (llc_bringers_.empty() && llc_.present()) return only_bringer_ != cores_[core].bringer;
        return bringer(address.value >> line_shift_) != cores_[core].bringer;
    }

    // A hint that an access to `address` is about to come. Changes nothing but the host's caches.
    [[gnu::always_inline]] void prefetch(unsigned core, PhysAddr address) const {
        const std::uint64_t line = address.value >> line_shift_;
        cores_[core].l1d.prefetch(line);
        cores_[core].l2.prefetch(line);
        llc_.prefetch(line);
        if (!inclusive_) directory_.prefetch(line);
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
    // What the directory has of a line, and where the line is in the LLC, if it is there. Beside an
    // inclusive LLC, and without an L2, presence is conservative: a core that dropped a clean line
    // stays listed. Exclusive: the one core listed may write it, and may have.
    struct Found {
        std::uint64_t present = 0;  // mask of cores
        bool exclusive = false;
        TagArray::Place place;
        bool in_llc = false;
        Directory::Entry* apart = nullptr;  // of a directory apart; until that is changed
    };
    // What became of a core's copies that are Shared from now on.
    struct Downgraded {
        bool held = false;
        bool modified = false;
    };

    static bool is_write(AccessKind kind) {
        return kind == AccessKind::Write || kind == AccessKind::WalkWrite;
    }
    // An access of a walker that passes the L1D by.
    CacheResult at_l2(unsigned core, std::uint64_t line, AccessKind kind, Counters& counters);
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
    void record(const TagArray::Place& place, std::uint64_t present, bool exclusive);
    // `entry`: the line's, or null.
    void record_apart(Directory::Entry* entry, std::uint64_t line, std::uint64_t present,
                      std::uint32_t bringer);
    // Notes that somebody has brought a line in; of one in the LLC, beside it.
    void note_bringer(const TagArray::Place& place, std::uint32_t bringer);
    std::uint32_t bringer_in_llc(const TagArray::Place& place) const;
    std::uint32_t bringer(std::uint64_t line);
    void put_in_llc(std::uint64_t line, std::uint32_t bringer);
    // An L2 has evicted a line.
    void left(unsigned core, std::uint64_t line);
    bool holds(unsigned core, std::uint64_t line);
    void invalidate(unsigned core, std::uint64_t line);
    void invalidate_others(unsigned core, std::uint64_t line, std::uint64_t present,
                           Counters& counters);
    void fill_l2(unsigned core, std::uint64_t line, LineState state);
    Downgraded downgrade(unsigned core, std::uint64_t line);

    unsigned line_shift_;
    bool walker_at_l2_;
    std::uint64_t l1i_latency_;
    std::uint64_t l1d_latency_;
    std::uint64_t l2_latency_;
    std::uint64_t llc_latency_;
    std::uint64_t transfer_latency_;
    std::uint64_t dram_latency_;
    std::vector<Private> cores_;
    bool inclusive_;  // the LLC, which then is there, and its directory
    TagArray llc_;    // if inclusive, the payload is Found::present, and Exclusive its flag
    // Who brought each line of the LLC in, by TagArray::Place::beside; empty while all were brought
    // in by one.
    std::vector<std::uint32_t, HugeAllocator<std::uint32_t>> llc_bringers_;
    std::uint64_t only_bringer_ = kNobody;
    Directory directory_;  // unless inclusive_: of lines in private caches
};

}  // namespace ptshare::engine
