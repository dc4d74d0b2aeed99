// The tags of one cache, laid out for the host's: a set is one host cache line.
#pragma once

#include <cstdint>
#include <cstring>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

#include "engine/huge_allocator.h"

namespace ptshare::engine {

// State of a line in a private cache, after MESI; a line that is not there is invalid.
enum class LineState : std::uint32_t { Shared = 1, Exclusive = 2, Modified = 3 };

// A set-associative array of cache lines with true LRU: a set's entries stand in order of use, the
// most recent first. No clock, no counters.
class TagArray {
  public:
    // An entry: tag in the upper 30 bits, LineState in the lower two; 0 is empty.
    using Entry = std::uint32_t;

    // `lines` 0: no cache. Throws std::invalid_argument naming `what` unless lines / ways is a
    // power of two. With `payload`, each line has a 64-bit word beside it; with `bringers`, who
    // brought it in.
    TagArray(const std::string& what, std::uint64_t lines, std::uint64_t ways, bool payload = false,
             bool bringers = false)
        : ways_(ways) {
        if (lines == 0) return;
        const std::uint64_t sets = ways == 0 ? 0 : lines / ways;
        if (sets == 0 || sets * ways != lines || (sets & (sets - 1)) != 0) {
            throw std::invalid_argument(what + ": " + std::to_string(lines) + " lines in " +
                                        std::to_string(ways) +
                                        " ways give no power-of-two number of sets");
        }
        while ((1ULL << set_bits_) < sets) ++set_bits_;
        stride_ = (ways + kLineEntries - 1) / kLineEntries * kLineEntries;
        entries_.resize(sets * stride_);
        if (payload) payload_.resize(sets * stride_);
        if (bringers) bringers_.resize(sets * stride_);
    }

    bool present() const { return stride_ != 0; }

    static LineState state(Entry entry) { return static_cast<LineState>(entry & kStateMask); }
    static void set_state(Entry& entry, LineState state) {
        entry = (entry & ~kStateMask) | static_cast<Entry>(state);
    }

    // Asks the host to bring a line's set near.
    void prefetch(std::uint64_t line) const {
        if (!present()) return;
        const std::uint64_t set = set_of(line) * stride_;
        __builtin_prefetch(&entries_[set]);
        if (!payload_.empty()) {
            __builtin_prefetch(&payload_[set]);
            __builtin_prefetch(&payload_[set + 8]);
        }
        if (!bringers_.empty()) __builtin_prefetch(&bringers_[set]);
    }

    // The line's entry, now the most recently used; null when it is not held. Valid until the next
    // change of the set.
    Entry* find(std::uint64_t line) {
        Entry* set = set_at(line);
        const Entry tag = tag_of(line);
        if ((set[0] & ~kStateMask) == tag && set[0] != 0) return set;
        for (std::uint64_t i = 1; i < ways_; ++i) {
            if ((set[i] & ~kStateMask) != tag || set[i] == 0) continue;
            to_front(line, i, set[i]);
            return set;
        }
        return nullptr;
    }
    // The same without a change of the order.
    Entry* peek(std::uint64_t line) {
        if (!present()) return nullptr;
        Entry* set = set_at(line);
        const Entry tag = tag_of(line);
        for (std::uint64_t i = 0; i < ways_; ++i) {
            if ((set[i] & ~kStateMask) == tag && set[i] != 0) return &set[i];
        }
        return nullptr;
    }
    // The word beside the most recently used line of the set that `line` belongs to.
    std::uint64_t& front_payload(std::uint64_t line) { return payload_[set_of(line) * stride_]; }

    // Who brought in the most recently used line of the set that `line` belongs to.
    std::uint32_t& front_bringer(std::uint64_t line) { return bringers_[set_of(line) * stride_]; }
    // Who brought `line` in; nothing when it is not held. No change of the order.
    std::optional<std::uint32_t> bringer(std::uint64_t line) {
        const Entry* held = peek(line);
        if (!held) return std::nullopt;
        return bringers_[static_cast<std::uint64_t>(held - entries_.data())];
    }

    struct Evicted {
        std::uint64_t line;
        LineState state;
        std::uint64_t payload;
    };
    // Puts in a line that is not held, as the most recently used one; returns what had to go.
    std::optional<Evicted> insert(std::uint64_t line, LineState state) {
        const std::uint64_t last = ways_ - 1;
        const Entry old = set_at(line)[last];
        std::optional<Evicted> evicted;
        if (old != 0) {
            const std::uint64_t old_line =
                (std::uint64_t{old >> kStateBits} << set_bits_) | set_of(line);
            evicted = Evicted{old_line, TagArray::state(old),
                              payload_.empty() ? 0 : payload_[set_of(line) * stride_ + last]};
        }
        to_front(line, last, tag_of(line) | static_cast<Entry>(state));
        if (!payload_.empty()) front_payload(line) = 0;
        if (!bringers_.empty()) front_bringer(line) = 0;
        return evicted;
    }

    void erase(std::uint64_t line) {
        if (!present()) return;
        Entry* set = set_at(line);
        Entry* held = peek(line);
        if (!held) return;
        // Those behind it move up; the empty place is the last to be used again.
        const auto from = static_cast<std::uint64_t>(held - set);
        std::memmove(held, held + 1, (ways_ - 1 - from) * sizeof(Entry));
        set[ways_ - 1] = 0;
        close_gap(payload_, line, from);
        close_gap(bringers_, line, from);
    }

  private:
    static constexpr unsigned kStateBits = 2;
    static constexpr Entry kStateMask = (1U << kStateBits) - 1;
    static constexpr std::uint64_t kLineEntries = 64 / sizeof(Entry);

    std::uint64_t set_of(std::uint64_t line) const { return line & ((1ULL << set_bits_) - 1); }
    // Thirty bits of tag: enough for 4 TiB of memory in a cache of 64 sets.
    Entry tag_of(std::uint64_t line) const {
        return static_cast<Entry>((line >> set_bits_) << kStateBits);
    }
    Entry* set_at(std::uint64_t line) { return &entries_[set_of(line) * stride_]; }

    // The entry at place `from` of the line's set goes, `entry` comes to the front.
    void to_front(std::uint64_t line, std::uint64_t from, Entry entry) {
        Entry* set = set_at(line);
        std::memmove(set + 1, set, from * sizeof(Entry));
        set[0] = entry;
        bring_to_front(payload_, line, from);
        bring_to_front(bringers_, line, from);
    }

    // What stands beside the entries moves as they do.
    template <class Words>
    void bring_to_front(Words& beside, std::uint64_t line, std::uint64_t from) {
        if (beside.empty()) return;
        auto* words = &beside[set_of(line) * stride_];
        const auto word = words[from];
        std::memmove(words + 1, words, from * sizeof(*words));
        words[0] = word;
    }
    template <class Words>
    void close_gap(Words& beside, std::uint64_t line, std::uint64_t from) {
        if (beside.empty()) return;
        auto* words = &beside[set_of(line) * stride_];
        std::memmove(words + from, words + from + 1, (ways_ - 1 - from) * sizeof(*words));
    }

    std::uint64_t ways_ = 0;
    unsigned set_bits_ = 0;
    std::uint64_t stride_ = 0;  // entries from set to set: ways, rounded up to host lines
    std::vector<Entry, HugeAllocator<Entry>> entries_;  // starts on a host line
    std::vector<std::uint64_t, HugeAllocator<std::uint64_t>> payload_;
    std::vector<std::uint32_t, HugeAllocator<std::uint32_t>> bringers_;
};

}  // namespace ptshare::engine
