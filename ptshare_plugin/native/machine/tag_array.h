// The tags of one cache, laid out for the host's: a set is one or two host cache lines.
#pragma once

#include <emmintrin.h>

#include <algorithm>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <vector>

#include "machine/huge_allocator.h"

namespace ptshare::engine {

// State of a line in a private cache, after MESI; a line that is not there is invalid.
enum class LineState : std::uint32_t { Shared = 1, Exclusive = 2, Modified = 3 };

// A set-associative array of cache lines with true LRU. No clock, no counters.
//
// A set is its entries, then an age for each, a byte: 0 is the most recently used, and empty places
// are older than all others. Nothing but ages changes when a line is used, and no step depends on
// where in the set it is: the host predicts no branch wrongly.
class TagArray {
  public:
    static constexpr std::uint64_t kMostWays = 128;

    // An entry: tag in the upper 30 bits, LineState in the lower two; 0 is empty.
    using Entry = std::uint32_t;

    // `lines` 0: no cache. Throws std::invalid_argument naming `what` unless lines / ways is a
    // power of two and there are no more than kMostWays. With `payload`, each line has a 64-bit
    // word beside it.
    TagArray(const std::string& what, std::uint64_t lines, std::uint64_t ways, bool payload = false)
        : ways_(ways) {
        if (lines == 0) return;
        const std::uint64_t sets = ways == 0 ? 0 : lines / ways;
        if (sets == 0 || sets * ways != lines || (sets & (sets - 1)) != 0) {
            throw std::invalid_argument(what + ": " + std::to_string(lines) + " lines in " +
                                        std::to_string(ways) +
                                        " ways give no power-of-two number of sets");
        }
        if (ways > kMostWays) {
            throw std::invalid_argument(what + ": more than " + std::to_string(kMostWays) +
                                        " ways");
        }
        while ((1ULL << set_bits_) < sets) ++set_bits_;
        groups_ = (ways + kGroup - 1) / kGroup;
        // Twelve ways and their ages fill a host line.
        ages_at_ = groups_ == 1 ? (ways + 3) / 4 * 4 : groups_ * kGroup;
        ways_mask_ = groups_ == 1 ? (1U << ways) - 1 : (1U << kGroup) - 1;
        stride_ = std::max<std::uint64_t>(ages_at_ + groups_ * kGroup / sizeof(Entry),
                                          kHostLine / sizeof(Entry));
        words_.resize(sets * stride_);
        for (std::uint64_t set = 0; set < sets; ++set) {
            std::uint8_t* ages = ages_of(&words_[set * stride_]);
            for (std::uint64_t i = 0; i < groups_ * kGroup; ++i) {
                ages[i] = static_cast<std::uint8_t>(i < ways ? i : kNoAge);
            }
        }
        if (payload) payload_.resize(sets * groups_ * kGroup);
    }

    bool present() const { return stride_ != 0; }
    // Of words kept beside the lines, see Place::beside.
    std::uint64_t places() const { return groups_ * kGroup << set_bits_; }

    static LineState state(Entry entry) { return static_cast<LineState>(entry & kStateMask); }
    static void set_state(Entry& entry, LineState state) {
        entry = (entry & ~kStateMask) | static_cast<Entry>(state);
    }

    // Asks the host to bring a line's set near. Inlined always: GCC 12 takes a function that does
    // nothing but prefetch for one without effect, and drops calls of it.
    [[gnu::always_inline]] void prefetch(std::uint64_t line) const {
        if (!present()) return;
        const std::uint64_t set = set_of(line);
        __builtin_prefetch(&words_[set * stride_]);
        __builtin_prefetch(&words_[set * stride_ + stride_ - 1]);
        if (payload_.empty()) return;
        __builtin_prefetch(&payload_[set * groups_ * kGroup]);
        __builtin_prefetch(&payload_[set * groups_ * kGroup + kGroup / 2]);
    }

    // Where a held line stands; it stays there while it is held.
    struct Place {
        Entry* entry = nullptr;    // null: the line is not held
        std::uint64_t beside = 0;  // index of what is kept beside the line

        explicit operator bool() const { return entry != nullptr; }
        LineState state() const { return TagArray::state(*entry); }
        void set_state(LineState state) const { TagArray::set_state(*entry, state); }
    };

    // The line, now the most recently used.
    Place find(std::uint64_t line) {
        const std::uint64_t set = set_of(line);
        Entry* entries = &words_[set * stride_];
        const std::uint64_t way = way_of(entries, tag_of(line));
        if (way == kNoPlace) return {};
        use(ages_of(entries), ages_of(entries)[way]);
        return {entries + way, set * groups_ * kGroup + way};
    }
    // The same without a change of the order.
    Place peek(std::uint64_t line) {
        if (!present()) return {};
        const std::uint64_t set = set_of(line);
        Entry* entries = &words_[set * stride_];
        const std::uint64_t way = way_of(entries, tag_of(line));
        if (way == kNoPlace) return {};
        return {entries + way, set * groups_ * kGroup + way};
    }
    // The word beside a line.
    std::uint64_t& payload(const Place& place) { return payload_[place.beside]; }

