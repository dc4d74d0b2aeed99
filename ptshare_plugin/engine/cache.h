// Caches and memory: where a physical address is served, how long it takes, and coherence.
#pragma once

#include <cstdint>
#include <string>
#include <unordered_map>
#include <vector>

#include "core/mmu/set_associative.h"
#include "core/types.h"
#include "engine/counters.h"
#include "engine/params.h"

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
    CacheResult access(unsigned core, PhysAddr address, AccessKind kind, Counters& counters);

  private:
    // Of a line in a private cache. L1D and L2 copies of one line: the L1D's counts, the L2's may
    // lag behind (Exclusive where the L1D has Modified).
    enum class State : std::uint8_t { Shared, Exclusive, Modified };
    using Cache = SetAssociative<State>;

    struct Private {
        Cache l1i;
        Cache l1d;
        Cache l2;
    };
    // Who has a line. Presence is conservative: a core that dropped a clean line stays listed.
    struct Directory {
        std::uint64_t present = 0;  // mask of cores
        int owner = -1;             // the one that holds it Exclusive or Modified
    };

    CacheResult miss(unsigned core, std::uint64_t line, bool write, Counters& counters,
                     State& granted);
    std::uint64_t upgrade(unsigned core, std::uint64_t line, Counters& counters);
    Directory& directory_of(std::uint64_t line, Counters& counters, bool& in_llc);
    void invalidate(unsigned core, std::uint64_t line);
    void fill_l1(Private& caches, bool fetch, std::uint64_t line, State state);
    void fill_l2(unsigned core, std::uint64_t line, State state);
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
    SetAssociative<Directory> llc_;
    std::unordered_map<std::uint64_t, Directory> lines_;  // the directory where there is no LLC
};

}  // namespace ptshare::engine
