// Which cores' private caches hold a line: the snoop filter of a hierarchy whose LLC does not say.
#pragma once

#include <cstdint>
#include <vector>

#include "machine/huge_allocator.h"

namespace ptshare::engine {

// A hash table of the lines held, as large as they need: real snoop filters have a size and drop
// lines when it is exceeded, which is not modelled. Open addressing with linear probing.
class Directory {
  public:
    struct Entry {
        std::uint64_t tag = 0;      // the line and one; 0: empty
        std::uint64_t present = 0;  // mask of cores that hold it; never 0 in use
        std::uint32_t bringer = 0;  // who brought it in from memory
        bool exclusive = false;     // the one core that holds it may write it, and may have
    };

    Directory() : entries_(kFirst) {}

    // The line's entry, or null. Valid until the next insert() or erase().
    Entry* find(std::uint64_t line) {
        for (std::uint64_t at = home(line + 1);; at = next(at)) {
            if (entries_[at].tag == line + 1) return &entries_[at];
            if (entries_[at].tag == 0) return nullptr;
        }
    }
    // The entry of a line that has none.
    Entry& insert(std::uint64_t line) {
        if (2 * ++used_ > entries_.size()) grow();
        Entry& entry = entries_[free_place(line + 1)];
        entry.tag = line + 1;
        return entry;
    }
    void erase(Entry* entry) {
        --used_;
        // What follows moves up, so that no search ends before it: places stay as if the line had
        // never been there.
        std::uint64_t hole = static_cast<std::uint64_t>(entry - entries_.data());
        for (std::uint64_t at = next(hole); entries_[at].tag != 0; at = next(at)) {
            const std::uint64_t from = home(entries_[at].tag);
            const bool reaches = hole <= at ? from <= hole || from > at : from <= hole && from > at;
            if (!reaches) continue;
            entries_[hole] = entries_[at];
            hole = at;
        }
        entries_[hole] = {};
    }
    std::uint64_t size() const { return used_; }

    // A hint that the line will be looked for.
    [[gnu::always_inline]] void prefetch(std::uint64_t line) const {
        __builtin_prefetch(&entries_[home(line + 1)]);
    }

  private:
    static constexpr std::uint64_t kFirst = 1 << 10;  // a power of two, as all sizes

    // Fibonacci hashing: lines that follow each other spread.
    std::uint64_t home(std::uint64_t tag) const {
        return (tag * 0x9e3779b97f4a7c15ULL >> 20) & (entries_.size() - 1);
    }
    std::uint64_t next(std::uint64_t at) const { return (at + 1) & (entries_.size() - 1); }
    std::uint64_t free_place(std::uint64_t tag) const {
        std::uint64_t at = home(tag);
        while (entries_[at].tag != 0) at = next(at);
        return at;
    }
    void grow() {
        std::vector<Entry, HugeAllocator<Entry>> old(2 * entries_.size());
        old.swap(entries_);
        for (const Entry& entry : old) {
            if (entry.tag != 0) entries_[free_place(entry.tag)] = entry;
        }
    }

    std::vector<Entry, HugeAllocator<Entry>> entries_;
    std::uint64_t used_ = 0;  // invariant: entries that are not empty, at most half of all
};

}  // namespace ptshare::engine