    // Puts in a line that is not held, as the most recently used one, its word 0. Before, calls
    // evict(line, state, word) for what has to go, if anything.
    template <class Evict>
    Place insert(std::uint64_t line, LineState state, Evict&& evict) {
        const std::uint64_t set = set_of(line);
        Entry* entries = &words_[set * stride_];
        const std::uint64_t way = oldest_of(ages_of(entries));
        const Place place{entries + way, set * groups_ * kGroup + way};
        const Entry old = entries[way];
        if (old != 0) {
            evict((std::uint64_t{(old >> kStateBits) - 1} << set_bits_) | set, TagArray::state(old),
                  payload_.empty() ? 0 : payload_[place.beside]);
        }
        entries[way] = tag_of(line) | static_cast<Entry>(state);
        use(ages_of(entries), static_cast<std::uint8_t>(ways_ - 1));
        if (!payload_.empty()) payload_[place.beside] = 0;
        return place;
    }

    // Drops the line; whether it was held.
    bool erase(std::uint64_t line) {
        const Place place = peek(line);
        if (!place) return false;
        *place.entry = 0;
        // The empty place is the next to be used again.
        std::uint8_t* ages = ages_of(&words_[set_of(line) * stride_]);
        std::uint8_t& own = ages[place.beside % (groups_ * kGroup)];
        const std::uint8_t age = own;
        for (std::uint64_t i = 0; i < ways_; ++i) {
            ages[i] = static_cast<std::uint8_t>(ages[i] - (ages[i] > age ? 1 : 0));
        }
        own = static_cast<std::uint8_t>(ways_ - 1);
        return true;
    }

  private:
    static constexpr unsigned kStateBits = 2;
    static constexpr Entry kStateMask = (1U << kStateBits) - 1;
    static constexpr std::uint64_t kHostLine = 64;
    static constexpr std::uint64_t kGroup = 16;  // ways whose ages fill a vector
    // Age of places beyond the last way, which are where there are fewer than 128.
    static constexpr std::uint64_t kNoAge = kMostWays - 1;
    static constexpr std::uint64_t kNoPlace = ~0ULL;

    static __m128i load(const void* from) {
        return _mm_load_si128(static_cast<const __m128i*>(from));
    }

    std::uint64_t set_of(std::uint64_t line) const { return line & ((1ULL << set_bits_) - 1); }
    // Thirty bits of tag: enough for 4 TiB of memory in a cache of 64 sets. One is added, so that
    // no tag is that of an empty place.
    Entry tag_of(std::uint64_t line) const {
        return static_cast<Entry>(((line >> set_bits_) + 1) << kStateBits);
    }
    std::uint8_t* ages_of(Entry* set) const {
        return reinterpret_cast<std::uint8_t*>(set + ages_at_);
    }

    // Sixteen places at a time; where there are fewer ways, what follows them is masked out.
    std::uint64_t way_of(const Entry* set, Entry tag) const {
        const __m128i wanted = _mm_set1_epi32(static_cast<int>(tag));
        const __m128i states = _mm_set1_epi32(kStateMask);
        for (std::uint64_t first = 0; first < groups_ * kGroup; first += kGroup) {
            const auto equal = [&](std::uint64_t i) {
                return _mm_cmpeq_epi32(_mm_andnot_si128(states, load(set + first + i)), wanted);
            };
            const __m128i low = _mm_packs_epi32(equal(0), equal(4));
            const __m128i high = _mm_packs_epi32(equal(8), equal(12));
            const unsigned found =
                static_cast<unsigned>(_mm_movemask_epi8(_mm_packs_epi16(low, high))) & ways_mask_;
            if (found != 0) return first + static_cast<unsigned>(__builtin_ctz(found));
        }
        return kNoPlace;
    }
    // The place of this age is used: those that were used later are one older.
    void use(std::uint8_t* ages, std::uint8_t age) const {
        const __m128i own = _mm_set1_epi8(static_cast<char>(age));
        for (std::uint64_t i = 0; i < groups_ * kGroup; i += kGroup) {
            const __m128i group = load(ages + i);
            const __m128i older = _mm_sub_epi8(group, _mm_cmplt_epi8(group, own));
            _mm_store_si128(reinterpret_cast<__m128i*>(ages + i),
                            _mm_andnot_si128(_mm_cmpeq_epi8(group, own), older));
        }
    }
    std::uint64_t oldest_of(const std::uint8_t* ages) const {
        const __m128i oldest = _mm_set1_epi8(static_cast<char>(ways_ - 1));
        for (std::uint64_t i = 0;; i += kGroup) {
            const int found = _mm_movemask_epi8(_mm_cmpeq_epi8(load(ages + i), oldest));
            if (found != 0)
                return i + static_cast<unsigned>(__builtin_ctz(static_cast<unsigned>(found)));
        }
    }

    std::uint64_t ways_ = 0;
    std::uint64_t groups_ = 0;   // of sixteen ways
    std::uint64_t ages_at_ = 0;  // word of a set at which the ages begin
    std::uint64_t stride_ = 0;   // words from set to set; 0: no cache
    unsigned set_bits_ = 0;
    unsigned ways_mask_ = 0;                          // of a group
    std::vector<Entry, HugeAllocator<Entry>> words_;  // starts on a host line
    std::vector<std::uint64_t, HugeAllocator<std::uint64_t>> payload_;
};

}  // namespace ptshare::engine
