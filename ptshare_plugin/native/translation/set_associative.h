// A set-associative array with true LRU: the one structure behind TLBs and walk caches.
#pragma once

#include <cstdint>
#include <optional>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

namespace ptshare {

// Maps 64-bit keys to values. A key carries everything that must match; the set is chosen by the
// caller's index. No clock, no counters. An array of no entries never holds anything.
//
// The order of use is kept as an age for each place: 0 is the set's most recently used, and empty
// places are older than all others. Of each key one byte stands apart, eight of them in a word, so
// that a look-up reads few words of the host's memory and branches only where a byte is equal.
template <class Value>
class SetAssociative {
  public:
    static constexpr std::uint64_t kNoKey = ~0ULL;

    // `ways` 0 means fully associative. Throws std::invalid_argument naming `what` unless the
    // number of sets is a power of two.
    SetAssociative(const std::string& what, std::uint64_t entries, std::uint64_t ways) {
        if (entries == 0) return;
        ways_ = ways == 0 ? entries : ways;
        const std::uint64_t sets = entries / ways_;
        if (sets * ways_ != entries || (sets & (sets - 1)) != 0) {
            throw std::invalid_argument(what + ": " + std::to_string(entries) + " entries in " +
                                        std::to_string(ways_) +
                                        " ways give no power-of-two number of sets");
        }
        set_mask_ = sets - 1;
        words_ = (ways_ + kBytes - 1) / kBytes;
        marks_.assign(sets * words_, 0);
        keys_.assign(entries, kNoKey);
        values_.resize(entries);
        vectors_ = (ways_ + kAges - 1) / kAges;
        ages_.resize(sets * vectors_);
        for (std::uint64_t i = 0; i < ages_.size() * kAges; ++i) {
            const std::uint64_t way = i % (vectors_ * kAges);
            ages_[i / kAges][i % kAges] = way < ways_ ? static_cast<Age>(way) : kNoAge;
        }
    }

    bool present() const { return !keys_.empty(); }
    std::uint64_t capacity() const { return keys_.size(); }

    // The value of `key`, now the most recently used of its set; null when it is not held.
    Value* find(std::uint64_t index, std::uint64_t key) {
        if (held_ == 0) return nullptr;
        // Accesses repeat: the entry used last is the likeliest.
        if (keys_[last_] == key) return &values_[last_];
        const std::uint64_t set = index & set_mask_;
        const std::uint64_t place = place_of(set, key);
        return place == kNoPlace ? nullptr : touch(set, place);
    }
    // The same without a change of the order.
    Value* peek(std::uint64_t index, std::uint64_t key) {
        if (held_ == 0) return nullptr;
        const std::uint64_t place = place_of(index & set_mask_, key);
        return place == kNoPlace ? nullptr : &values_[place];
    }

    // Puts in a key: in its own place when it is held, else in that of the least recently used of
    // its set; returns what had to go.
    std::optional<std::pair<std::uint64_t, Value>> insert(std::uint64_t index, std::uint64_t key,
                                                          const Value& value) {
        if (keys_.empty()) return std::nullopt;
        const std::uint64_t set = index & set_mask_;
        const std::uint64_t place = place_of(set, key);
        if (place != kNoPlace) {
            *touch(set, place) = value;
            return std::nullopt;
        }
        const std::uint64_t victim = set * ways_ + oldest(set);
        std::optional<std::pair<std::uint64_t, Value>> evicted;
        // The mark is near already, the key may not be.
        if (mark_at(set, victim) != 0) {
            evicted.emplace(keys_[victim], values_[victim]);
        } else {
            ++held_;
        }
        keys_[victim] = key;
        values_[victim] = value;
        set_mark(set, victim, mark_of(key));
        use(set, static_cast<Age>(ways_ - 1));
        last_ = victim;
        return evicted;
    }

    // Drops `key`; whether it was held.
    bool erase(std::uint64_t index, std::uint64_t key) {
        if (held_ == 0) return false;
        const std::uint64_t set = index & set_mask_;
        const std::uint64_t place = place_of(set, key);
        if (place == kNoPlace) return false;
        clear(set, place);
        return true;
    }
    // Drops every entry whose key satisfies the predicate; returns how many.
    template <class Predicate>
    std::uint64_t erase_if(Predicate&& matches) {
        if (held_ == 0) return 0;
        std::uint64_t dropped = 0;
        for (std::uint64_t i = 0; i < keys_.size(); ++i) {
            if (keys_[i] == kNoKey || !matches(keys_[i])) continue;
            clear(i / ways_, i);
            ++dropped;
        }
        return dropped;
    }

    // Calls fn(key, value) for all that is held.
    template <class Fn>
    void for_each(Fn&& fn) const {
        for (std::uint64_t i = 0; i < keys_.size(); ++i) {
            if (keys_[i] != kNoKey) fn(keys_[i], values_[i]);
        }
    }

