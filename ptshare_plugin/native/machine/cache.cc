#include "machine/cache.h"

#include <stdexcept>

namespace ptshare::engine {

namespace {

// Whether page walks enter at the L2.
constexpr Choice<bool> kWalkerPorts[] = {{"l1d", false}, {"l2", true}};

TagArray make_cache(const Params& params, const std::string& name, bool payload = false) {
    const std::uint64_t line = params.count("cache.line_bytes");
    const std::string key = "cache." + name;
    const std::uint64_t bytes = params.count(key + ".bytes");
    const bool needed = name == "l1i" || name == "l1d";
    if (bytes % line != 0 || (needed && bytes == 0)) {
        throw std::invalid_argument(key + ".bytes must be a multiple of cache.line_bytes" +
                                    (needed ? ", not 0" : ""));
    }
    return TagArray(key + ".bytes", bytes / line, params.count(key + ".ways"), payload);
}

unsigned log2_of(std::uint64_t value, const char* what) {
    unsigned shift = 0;
    while ((1ULL << shift) < value) ++shift;
    if (value == 0 || (1ULL << shift) != value) {
        throw std::invalid_argument(std::string(what) + " must be a power of two");
    }
    return shift;
}

}  // namespace

Hierarchy::Hierarchy(const Params& params, unsigned cores)
    : line_shift_(log2_of(params.count("cache.line_bytes"), "cache.line_bytes")),
      walker_at_l2_(params.choice("mmu.walker.port", kWalkerPorts)),
      l1i_latency_(params.count("cache.l1i.latency")),
      l1d_latency_(params.count("cache.l1d.latency")),
      l2_latency_(params.count("cache.l2.latency")),
      llc_latency_(params.count("cache.llc.latency")),
      transfer_latency_(params.count("cache.transfer_latency")),
      dram_latency_(params.count("cache.dram_latency")),
      llc_(make_cache(params, "llc", cores > 1)) {
    if (cores == 0 || cores > kMaxCores) {
        throw std::invalid_argument("cores must be 1 to " + std::to_string(kMaxCores));
    }
    for (unsigned i = 0; i < cores; ++i) {
        cores_.push_back(
            {make_cache(params, "l1i"), make_cache(params, "l1d"), make_cache(params, "l2"), 0});
    }
}

// What goes is in the L2 too, if there is one, in the same state.
inline void fill_l1(TagArray& l1, std::uint64_t line, LineState state) {
    l1.insert(line, state, [](std::uint64_t, LineState, std::uint64_t) {});
}

// The first level does not have the line, or was not asked.
CacheResult Hierarchy::beyond_l1(unsigned core, std::uint64_t line, AccessKind kind, TagArray* l1,
                                 Counters& counters) {
    Private& caches = cores_[core];
    const bool write = kind == AccessKind::Write;
    if (caches.l2.present()) {
        ++counters.l2_accesses;
        if (const TagArray::Place place = caches.l2.find(line)) {
            LineState state = place.state();
            std::uint64_t latency = l2_latency_;
            if (write) {
                place.set_state(LineState::Modified);
                if (state == LineState::Shared) latency += upgrade(core, line, counters);
                state = LineState::Modified;
            }
            if (l1) fill_l1(*l1, line, state);
            return {Served::L2, latency};
        }
        ++counters.l2_misses;
    }
    LineState granted = LineState::Shared;
    const CacheResult result = miss(core, line, write, counters, granted);
    if (caches.l2.present()) fill_l2(core, line, granted);
    if (l1) fill_l1(*l1, line, granted);
    return result;
}

// The private caches do not have the line: LLC, another core or memory does.
inline CacheResult Hierarchy::miss(unsigned core, std::uint64_t line, bool write,
                                   Counters& counters, LineState& granted) {
    auto [directory, place, in_llc] = look_up(line, counters);
    CacheResult result{in_llc ? Served::Llc : Served::Dram, in_llc ? llc_latency_ : dram_latency_};
    const std::uint64_t me = 1ULL << core;
    if (directory.exclusive && directory.present != me) {
        if (downgrade(static_cast<unsigned>(__builtin_ctzll(directory.present)), line)) {
            ++counters.cache_transfers;
            result = {Served::Llc, transfer_latency_};
        }
    }
    if (result.served == Served::Dram) note_bringer(line, place, cores_[core].bringer);
    if (write) {
        invalidate_others(core, line, directory.present, counters);
        directory.present = 0;
    }
    directory.present |= me;
    directory.exclusive = directory.present == me;
    record(line, place, directory);
    granted = write                 ? LineState::Modified
              : directory.exclusive ? LineState::Exclusive
                                    : LineState::Shared;
    return result;
}

// A write to a line of the first level that is not Modified yet. Returns what it takes.
std::uint64_t Hierarchy::write_clean(unsigned core, std::uint64_t line,
                                     const TagArray::Place& place, Counters& counters) {
    const bool shared = place.state() == LineState::Shared;
    place.set_state(LineState::Modified);
    if (shared) return upgrade(core, line, counters);
    if (const TagArray::Place below = cores_[core].l2.peek(line)) {
        below.set_state(LineState::Modified);
    }
    return 0;
}

// A write to a line that this core may only read: the other copies go. Returns what it takes.
std::uint64_t Hierarchy::upgrade(unsigned core, std::uint64_t line, Counters& counters) {
    Directory directory;
    TagArray::Place place;
    if (llc_.present()) {
        place = llc_.find(line);
        if (!place) throw std::logic_error("the inclusive LLC misses a cached line");
        directory.present = listed(place);
    } else {
        directory = lines_[line];
    }
    invalidate_others(core, line, directory.present, counters);
    record(line, place, {1ULL << core, true});
    if (const TagArray::Place below = cores_[core].l2.peek(line)) {
        below.set_state(LineState::Modified);
    }
    return llc_.present() ? llc_latency_ : transfer_latency_;
}

// Who has the line; afterwards it is the most recently used of the LLC, brought in if need be.
inline Hierarchy::Found Hierarchy::look_up(std::uint64_t line, Counters& counters) {
    if (!llc_.present()) return {lines_[line], {}, false};
    ++counters.llc_accesses;
    if (const TagArray::Place place = llc_.find(line)) {
        return {{listed(place), place.state() == LineState::Exclusive}, place, true};
    }
    ++counters.llc_misses;
    const auto evict = [this](std::uint64_t evicted, LineState, std::uint64_t present) {
        if (cores_.size() == 1) present = 1;
        for (std::uint64_t left = present; left != 0; left &= left - 1) {
            invalidate(static_cast<unsigned>(__builtin_ctzll(left)), evicted);
        }
    };
    return {{}, llc_.insert(line, LineState::Shared, evict), false};
}

// The cores listed for a line of the LLC. A lone core is not written down.
inline std::uint64_t Hierarchy::listed(const TagArray::Place& place) {
    return cores_.size() == 1 ? 1 : llc_.payload(place);
}

// Keeps what look_up found and the access changed.
inline void Hierarchy::record(std::uint64_t line, const TagArray::Place& place,
                              const Directory& directory) {
    if (!place) {
        lines_[line] = directory;
        return;
    }
    if (cores_.size() > 1) llc_.payload(place) = directory.present;
    place.set_state(directory.exclusive ? LineState::Exclusive : LineState::Shared);
}

inline void Hierarchy::note_bringer(std::uint64_t line, const TagArray::Place& place,
                                    std::uint32_t bringer) {
    if (!place) {
        bringers_[line] = bringer;
        return;
    }
    if (llc_bringers_.empty()) {
        if (only_bringer_ == kNobody) only_bringer_ = bringer;
        if (only_bringer_ == bringer) return;
        llc_bringers_.assign(llc_.places(), static_cast<std::uint32_t>(only_bringer_));
    }
    llc_bringers_[place.beside] = bringer;
}

// Who brought in a line that some cache holds.
std::uint32_t Hierarchy::bringer(std::uint64_t line) {
    if (!llc_.present()) return bringers_[line];
    const TagArray::Place place = llc_.peek(line);
    if (!place) throw std::logic_error("the inclusive LLC misses a cached line");
    return llc_bringers_[place.beside];
}

inline void Hierarchy::invalidate(unsigned core, std::uint64_t line) {
    Private& caches = cores_[core];
    // The L2 includes both L1s.
    if (caches.l2.present() && !caches.l2.erase(line)) return;
    caches.l1i.erase(line);
    caches.l1d.erase(line);
}

void Hierarchy::invalidate_others(unsigned core, std::uint64_t line, std::uint64_t present,
                                  Counters& counters) {
    for (std::uint64_t left = present & ~(1ULL << core); left != 0; left &= left - 1) {
        invalidate(static_cast<unsigned>(__builtin_ctzll(left)), line);
        ++counters.cache_invalidations;
    }
}

// The owner's copies become Shared; whether it had written the line.
bool Hierarchy::downgrade(unsigned core, std::uint64_t line) {
    bool modified = false;
    for (TagArray* cache : {&cores_[core].l1i, &cores_[core].l1d, &cores_[core].l2}) {
        if (const TagArray::Place place = cache->peek(line)) {
            modified |= place.state() == LineState::Modified;
            place.set_state(LineState::Shared);
        }
    }
    return modified;
}

inline void Hierarchy::fill_l2(unsigned core, std::uint64_t line, LineState state) {
    Private& caches = cores_[core];
    caches.l2.insert(line, state, [&](std::uint64_t evicted, LineState, std::uint64_t) {
        caches.l1i.erase(evicted);
        caches.l1d.erase(evicted);
    });
}

}  // namespace ptshare::engine
