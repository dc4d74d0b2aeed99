// Table pages as they are kept where nobody looks at their bytes: one record for many, or for a
// page that is mostly empty.
#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>
#include <vector>

#include "pte.h"
#include "types.h"

namespace ptshare {

class PageTable;

// Which entries of some tables are occupied, and where they lead, as distances in frames from one
// frame: what tables of different trees have in common.
struct TableShape {
    // Entries [from, to) of a table: frames at a distance of `stride`.
    struct Segment {
        std::int64_t frame = 0;  // of entry `from`
        std::uint16_t from = 0;
        std::uint16_t to = 0;
        std::int32_t stride = 0;

        friend bool operator==(const Segment& a, const Segment& b) {
            return a.frame == b.frame && a.from == b.from && a.to == b.to && a.stride == b.stride;
        }
    };
    struct Table {
        std::uint32_t segments = 0;  // of the tables before
        std::uint32_t entries = 0;   // that are occupied in the tables before
        std::uint32_t place = 0;     // spans of a table behind the first address of the shape

        friend bool operator==(const Table& a, const Table& b) {
            return a.segments == b.segments && a.entries == b.entries && a.place == b.place;
        }
    };

    // A further table; its segments follow, in ascending order.
    void begin_table(std::uint32_t place) {
        tables.back().place = place;
        tables.push_back(tables.back());
    }
    void add(const Segment& segment) {
        segments.push_back(segment);
        ++tables.back().segments;
        tables.back().entries += segment.to - segment.from;
    }
    std::uint64_t count() const { return tables.size() - 1; }
    // The entry of a table, `first` being the one whose frame distances start at; none: Pte().
    Pte entry(std::uint64_t table, std::uint64_t index, Pte first) const {
        const auto begin = segments.begin() + tables[table].segments;
        const auto end = segments.begin() + tables[table + 1].segments;
        const auto found = std::upper_bound(
            begin, end, index, [](std::uint64_t i, const Segment& s) { return i < s.to; });
        if (found == end || index < found->from) return Pte();
        const std::int64_t frames =
            found->frame + static_cast<std::int64_t>(index - found->from) * found->stride;
        return Pte(first.bits() + (static_cast<std::uint64_t>(frames) << kPageShift));
    }
    std::uint64_t bytes() const {
        return sizeof(TableShape) + segments.size() * sizeof(Segment) +
               tables.size() * sizeof(Table);
    }
    friend bool operator==(const TableShape& a, const TableShape& b) {
        return a.segments == b.segments && a.tables == b.tables;
    }

    std::vector<Segment> segments;
    std::vector<Table> tables{Table()};  // one more than there are: the last says what all have
};

// n table pages of one tree and level in frames that follow each other: one record instead of n x
// 4 KiB. Without a shape they are for addresses that follow each other, and of each, entries
// [from, to) are leaves or tables at a regular distance, the others none. With a shape, that says
// where they stand and what they hold.
struct TableRun {
    Pfn frame;  // of the first table
    std::uint64_t tables = 1;
    PageTable* owner = nullptr;  // as TablePage's
    VirtAddr base;               // of the first table; of the shape, if there is one
    Level level = Level::Pte;
    bool region = false;
    std::uint16_t from = 0;  // without a shape, from < to <= 512
    std::uint16_t to = 0;
    Pte first;                 // entry `from` of the first table; what the shape's frames are from
    std::uint64_t stride = 0;  // frames from one entry to the next
    std::uint64_t step = 0;    // frames from a table's entry to the next table's
    std::shared_ptr<const TableShape> shape;  // null: regular
    std::uint64_t skip = 0;                   // tables of the shape before the first of these

    bool is_full() const { return !shape && from == 0 && to == kEntries; }
    Pte entry(std::uint64_t table, std::uint64_t index) const {
        if (shape) return shape->entry(skip + table, index, first);
        if (index < from || index >= to) return Pte();
        return Pte(first.bits() + ((table * step + (index - from) * stride) << kPageShift));
    }
    // The outermost occupied entries of the first table are first_entry() and end_entry() - 1.
    std::uint64_t first_entry() const {
        return shape ? shape->segments[shape->tables[skip].segments].from : from;
    }
    std::uint64_t end_entry() const {
        return shape ? shape->segments[shape->tables[skip + 1].segments - 1].to : to;
    }
    // Occupied entries of n tables from `table` on.
    std::uint64_t entries(std::uint64_t table, std::uint64_t n) const {
        if (!shape) return n * (to - from);
        return shape->tables[skip + table + n].entries - shape->tables[skip + table].entries;
    }
    // First address that a table translates.
    VirtAddr base_of(std::uint64_t table) const {
        const std::uint64_t place = shape ? shape->tables[skip + table].place : table;
        return base + place * (kPageSize << (kIndexBits * (index_of(level) + 1)));
    }
};

}  // namespace ptshare