  private:
    using Age = std::int32_t;
    static constexpr std::uint64_t kAges = 4;  // in GCC's vector type, which every target has
    using Ages [[gnu::vector_size(kAges * sizeof(Age))]] = Age;
    static constexpr Age kNoAge = 0x7fffffff;  // beyond the last way
    static constexpr std::uint64_t kNoPlace = ~0ULL;
    static constexpr std::uint64_t kBytes = sizeof(std::uint64_t);
    static constexpr std::uint64_t kOnes = 0x0101010101010101ULL;
    static constexpr std::uint64_t kLow7 = 0x7f * kOnes;

    // A byte of a product that all bits of the key reach; never 0, which marks an empty place.
    static std::uint64_t mark_of(std::uint64_t key) {
        const std::uint64_t mark = (key * 0x9e3779b97f4a7c15ULL) >> 56;
        return mark == 0 ? 1 : mark;
    }
    std::uint64_t mark_at(std::uint64_t set, std::uint64_t place) const {
        const std::uint64_t way = place - set * ways_;
        return marks_[set * words_ + way / kBytes] >> (8 * (way % kBytes)) & 0xff;
    }
    void set_mark(std::uint64_t set, std::uint64_t place, std::uint64_t mark) {
        const std::uint64_t way = place - set * ways_;
        std::uint64_t& word = marks_[set * words_ + way / kBytes];
        const auto shift = static_cast<unsigned>(8 * (way % kBytes));
        word = (word & ~(0xffULL << shift)) | (mark << shift);
    }
    std::uint64_t place_of(std::uint64_t set, std::uint64_t key) const {
        const std::uint64_t wanted = mark_of(key) * kOnes;
        const std::uint64_t* marks = &marks_[set * words_];
        for (std::uint64_t i = 0; i < words_; ++i) {
            const std::uint64_t differ = marks[i] ^ wanted;
            // The upper bit of each byte that is zero in `differ`, of no other.
            std::uint64_t equal = ~(((differ & kLow7) + kLow7) | differ | kLow7);
            for (; equal != 0; equal &= equal - 1) {
                const auto byte = static_cast<std::uint64_t>(__builtin_ctzll(equal)) / 8;
                const std::uint64_t place = set * ways_ + i * kBytes + byte;
                if (keys_[place] == key) return place;
            }
        }
        return kNoPlace;
    }
    Value* touch(std::uint64_t set, std::uint64_t place) {
        last_ = place;
        use(set, age_of(set, place));
        return &values_[place];
    }
    Age age_of(std::uint64_t set, std::uint64_t place) const {
        const std::uint64_t way = place - set * ways_;
        return ages_[set * vectors_ + way / kAges][way % kAges];
    }
    // The place of this age is used: those that were used later are one older.
    void use(std::uint64_t set, Age age) {
        const Ages own = {age, age, age, age};
        Ages* ages = &ages_[set * vectors_];
        for (std::uint64_t i = 0; i < vectors_; ++i) {
            // True is -1.
            ages[i] = (ages[i] - (ages[i] < own)) & (ages[i] != own);
        }
    }
    // The way that is the oldest of a set.
    std::uint64_t oldest(std::uint64_t set) const {
        const auto age = static_cast<Age>(ways_ - 1);
        const Ages own = {age, age, age, age};
        const Ages* ages = &ages_[set * vectors_];
        Ages found{};
        Ages ways = {0, 1, 2, 3};
        for (std::uint64_t i = 0; i < vectors_; ++i) {
            found |= (ages[i] == own) & ways;
            ways += static_cast<Age>(kAges);
        }
        return static_cast<std::uint64_t>(found[0] | found[1] | found[2] | found[3]);
    }
    void clear(std::uint64_t set, std::uint64_t place) {
        const Age age = age_of(set, place);
        for (std::uint64_t way = 0; way < ways_; ++way) {
            Ages& ages = ages_[set * vectors_ + way / kAges];
            const Age other = ages[way % kAges];
            if (other > age) ages[way % kAges] = other - 1;
            if (other == age) ages[way % kAges] = static_cast<Age>(ways_ - 1);
        }
        keys_[place] = kNoKey;
        set_mark(set, place, 0);
        --held_;
    }

    std::uint64_t ways_ = 0;
    std::uint64_t set_mask_ = 0;
    std::uint64_t words_ = 0;           // of marks_, a set
    std::uint64_t held_ = 0;            // places that are not empty
    std::uint64_t last_ = 0;            // place used last: its age is 0 unless it is empty
    std::vector<std::uint64_t> marks_;  // sets x words_; a byte a way, 0: empty or no way
    std::vector<std::uint64_t> keys_;   // sets x ways; kNoKey: empty
    std::uint64_t vectors_ = 0;         // of ages_, a set
    std::vector<Ages> ages_;            // sets x vectors_; in each set 0 to ways - 1, each once
    std::vector<Value> values_;
};

}  // namespace ptshare
