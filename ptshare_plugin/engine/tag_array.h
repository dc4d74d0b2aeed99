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

    // Asks the host to bring a line's set near. Inlined always: GCC 12 takes a function that does
    // nothing but prefetch for one without effect, and drops calls of it.
    [[gnu::always_inline]] void prefetch(std::uint64_t line) const {
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
        const std::uint64_t place = place_of(set, tag);
        if (place == kNoPlace) return nullptr;
        to_front(line, place, set[place]);
        return set;
    }
    // The same without a change of the order.
    Entry* peek(std::uint64_t line) {
        if (!present()) return nullptr;
        Entry* set = set_at(line);
        const std::uint64_t place = place_of(set, tag_of(line));
        return place == kNoPlace ? nullptr : &set[place];
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
                (std::uint64_t{(old >> kStateBits) - 1} << set_bits_) | set_of(line);
            evicted = Evicted{old_line, TagArray::state(old),
                              payload_.empty() ? 0 : payload_[set_of(line) * stride_ + last]};
        }
        to_front(line, last, tag_of(line) | static_cast<Entry>(state));
        if (!payload_.empty()) front_payload(line) = 0;
        if (!bringers_.empty()) front_bringer(line) = 0;
        return evicted;
    }

    // Drops the line; whether it was held.
    bool erase(std::uint64_t line) {
        if (!present()) return false;
        Entry* set = set_at(line);
        Entry* held = peek(line);
        if (!held) return false;
        // Those behind it move up; the empty place is the last to be used again.
        const auto from = static_cast<std::uint64_t>(held - set);
        std::memmove(held, held + 1, (ways_ - 1 - from) * sizeof(Entry));
        set[ways_ - 1] = 0;
        close_gap(payload_, line, from);
        close_gap(bringers_, line, from);
        return true;
    }

  private:
    static constexpr unsigned kStateBits = 2;
    static constexpr Entry kStateMask = (1U << kStateBits) - 1;
    static constexpr std::uint64_t kLineEntries = 64 / sizeof(Entry);
    static constexpr std::uint64_t kNoPlace = ~0ULL;
    // Four entries in GCC's vector type, which every target has, and the same bits as two words.
    using Four [[gnu::vector_size(16)]] = Entry;
    using Two [[gnu::vector_size(16)]] = std::uint64_t;

    static Four load(const Entry* from) {
        Four four;
        std::memcpy(&four, from, sizeof(four));
        return four;
    }

    std::uint64_t set_of(std::uint64_t line) const { return line & ((1ULL << set_bits_) - 1); }
    // Thirty bits of tag: enough for 4 TiB of memory in a cache of 64 sets. One is added, so that
    // no tag is that of an empty place.
    Entry tag_of(std::uint64_t line) const {
        return static_cast<Entry>(((line >> set_bits_) + 1) << kStateBits);
    }
    Entry* set_at(std::uint64_t line) { return &entries_[set_of(line) * stride_]; }

    // Where in a set the tag is, a host line at a time without a branch for each entry. Entries
    // past the last way are empty.
    std::uint64_t place_of(const Entry* set, Entry tag) const {
        const Four wanted = {tag, tag, tag, tag};
        const Four states = {kStateMask, kStateMask, kStateMask, kStateMask};
        for (std::uint64_t first = 0; first < stride_; first += kLineEntries) {
            // Places count from 1; of no more than one entry something is left.
            Four found{};
            for (std::uint32_t i = 0; i < kLineEntries; i += 4) {
                const Four places = {i + 1, i + 2, i + 3, i + 4};
                found |= Four((load(set + first + i) & ~states) == wanted) & places;
            }
            const Two halves = reinterpret_cast<Two>(found);
            const std::uint64_t half = halves[0] | halves[1];
            if (half != 0) return first + ((half | half >> 32) & 0xff) - 1;
        }
        return kNoPlace;
    }

    // The entry at place `from` of the line's set goes, `entry` comes to the front.
    void to_front(std::uint64_t line, std::uint64_t from, Entry entry) {
        Entry* set = set_at(line);
        // From the end, whole vectors: those up to `from` take what stands one before them.
        const auto last = static_cast<std::uint32_t>(from);
        const Four lasts = {last, last, last, last};
        for (std::uint32_t i = last & ~3U; i != 0; i -= 4) {
            const Four moves = Four(Four{i, i + 1, i + 2, i + 3} <= lasts);
            const Four four = (load(set + i - 1) & moves) | (load(set + i) & ~moves);
            std::memcpy(set + i, &four, sizeof(four));
        }
        const Four head = load(set);
        const Four moves = Four(Four{0, 1, 2, 3} <= lasts);
        const Four four = (Four{entry, head[0], head[1], head[2]} & moves) | (head & ~moves);
        std::memcpy(set, &four, sizeof(four));
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
