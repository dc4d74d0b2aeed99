// A set-associative array with true LRU: the one structure behind TLBs, walk caches and caches.
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
        keys_.assign(entries, kNoKey);
        used_.assign(entries, 0);
        values_.resize(entries);
    }

    bool present() const { return !keys_.empty(); }
    std::uint64_t capacity() const { return keys_.size(); }

    // The value of `key`, now the most recently used of its set; null when it is not held.
    Value* find(std::uint64_t index, std::uint64_t key) {
        if (now_ == 0) return nullptr;  // nothing was ever put in
        // Accesses repeat: the entry found last is the likeliest.
        if (keys_[last_] == key) return touch(last_);
        const std::uint64_t first = (index & set_mask_) * ways_;
        for (std::uint64_t i = first; i < first + ways_; ++i) {
            if (keys_[i] == key) return touch(i);
        }
        return nullptr;
    }
    // The same without a change of the order.
    Value* peek(std::uint64_t index, std::uint64_t key) {
        if (keys_.empty()) return nullptr;
        const std::uint64_t first = (index & set_mask_) * ways_;
        for (std::uint64_t i = first; i < first + ways_; ++i) {
            if (keys_[i] == key) return &values_[i];
        }
        return nullptr;
    }

    // Puts in a key: in its own place when it is held, else in that of the least recently used of
    // its set; returns what had to go.
    std::optional<std::pair<std::uint64_t, Value>> insert(std::uint64_t index, std::uint64_t key,
                                                          const Value& value) {
        if (keys_.empty()) return std::nullopt;
        const std::uint64_t first = (index & set_mask_) * ways_;
        std::uint64_t victim = first;
        for (std::uint64_t i = first; i < first + ways_; ++i) {
            if (keys_[i] == key) {
                values_[i] = value;
                touch(i);
                return std::nullopt;
            }
            if (used_[i] < used_[victim]) victim = i;  // an empty place was used at 0
        }
        std::optional<std::pair<std::uint64_t, Value>> evicted;
        if (keys_[victim] != kNoKey) evicted.emplace(keys_[victim], values_[victim]);
        keys_[victim] = key;
        values_[victim] = value;
        touch(victim);
        return evicted;
    }

    // Drops `key`; whether it was held.
    bool erase(std::uint64_t index, std::uint64_t key) {
        if (keys_.empty()) return false;
        const std::uint64_t first = (index & set_mask_) * ways_;
        for (std::uint64_t i = first; i < first + ways_; ++i) {
            if (keys_[i] != key) continue;
            clear(i);
            return true;
        }
        return false;
    }
    // Drops every entry whose key satisfies the predicate; returns how many.
    template <class Predicate>
    std::uint64_t erase_if(Predicate&& matches) {
        std::uint64_t dropped = 0;
        for (std::uint64_t i = 0; i < keys_.size(); ++i) {
            if (keys_[i] == kNoKey || !matches(keys_[i])) continue;
            clear(i);
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
    Value* touch(std::uint64_t place) {
        used_[place] = ++now_;
        last_ = place;
        return &values_[place];
    }
    void clear(std::uint64_t place) {
        keys_[place] = kNoKey;
        used_[place] = 0;
    }

    std::uint64_t ways_ = 0;
    std::uint64_t set_mask_ = 0;
    std::uint64_t now_ = 0;            // counts uses
    std::uint64_t last_ = 0;           // place used last
    std::vector<std::uint64_t> keys_;  // sets x ways; kNoKey: empty
    std::vector<std::uint64_t> used_;  // now_ at the last use; 0: empty
    std::vector<Value> values_;
};

}  // namespace ptshare
