#include "page_set.h"

#include <algorithm>
#include <stdexcept>

namespace ptshare {

void PageSet::add(std::uint64_t page) {
    if (page >= pages_) throw std::invalid_argument("a page beyond the region");
    words_[page / kBits] |= std::uint64_t{1} << (page % kBits);
    groups_.clear();
}

std::uint64_t PageSet::next(std::uint64_t page) const {
    for (std::uint64_t i = page / kBits; i < words_.size(); ++i) {
        const std::uint64_t word =
            i == page / kBits ? words_[i] & (~std::uint64_t{0} << (page % kBits)) : words_[i];
        if (word != 0) return i * kBits + static_cast<std::uint64_t>(__builtin_ctzll(word));
    }
    return pages_;
}

const PageSet::Group* PageSet::known(std::uint64_t first, std::uint64_t tables,
                                     std::uint64_t window) const {
    const auto found = groups_.find({first, tables, window});
    return found == groups_.end() ? nullptr : &found->second;
}

const PageSet::Group& PageSet::group(std::uint64_t first, std::uint64_t tables,
                                     std::uint64_t window) const {
    if (const Group* there = known(first, tables, window)) return *there;
    Group made;
    TableShape shape;
    const std::uint64_t end = std::min(pages_, first + tables * kEntries);
    for (std::uint64_t page = next(first); page < end;) {
        const std::uint64_t table = (page - first) / kEntries;
        const std::uint64_t base = first + table * kEntries;
        shape.begin_table(static_cast<std::uint32_t>(table));
        std::uint64_t from = kEntries, to = kEntries;  // of the segment that grows
        for (; page < std::min(end, base + kEntries); page = next(page)) {
            const std::uint64_t at = (page - base) & ~(window - 1);
            if (from != kEntries && at != to) {
                shape.add({static_cast<std::int64_t>(table * kEntries + from),
                           static_cast<std::uint16_t>(from), static_cast<std::uint16_t>(to), 1});
                from = kEntries;
            }
            if (from == kEntries) from = at;
            to = at + window;
            ++made.faults;
            page = base + to;
        }
        shape.add({static_cast<std::int64_t>(table * kEntries + from),
                   static_cast<std::uint16_t>(from), static_cast<std::uint16_t>(to), 1});
    }
    made.mapped = shape.tables.back().entries;
    made.shape = std::make_shared<TableShape>(std::move(shape));
    return groups_.emplace(Key{first, tables, window}, std::move(made)).first->second;
}

}  // namespace ptshare
