#include "machine/cache.h"

#include <stdexcept>

namespace ptshare::engine {

namespace {

// Whether page walks enter at the L2.
constexpr Choice<bool> kWalkerPorts[] = {{"l1d", false}, {"l2", true}};
// Whether the LLC is inclusive.
constexpr Choice<bool> kInclusions[] = {{"inclusive", true}, {"non-inclusive", false}};

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
      inclusive_(params.choice("cache.llc.inclusion", kInclusions) &&
                 params.count("cache.llc.bytes") != 0),
      llc_(make_cache(params, "llc", inclusive_ && cores > 1)) {
    if (!inclusive_ && llc_.present() && params.count("cache.l2.bytes") == 0) {
        throw std::invalid_argument(
            "cache.llc.inclusion: a non-inclusive LLC holds what L2s evict, and cache.l2.bytes is "
            "0");
    }
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

CacheResult Hierarchy::at_l2(unsigned core, std::uint64_t line, AccessKind kind,
                             Counters& counters) {
    const CacheResult result = beyond_l1(core, line, kind, nullptr, counters);
    if (is_write(kind)) {
        const TagArray::Place above = cores_[core].l1d.peek(line);
        if (above) above.set_state(LineState::Modified);
    }
    return result;
}

// The first level does not have the line, or was not asked.
CacheResult Hierarchy::beyond_l1(unsigned core, std::uint64_t line, AccessKind kind, TagArray* l1,
                                 Counters& counters) {
    Private& caches = cores_[core];
    const bool write = is_write(kind);
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
            return {Served::L2, latency, false};
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
    const Found found = look_up(line, counters);
    CacheResult result{found.in_llc ? Served::Llc : Served::Dram,
                       found.in_llc ? llc_latency_ : dram_latency_, false};
    const std::uint64_t me = 1ULL << core;
    const std::uint64_t others = found.present & ~me;
    bool modified = false;
    bool supplied = false;  // by another core, if need be
    if (others != 0 && found.exclusive) {
        const auto owner = static_cast<unsigned>(__builtin_ctzll(others));
        const Downgraded copies = downgrade(owner, line);
        supplied = copies.held;
        modified = copies.modified;
    } else if (!found.in_llc) {
        for (std::uint64_t left = others; left != 0 && !supplied; left &= left - 1) {
            supplied = holds(static_cast<unsigned>(__builtin_ctzll(left)), line);
        }
    }
    if (modified || (supplied && !found.in_llc)) {
        ++counters.cache_transfers;
        result = {Served::Llc, transfer_latency_, true};
    }
    if (write) invalidate_others(core, line, found.present, counters);
    const std::uint64_t present = write ? me : found.present | me;
    const bool exclusive = present == me;
    if (inclusive_) {
        if (result.served == Served::Dram) note_bringer(found.place, cores_[core].bringer);
        record(found.place, present, exclusive);
    } else {
        std::uint32_t brought = cores_[core].bringer;
        if (result.served == Served::Dram) {
            note_bringer({}, brought);
        } else if (found.apart) {
            brought = found.apart->bringer;
        } else {
            brought = bringer_in_llc(found.place);
        }
        if (found.in_llc && exclusive) llc_.erase(line);
        record_apart(found.apart, line, present, brought);
        if (modified && !write && llc_.present()) put_in_llc(line, brought);
    }
    granted = write ? LineState::Modified : exclusive ? LineState::Exclusive : LineState::Shared;
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
    if (inclusive_) {
        const TagArray::Place place = llc_.find(line);
        if (!place) throw std::logic_error("the inclusive LLC misses a cached line");
        invalidate_others(core, line, listed(place), counters);
        record(place, 1ULL << core, true);
    } else {
        Directory::Entry* entry = directory_.find(line);
        if (!entry) throw std::logic_error("the directory misses a cached line");
        invalidate_others(core, line, entry->present, counters);
        if (llc_.present()) llc_.erase(line);
        record_apart(entry, line, 1ULL << core, entry->bringer);
    }
    if (const TagArray::Place below = cores_[core].l2.peek(line)) {
        below.set_state(LineState::Modified);
    }
    return llc_.present() ? llc_latency_ : transfer_latency_;
}

// Who has the line; it is the most recently used of the LLC afterwards if that has it, and brought
// into an inclusive one if it has not.
inline Hierarchy::Found Hierarchy::look_up(std::uint64_t line, Counters& counters) {
    Found found;
    if (llc_.present()) {
        ++counters.llc_accesses;
        found.place = llc_.find(line);
        found.in_llc = static_cast<bool>(found.place);
        if (!found.in_llc) ++counters.llc_misses;
    }
    if (!inclusive_) {
        found.apart = directory_.find(line);
        if (found.apart) {
            found.present = found.apart->present;
            found.exclusive = found.apart->exclusive;
        }
        return found;
    }
    if (found.in_llc) {
        found.present = listed(found.place);
        found.exclusive = found.place.state() == LineState::Exclusive;
        return found;
    }
    const auto evict = [this](std::uint64_t evicted, LineState, std::uint64_t present) {
        if (cores_.size() == 1) present = 1;
        for (std::uint64_t left = present; left != 0; left &= left - 1) {
            invalidate(static_cast<unsigned>(__builtin_ctzll(left)), evicted);
        }
    };
    found.place = llc_.insert(line, LineState::Shared, evict);
    return found;
}

// ---- The directory beside the lines of an inclusive LLC

// The cores listed for a line. A lone core is not written down.
inline std::uint64_t Hierarchy::listed(const TagArray::Place& place) {
    return cores_.size() == 1 ? 1 : llc_.payload(place);
}

inline void Hierarchy::record(const TagArray::Place& place, std::uint64_t present, bool exclusive) {
    if (cores_.size() > 1) llc_.payload(place) = present;
    place.set_state(exclusive ? LineState::Exclusive : LineState::Shared);
}

// ---- The directory apart, and the LLC that is not inclusive

inline void Hierarchy::record_apart(Directory::Entry* entry, std::uint64_t line,
                                    std::uint64_t present, std::uint32_t bringer) {
    if (!entry) entry = &directory_.insert(line);
    entry->present = present;
    entry->bringer = bringer;
    entry->exclusive = (present & (present - 1)) == 0;
}

void Hierarchy::put_in_llc(std::uint64_t line, std::uint32_t bringer) {
    TagArray::Place place = llc_.find(line);
    if (!place) {
        place =
            llc_.insert(line, LineState::Shared, [](std::uint64_t, LineState, std::uint64_t) {});
    }
    note_bringer(place, bringer);
}

void Hierarchy::left(unsigned core, std::uint64_t line) {
    Directory::Entry* entry = directory_.find(line);
    if (!entry) throw std::logic_error("the directory misses a cached line");
    const std::uint32_t brought = entry->bringer;
    entry->present &= ~(1ULL << core);
    if (entry->present == 0) directory_.erase(entry);
    if (llc_.present()) put_in_llc(line, brought);
}

// ---- Who brought lines in

inline void Hierarchy::note_bringer(const TagArray::Place& place, std::uint32_t bringer) {
    if (llc_bringers_.empty()) {
        if (only_bringer_ == kNobody) only_bringer_ = bringer;
        if (only_bringer_ == bringer || !llc_.present()) return;
        llc_bringers_.assign(llc_.places(), static_cast<std::uint32_t>(only_bringer_));
    }
    if (place) llc_bringers_[place.beside] = bringer;
}

inline std::uint32_t Hierarchy::bringer_in_llc(const TagArray::Place& place) const {
    return llc_bringers_.empty() ? static_cast<std::uint32_t>(only_bringer_)
                                 : llc_bringers_[place.beside];
}

// Who brought in a line that some cache holds.
std::uint32_t Hierarchy::bringer(std::uint64_t line) {
    if (!inclusive_) {
        if (const Directory::Entry* entry = directory_.find(line)) return entry->bringer;
    }
    const TagArray::Place place = llc_.peek(line);
    if (!place) throw std::logic_error("no cache holds the line");
    return bringer_in_llc(place);
}

// ---- Private caches

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

bool Hierarchy::holds(unsigned core, std::uint64_t line) {
    Private& caches = cores_[core];
    return caches.l2.peek(line) || caches.l1d.peek(line) || caches.l1i.peek(line);
}

Hierarchy::Downgraded Hierarchy::downgrade(unsigned core, std::uint64_t line) {
    Downgraded result;
    for (TagArray* cache : {&cores_[core].l1i, &cores_[core].l1d, &cores_[core].l2}) {
        if (const TagArray::Place place = cache->peek(line)) {
            result.held = true;
            result.modified |= place.state() == LineState::Modified;
            place.set_state(LineState::Shared);
        }
    }
    return result;
}

inline void Hierarchy::fill_l2(unsigned core, std::uint64_t line, LineState state) {
    Private& caches = cores_[core];
    caches.l2.insert(line, state, [&](std::uint64_t evicted, LineState, std::uint64_t) {
        caches.l1i.erase(evicted);
        caches.l1d.erase(evicted);
        if (!inclusive_) left(core, evicted);
    });
}

}  // namespace ptshare::engine
