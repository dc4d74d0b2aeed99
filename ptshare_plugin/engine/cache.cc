#include "engine/cache.h"

#include <stdexcept>

namespace ptshare::engine {

namespace {

template <class Value>
SetAssociative<Value> make_cache(const Params& params, const std::string& name) {
    const std::uint64_t line = params.count("cache.line_bytes");
    const std::string key = "cache." + name;
    return SetAssociative<Value>(key + ".bytes", params.count(key + ".bytes") / line,
                                 params.count(key + ".ways"));
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
      llc_(make_cache<Directory>(params, "llc")) {
    if (cores == 0 || cores > kMaxCores) {
        throw std::invalid_argument("cores must be 1 to " + std::to_string(kMaxCores));
    }
    if (!walker_at_l2_ && params.text("mmu.walker.port") != "l1d") {
        throw std::invalid_argument("mmu.walker.port must be \"l1d\" or \"l2\"");
    }
    for (unsigned i = 0; i < cores; ++i) {
        cores_.push_back({make_cache<State>(params, "l1i"), make_cache<State>(params, "l1d"),
                          make_cache<State>(params, "l2")});
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
        Cache& l1 = fetch ? caches.l1i : caches.l1d;
        const std::uint64_t latency = fetch ? l1i_latency_ : l1d_latency_;
        ++(fetch ? counters.l1i_accesses : counters.l1d_accesses);
        if (State* state = l1.find(line, line)) {
            if (!write || *state == State::Modified) return {Served::L1, latency};
            const std::uint64_t extra = *state == State::Shared ? upgrade(core, line, counters) : 0;
            *state = State::Modified;
            return {Served::L1, latency + extra};
        }
        ++(fetch ? counters.l1i_misses : counters.l1d_misses);
    }
    if (caches.l2.present()) {
        ++counters.l2_accesses;
        if (State* state = caches.l2.find(line, line)) {
            std::uint64_t latency = l2_latency_;
            if (write) {
                if (*state == State::Shared) latency += upgrade(core, line, counters);
                *state = State::Modified;
            }
            if (!skip_l1) fill_l1(caches, fetch, line, *state);
            return {Served::L2, latency};
        }
        ++counters.l2_misses;
    }
    State granted = State::Shared;
    const CacheResult result = miss(core, line, write, counters, granted);
    fill_l2(core, line, granted);
    if (!skip_l1) fill_l1(caches, fetch, line, granted);
    return result;
}

// The private caches do not have the line: LLC, another core or memory does.
CacheResult Hierarchy::miss(unsigned core, std::uint64_t line, bool write, Counters& counters,
                            State& granted) {
    bool in_llc = false;
    Directory& directory = directory_of(line, counters, in_llc);
    CacheResult result{in_llc ? Served::Llc : Served::Dram, in_llc ? llc_latency_ : dram_latency_};
    const std::uint64_t me = 1ULL << core;
    if (directory.owner >= 0 && directory.owner != static_cast<int>(core)) {
        if (downgrade(static_cast<unsigned>(directory.owner), line)) {
            ++counters.cache_transfers;
            result = {Served::Llc, transfer_latency_};
        }
        directory.owner = -1;
    }
    if (write) {
        for (unsigned other = 0; other < cores_.size(); ++other) {
            if (other == core || !(directory.present & (1ULL << other))) continue;
            invalidate(other, line);
            ++counters.cache_invalidations;
        }
        directory.present = 0;
    }
    directory.present |= me;
    const bool alone = directory.present == me;
    directory.owner = alone ? static_cast<int>(core) : -1;
    granted = write ? State::Modified : alone ? State::Exclusive : State::Shared;
    return result;
}

// A write to a line that this core may only read: the other copies go. Returns what it takes.
std::uint64_t Hierarchy::upgrade(unsigned core, std::uint64_t line, Counters& counters) {
    Directory* directory = llc_.present() ? llc_.peek(line, line) : &lines_[line];
    if (!directory) throw std::logic_error("a cached line that the inclusive LLC does not have");
    for (unsigned other = 0; other < cores_.size(); ++other) {
        if (other == core || !(directory->present & (1ULL << other))) continue;
        invalidate(other, line);
        ++counters.cache_invalidations;
    }
    directory->present = 1ULL << core;
    directory->owner = static_cast<int>(core);
    if (State* state = cores_[core].l2.peek(line, line)) *state = State::Modified;
    return llc_.present() ? llc_latency_ : transfer_latency_;
}

Hierarchy::Directory& Hierarchy::directory_of(std::uint64_t line, Counters& counters,
                                              bool& in_llc) {
    if (!llc_.present()) return lines_[line];
    ++counters.llc_accesses;
    if (Directory* held = llc_.find(line, line)) {
        in_llc = true;
        return *held;
    }
    ++counters.llc_misses;
    if (const auto evicted = llc_.insert(line, line, Directory())) {
        for (unsigned core = 0; core < cores_.size(); ++core) {
            if (evicted->second.present & (1ULL << core)) invalidate(core, evicted->first);
        }
    }
    return *llc_.peek(line, line);
}

void Hierarchy::invalidate(unsigned core, std::uint64_t line) {
    Private& caches = cores_[core];
    caches.l1i.erase(line, line);
    caches.l1d.erase(line, line);
    caches.l2.erase(line, line);
}

// The owner's copies become Shared; whether it had written the line.
bool Hierarchy::downgrade(unsigned core, std::uint64_t line) {
    bool modified = false;
    for (Cache* cache : {&cores_[core].l1i, &cores_[core].l1d, &cores_[core].l2}) {
        if (State* state = cache->peek(line, line)) {
            modified |= *state == State::Modified;
            *state = State::Shared;
        }
    }
    return modified;
}

void Hierarchy::fill_l1(Private& caches, bool fetch, std::uint64_t line, State state) {
    Cache& l1 = fetch ? caches.l1i : caches.l1d;
    const auto evicted = l1.insert(line, line, state);
    if (!evicted || evicted->second != State::Modified) return;
    if (State* below = caches.l2.peek(evicted->first, evicted->first)) *below = State::Modified;
}

void Hierarchy::fill_l2(unsigned core, std::uint64_t line, State state) {
    Private& caches = cores_[core];
    const auto evicted = caches.l2.insert(line, line, state);
    if (!evicted) return;
    caches.l1i.erase(evicted->first, evicted->first);
    caches.l1d.erase(evicted->first, evicted->first);
}

}  // namespace ptshare::engine
