#include "engine/cache.h"

#include <stdexcept>

namespace ptshare::engine {

namespace {

TagArray make_cache(const Params& params, const std::string& name, bool payload = false,
                    bool bringers = false) {
    const std::uint64_t line = params.count("cache.line_bytes");
    const std::string key = "cache." + name;
    const std::uint64_t bytes = params.count(key + ".bytes");
    const bool needed = name == "l1i" || name == "l1d";
    if (bytes % line != 0 || (needed && bytes == 0)) {
        throw std::invalid_argument(key + ".bytes must be a multiple of cache.line_bytes" +
                                    (needed ? ", not 0" : ""));
    }
    return TagArray(key + ".bytes", bytes / line, params.count(key + ".ways"), payload, bringers);
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
      walker_at_l2_(params.text("mmu.walker.port") == "l2"),
      l1i_latency_(params.count("cache.l1i.latency")),
      l1d_latency_(params.count("cache.l1d.latency")),
      l2_latency_(params.count("cache.l2.latency")),
      llc_latency_(params.count("cache.llc.latency")),
      transfer_latency_(params.count("cache.transfer_latency")),
      dram_latency_(params.count("cache.dram_latency")),
      llc_(make_cache(params, "llc", cores > 1, true)) {
    if (cores == 0 || cores > kMaxCores) {
        throw std::invalid_argument("cores must be 1 to " + std::to_string(kMaxCores));
    }
    if (!walker_at_l2_ && params.text("mmu.walker.port") != "l1d") {
        throw std::invalid_argument("mmu.walker.port must be \"l1d\" or \"l2\"");
    }
    for (unsigned i = 0; i < cores; ++i) {
        cores_.push_back(
            {make_cache(params, "l1i"), make_cache(params, "l1d"), make_cache(params, "l2"), 0});
    }
}

CacheResult Hierarchy::access(unsigned core, PhysAddr address, AccessKind kind,
                              Counters& counters) {
    const std::uint64_t line = address.value >> line_shift_;
    Private& caches = cores_[core];
    const bool write = kind == AccessKind::Write;
    const bool fetch = kind == AccessKind::Fetch;
    const bool skip_l1 = kind == AccessKind::WalkRead && walker_at_l2_;
    if (!skip_l1) {
        TagArray& l1 = fetch ? caches.l1i : caches.l1d;
        const std::uint64_t latency = fetch ? l1i_latency_ : l1d_latency_;
        ++(fetch ? counters.l1i_accesses : counters.l1d_accesses);
        if (TagArray::Entry* entry = l1.find(line)) {
            const LineState state = TagArray::state(*entry);
            if (!write || state == LineState::Modified) return {Served::L1, latency};
            TagArray::set_state(*entry, LineState::Modified);
            const std::uint64_t extra =
                state == LineState::Shared ? upgrade(core, line, counters) : 0;
            return {Served::L1, latency + extra};
        }
        ++(fetch ? counters.l1i_misses : counters.l1d_misses);
    }
    caches.l2.prefetch(line);
    llc_.prefetch(line);
    if (caches.l2.present()) {
        ++counters.l2_accesses;
        if (TagArray::Entry* entry = caches.l2.find(line)) {
            LineState state = TagArray::state(*entry);
            std::uint64_t latency = l2_latency_;
            if (write) {
                TagArray::set_state(*entry, LineState::Modified);
                if (state == LineState::Shared) latency += upgrade(core, line, counters);
                state = LineState::Modified;
            }
            if (!skip_l1) fill_l1(caches, fetch, line, state);
            return {Served::L2, latency};
        }
        ++counters.l2_misses;
    }
    LineState granted = LineState::Shared;
    const CacheResult result = miss(core, line, write, counters, granted);
    if (caches.l2.present()) fill_l2(core, line, granted);
    if (!skip_l1) fill_l1(caches, fetch, line, granted);
    return result;
}

// The private caches do not have the line: LLC, another core or memory does.
inline CacheResult Hierarchy::miss(unsigned core, std::uint64_t line, bool write,
                                   Counters& counters, LineState& granted) {
    bool in_llc = false;
    Directory directory = look_up(line, counters, in_llc);
    CacheResult result{in_llc ? Served::Llc : Served::Dram, in_llc ? llc_latency_ : dram_latency_};
    const std::uint64_t me = 1ULL << core;
    if (directory.exclusive && directory.present != me) {
        if (downgrade(static_cast<unsigned>(__builtin_ctzll(directory.present)), line)) {
            ++counters.cache_transfers;
            result = {Served::Llc, transfer_latency_};
        }
    }
    if (result.served == Served::Dram) bringer_of_front(line) = cores_[core].bringer;
    if (write) {
        invalidate_others(core, line, directory.present, counters);
        directory.present = 0;
    }
    directory.present |= me;
    directory.exclusive = directory.present == me;
    record(line, directory);
    granted = write                 ? LineState::Modified
              : directory.exclusive ? LineState::Exclusive
                                    : LineState::Shared;
    return result;
}

// A write to a line that this core may only read: the other copies go. Returns what it takes.
std::uint64_t Hierarchy::upgrade(unsigned core, std::uint64_t line, Counters& counters) {
    Directory directory;
    if (llc_.present()) {
        if (!llc_.find(line)) throw std::logic_error("the inclusive LLC misses a cached line");
        directory.present = listed(line);
    } else {
        directory = lines_[line];
    }
    invalidate_others(core, line, directory.present, counters);
    record(line, {1ULL << core, true});
    if (TagArray::Entry* entry = cores_[core].l2.peek(line)) {
        TagArray::set_state(*entry, LineState::Modified);
    }
    return llc_.present() ? llc_latency_ : transfer_latency_;
}

// Who has the line; afterwards it is the most recently used of the LLC, brought in if need be.
inline Hierarchy::Directory Hierarchy::look_up(std::uint64_t line, Counters& counters,
                                               bool& in_llc) {
    if (!llc_.present()) return lines_[line];
    ++counters.llc_accesses;
    if (const TagArray::Entry* entry = llc_.find(line)) {
        in_llc = true;
        return {listed(line), TagArray::state(*entry) == LineState::Exclusive};
    }
    ++counters.llc_misses;
    if (const auto evicted = llc_.insert(line, LineState::Shared)) {
        const std::uint64_t holders = cores_.size() == 1 ? 1 : evicted->payload;
        for (std::uint64_t left = holders; left != 0; left &= left - 1) {
            invalidate(static_cast<unsigned>(__builtin_ctzll(left)), evicted->line);
        }
    }
    return {};
}

// The cores listed for the line that the LLC used last. A lone core is not written down.
inline std::uint64_t Hierarchy::listed(std::uint64_t line) {
    return cores_.size() == 1 ? 1 : llc_.front_payload(line);
}

// Keeps what look_up found and the access changed.
inline void Hierarchy::record(std::uint64_t line, const Directory& directory) {
    if (!llc_.present()) {
        lines_[line] = directory;
        return;
    }
    if (cores_.size() > 1) llc_.front_payload(line) = directory.present;
    TagArray::set_state(*llc_.find(line),
                        directory.exclusive ? LineState::Exclusive : LineState::Shared);
}

// Who brought in the line that look_up found or inserted last.
std::uint32_t& Hierarchy::bringer_of_front(std::uint64_t line) {
    return llc_.present() ? llc_.front_bringer(line) : bringers_[line];
}

bool Hierarchy::brought_by_another(unsigned core, PhysAddr address) {
    const std::uint64_t line = address.value >> line_shift_;
    if (!llc_.present()) return bringers_[line] != cores_[core].bringer;
    const auto bringer = llc_.bringer(line);
    if (!bringer) throw std::logic_error("the inclusive LLC misses a cached line");
    return *bringer != cores_[core].bringer;
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
        if (TagArray::Entry* entry = cache->peek(line)) {
            modified |= TagArray::state(*entry) == LineState::Modified;
            TagArray::set_state(*entry, LineState::Shared);
        }
    }
    return modified;
}

inline void Hierarchy::fill_l1(Private& caches, bool fetch, std::uint64_t line, LineState state) {
    TagArray& l1 = fetch ? caches.l1i : caches.l1d;
    const auto evicted = l1.insert(line, state);
    if (!evicted || evicted->state != LineState::Modified) return;
    if (TagArray::Entry* below = caches.l2.peek(evicted->line)) {
        TagArray::set_state(*below, LineState::Modified);
    }
}

inline void Hierarchy::fill_l2(unsigned core, std::uint64_t line, LineState state) {
    Private& caches = cores_[core];
    const auto evicted = caches.l2.insert(line, state);
    if (!evicted) return;
    caches.l1i.erase(evicted->line);
    caches.l1d.erase(evicted->line);
}

}  // namespace ptshare::engine
