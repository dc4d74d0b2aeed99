// Table pages that become runs of one, in little memory.
#include <algorithm>
#include <utility>

#include "tables.h"

namespace ptshare {

namespace {

// A table of more segments is smaller as a page.
constexpr std::uint64_t kMostSegments = kPageSize / sizeof(TableShape::Segment);

}  // namespace

void TableStore::compact(Pfn pfn) {
    const TablePage* page = find(pfn);
    if (!page || page->occupied < 2) return;
    TableRun run;
    while (page->entries[run.from].none()) ++run.from;
    run.to = static_cast<std::uint16_t>(run.from + page->occupied);
    if (run.to > kEntries || page->entries[run.from + 1].none()) return;
    run.first = page->entries[run.from];
    run.stride = page->entries[run.from + 1].pfn() - run.first.pfn();
    for (std::uint64_t i = run.from; i < run.to; ++i) {
        if (page->entries[i] != run.entry(0, i)) return;
    }
    run.frame = pfn;
    exchange(std::move(run));
}

void TableStore::exchange(TableRun run) {
    const TablePage& page = *find(run.frame);
    run.owner = page.owner;
    run.base = page.base;
    run.level = page.level;
    run.region = page.region;
    remove(run.frame);
    runs_.emplace_hint(runs_.end(), run.frame, std::move(run));
}

void TableStore::compact_sparse(Pfn pfn) {
    const TablePage* page = find(pfn);
    if (!page || page->occupied == 0) return;
    TableShape shape;
    shape.begin_table(0);
    TableRun run;
    TableShape::Segment last;  // grows; none as long as it is empty
    for (std::uint16_t i = 0; i < kEntries; ++i) {
        const Pte entry = page->entries[i];
        if (entry.none()) continue;
        if (run.first.none()) {
            run.first = entry;
            run.from = i;
        }
        if ((entry.bits() ^ run.first.bits()) & ~Pte::kFrameMask) return;
        const auto frame = static_cast<std::int64_t>(entry.pfn().value - run.first.pfn().value);
        const std::int64_t stride =
            frame - (last.frame + std::int64_t{last.stride} * (last.to - last.from - 1));
        const bool next = last.to != 0 && last.to == i;
        const bool second = next && last.to - last.from == 1;
        if ((second && std::int32_t(stride) == stride) || (next && last.stride == stride)) {
            last.stride = static_cast<std::int32_t>(stride);
            ++last.to;
            continue;
        }
        if (last.to != 0) shape.add(last);
        if (shape.segments.size() == kMostSegments) return;
        last = {frame, i, static_cast<std::uint16_t>(i + 1), 0};
    }
    shape.add(last);
    run.frame = pfn;
    if (shape.segments.size() == 1) {
        run.to = last.to;
        run.stride = static_cast<std::uint64_t>(std::int64_t{last.stride});
    } else {
        run.shape = shared_shape(std::move(shape));
    }
    exchange(std::move(run));
}

std::shared_ptr<const TableShape> TableStore::shared_shape(TableShape shape) {
    std::uint64_t hash = 0;
    for (const TableShape::Segment& s : shape.segments) {
        const std::uint64_t extent = s.from + (std::uint64_t{s.to} << 16);
        const std::uint64_t place = static_cast<std::uint64_t>(s.frame) + (extent << 32);
        hash = (hash ^ place ^ (static_cast<std::uint64_t>(s.stride) << 20)) * 0x9E3779B97F4A7C15;
        hash ^= hash >> 29;
    }
    const auto alike = shapes_.equal_range(hash);
    for (auto it = alike.first; it != alike.second; ++it) {
        if (*it->second == shape) return it->second;
    }
    if (shapes_.size() >= most_shapes_) {
        for (auto it = shapes_.begin(); it != shapes_.end();) {
            if (it->second.use_count() != 1) {
                ++it;
                continue;
            }
            shape_bytes_ -= it->second->bytes();
            it = shapes_.erase(it);
        }
        most_shapes_ = std::max(most_shapes_, 2 * shapes_.size());
    }
    shape.segments.shrink_to_fit();
    shape.tables.shrink_to_fit();
    shape_bytes_ += shape.bytes();
    return shapes_.emplace(hash, std::make_shared<TableShape>(std::move(shape)))->second;
}

std::uint64_t TableStore::held_bytes() const {
    // Of a node of a map beside its value, of a block in memory beside what is asked for.
    constexpr std::uint64_t kNode = 48, kAsked = 16;
    return live_pages_ * (sizeof(TablePage) + kAsked) +
           runs_.size() * (sizeof(*runs_.begin()) + kNode) + shape_bytes_ +
           shapes_.size() * (3 * kAsked + kNode);
}

void PageTable::compact_below(Pfn pfn) {
    {
        const TableView page = store_.view(pfn);
        const TableRun* seen = nullptr;  // the last run of PTE tables, of whatever tree
        for (std::uint64_t i = 0; page.level != Level::Pte && i < kEntries; ++i) {
            const Pte entry = page.entry(i);
            if (!entry.present() || entry.large()) continue;
            if (seen && entry.pfn() - seen->frame < seen->tables) continue;
            if (const TablePage* next = store_.find(entry.pfn())) {
                if (next->owner == this) compact_below(entry.pfn());
                continue;
            }
            const TableRun* run = store_.run_of(entry.pfn());
            if (run->level == Level::Pte) {
                seen = run;
            } else if (run->owner == this) {
                compact_below(entry.pfn());
            }
        }
    }
    store_.compact_sparse(pfn);
}

}  // namespace ptshare
