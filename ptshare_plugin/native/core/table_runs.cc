// Table pages kept as runs, and the operations on many tables at once that make them.
#include <algorithm>
#include <iterator>
#include <stdexcept>
#include <string>

#include "tables.h"

namespace ptshare {

namespace {

bool is_leaf(const TableView& page, Pte entry) {
    return page.level == Level::Pte || entry.large();
}

}  // namespace

// ---- TableStore

TablePage& TableStore::put(std::unique_ptr<TablePage> page) const {
    const std::uint64_t at = page->frame.value;
    if (at / kEntries >= pages_.size()) pages_.resize(at / kEntries + 1);
    std::unique_ptr<Block>& block = pages_[at / kEntries];
    if (!block) block = std::make_unique<Block>();
    std::unique_ptr<TablePage>& place = block->page[at % kEntries];
    if (!place) {
        ++block->live;
        ++live_pages_;
    }
    place = std::move(page);
    return *place;
}

void TableStore::remove(Pfn pfn) const {
    std::unique_ptr<Block>& block = pages_[pfn.value / kEntries];
    block->page[pfn.value % kEntries].reset();
    --live_pages_;
    if (--block->live == 0) block.reset();
}

TableRun* TableStore::run_of(Pfn pfn) const {
    auto it = runs_.upper_bound(pfn);
    if (it == runs_.begin()) return nullptr;
    TableRun& run = std::prev(it)->second;
    return pfn - run.frame < run.tables ? &run : nullptr;
}

TablePage& TableStore::take_out(Pfn pfn) const {
    const TableRun* found = run_of(pfn);
    if (!found) throw std::logic_error("no table in frame " + std::to_string(pfn.value));
    const TableRun run = *found;
    const std::uint64_t table = pfn - run.frame;
    auto page = std::make_unique<TablePage>();
    page->owner = run.owner;
    page->frame = pfn;
    page->base = run.base_of(table);
    page->level = run.level;
    page->occupied = static_cast<std::uint16_t>(run.entries(table, 1));
    page->region = run.region;
    for (std::uint64_t i = 0; i < kEntries; ++i) page->entries[i] = run.entry(table, i);
    if (table == 0) {
        runs_.erase(run.frame);
    } else {
        runs_.find(run.frame)->second.tables = table;
    }
    if (const std::uint64_t next = table + 1; next < run.tables) {
        TableRun rest = run;
        rest.frame = run.frame + next;
        rest.tables = run.tables - next;
        if (run.shape) {
            rest.skip += next;
        } else {
            rest.base = run.base_of(next);
            rest.first = run.entry(next, run.from);
        }
        runs_.emplace(rest.frame, rest);
    }
    return put(std::move(page));
}

Pfn TableStore::allocate_run(TableRun run) {
    run.frame = frames_.allocate_run(FrameUse::Table, run.tables);
    counts_.by_level[index_of(kernel_name(run.level, run.owner->levels()))] += run.tables;
    counts_.by_owner[static_cast<unsigned>(run.owner->owner())] += run.tables;
    if (run.region) counts_.region_pte += run.tables;
    peak_region_pte_ = std::max(peak_region_pte_, counts_.region_pte);
    allocated_ += run.tables;
    if (counts_.total() > peak_.total()) peak_ = counts_;
    runs_.emplace_hint(runs_.end(), run.frame, run);
    return run.frame;
}

void TableStore::free_run(Pfn first) {
    const auto it = runs_.find(first);
    const TableRun run = it->second;
    counts_.by_level[index_of(kernel_name(run.level, run.owner->levels()))] -= run.tables;
    counts_.by_owner[static_cast<unsigned>(run.owner->owner())] -= run.tables;
    if (run.region) counts_.region_pte -= run.tables;
    freed_ += run.tables;
    runs_.erase(it);
    if (frames_.retired()) return;
    for (std::uint64_t i = 0; i < run.tables; ++i) frames_.drop_reference(run.frame + i);
}

// ---- PageTable

std::optional<Pte> PageTable::entry(VirtAddr address, Level level, bool own_only) const {
    Pfn pfn = root_;
    for (Level at = top_;; at = below(at)) {
        const Pte found = store_.entry(pfn, entry_index(address, at));
        if (at == level) return found;
        if (!found.present() || found.large()) return std::nullopt;
        if (own_only && store_.owner(found.pfn()) != this) return std::nullopt;
        pfn = found.pfn();
    }
}

std::uint64_t PageTable::empty_below(VirtAddr address, std::uint64_t most) const {
    Pfn pfn = root_;
    for (Level at = top_; at != Level::Pmd; at = below(at)) {
        const Pte found = store_.entry(pfn, entry_index(address, at));
        if (found.none()) return most;
        if (!found.present() || store_.owner(found.pfn()) != this) return 0;
        pfn = found.pfn();
    }
    const TableView pmd = store_.view(pfn);
    const std::uint64_t first = entry_index(address, Level::Pmd);
    std::uint64_t n = 0;
    while (n < most && pmd.entry(first + n).none()) ++n;
    return n;
}

Pfn PageTable::own_pmd_table(VirtAddr address) const {
    Pfn pfn = root_;
    for (Level at = top_; at != Level::Pmd; at = below(at)) {
        const Pte found = store_.entry(pfn, entry_index(address, at));
        if (!found.present() || store_.owner(found.pfn()) != this) return Pfn(0);
        pfn = found.pfn();
    }
    return pfn;
}

std::uint64_t PageTable::permitted_below(VirtAddr address, std::uint64_t most,
                                         Access access) const {
    const Pfn pfn = own_pmd_table(address);
    if (pfn == Pfn(0)) return 0;
    const std::uint64_t first = entry_index(address, Level::Pmd);
    if (const TableRun* run = store_.run_of(pfn); run && !run->shape && run->first.large()) {
        const bool there = first >= run->from && first < run->to && run->first.permits(access);
        return there ? std::min<std::uint64_t>(most, run->to - first) : 0;
    }
    const TableView pmd = store_.view(pfn);
    std::uint64_t n = 0;
    while (n < most) {
        const Pte entry = pmd.entry(first + n);
        if (!entry.present() || entry.large()) break;
        const TableRun* run = store_.run_of(entry.pfn());
        if (!run || run->owner != this || !run->is_full() || !run->first.permits(access)) break;
        n += run->tables - (entry.pfn() - run->frame);
    }
    return std::min(n, most);
}

void PageTable::fill_pte_tables(VirtAddr address, std::uint64_t tables, Pte leaf, bool region) {
    TablePage& pmd = descend(address, Level::Pmd);
    TableRun run;
    run.tables = tables;
    run.owner = this;
    run.base = align_down(address, kPmdSize);
    run.region = region;
    run.to = kEntries;
    run.first = leaf;
    run.stride = 1;
    run.step = kEntries;
    const Pfn first = store_.allocate_run(run);
    tables_[index_of(Level::Pte)] += tables;
    const std::uint64_t index = entry_index(address, Level::Pmd);
    for (std::uint64_t i = 0; i < tables; ++i) pmd.entries[index + i] = table_entry(first + i);
    pmd.occupied = static_cast<std::uint16_t>(pmd.occupied + tables);
    store_.compact(pmd.frame);
}

void PageTable::fill_pte_tables(VirtAddr address, std::shared_ptr<const TableShape> shape, Pte leaf,
                                bool region) {
    TablePage& pmd = descend(address, Level::Pmd);
    TableRun run;
    run.tables = shape->count();
    run.owner = this;
    run.base = address;
    run.region = region;
    run.first = leaf;
    run.shape = std::move(shape);
    const Pfn first = store_.allocate_run(run);
    tables_[index_of(Level::Pte)] += run.tables;
    const std::uint64_t index = entry_index(address, Level::Pmd);
    for (std::uint64_t i = 0; i < run.tables; ++i) {
        pmd.entries[index + run.shape->tables[i].place] = table_entry(first + i);
    }
    pmd.occupied = static_cast<std::uint16_t>(pmd.occupied + run.tables);
    store_.compact_sparse(pmd.frame);
}

bool PageTable::has_shape(VirtAddr address, const TableShape& shape, Access access) const {
    const Pfn pfn = own_pmd_table(address);
    if (pfn == Pfn(0)) return false;
    const std::uint64_t place = shape.tables.front().place;
    const Pte entry = store_.entry(pfn, entry_index(address, Level::Pmd) + place);
    if (!entry.present() || entry.large()) return false;
    const TableRun* run = store_.run_of(entry.pfn());
    return run && run->shape.get() == &shape && run->skip == 0 && run->tables == shape.count() &&
           run->owner == this && run->base == address && run->first.permits(access);
}

void PageTable::link_tables(VirtAddr address, const TableShape& shape, const PageTable& host,
                            VirtAddr from) {
    TablePage& pmd = descend(address, Level::Pmd);
    const std::uint64_t index = entry_index(address, Level::Pmd);
    const TableView theirs = store_.view(host.entry(from, Level::Pud)->pfn());
    const std::uint64_t there = entry_index(from, Level::Pmd);
    for (std::uint64_t i = 0; i < shape.count(); ++i) {
        const std::uint64_t place = shape.tables[i].place;
        pmd.entries[index + place] = theirs.entry(there + place);
    }
    pmd.occupied = static_cast<std::uint16_t>(pmd.occupied + shape.count());
    linked_[index_of(Level::Pte)] += shape.count();
    store_.compact_sparse(pmd.frame);
}

void PageTable::fill_huge(VirtAddr address, std::uint64_t leaves, Pte leaf) {
    TablePage& pmd = descend(address, Level::Pmd);
    const std::uint64_t index = entry_index(address, Level::Pmd);
    for (std::uint64_t i = 0; i < leaves; ++i) {
        pmd.entries[index + i] = Pte(leaf.bits() + i * kPmdSize);
    }
    pmd.occupied = static_cast<std::uint16_t>(pmd.occupied + leaves);
    store_.compact(pmd.frame);
}

void PageTable::link_tables(VirtAddr address, std::uint64_t tables, const PageTable& host,
                            VirtAddr from) {
    TablePage& pmd = descend(address, Level::Pmd);
    const std::uint64_t index = entry_index(address, Level::Pmd);
    const TableView theirs = store_.view(host.entry(from, Level::Pud)->pfn());
    const std::uint64_t there = entry_index(from, Level::Pmd);
    for (std::uint64_t i = 0; i < tables; ++i) pmd.entries[index + i] = theirs.entry(there + i);
    pmd.occupied = static_cast<std::uint16_t>(pmd.occupied + tables);
    linked_[index_of(Level::Pte)] += tables;
    store_.compact(pmd.frame);
}

TableRun* PageTable::run_from(const TableView& page, Pfn pfn, std::uint64_t index) {
    const Pte entry = page.entry(index);
    if (entry.none()) return nullptr;
    if (is_leaf(page, entry)) {
        TableRun* run = store_.run_of(pfn);
        return run && run->tables == 1 && run->first_entry() == index ? run : nullptr;
    }
    TableRun* run = store_.run_of(entry.pfn());
    const bool begins = run && run->level == Level::Pte && run->owner == this &&
                        run->frame == entry.pfn() &&
                        (run->tables == 1 || run->shape || run->is_full());
    return begins ? run : nullptr;
}

void PageTable::runs_below(Pfn pfn, VirtAddr start, VirtAddr end,
                           const std::function<Pte(Pte, std::uint64_t)>& fn,
                           const std::function<void(VirtAddr, Pte, Level)>& other) {
    const TableView page = store_.view(pfn);
    const std::uint64_t span = entry_span(page.level);
    const std::uint64_t first = start > page.base ? (start - page.base) / span : 0;
    Pfn done;  // tables of the last run; with a shape, others may stand between them
    std::uint64_t tables = 0;
    for (std::uint64_t i = first; i < kEntries && page.base + i * span < end; ++i) {
        const VirtAddr address = page.base + i * span;
        const Pte entry = page.entry(i);
        if (entry.none()) continue;
        const bool leaf = is_leaf(page, entry);
        if (!leaf && entry.pfn() - done < tables) continue;
        if (TableRun* run = run_from(page, pfn, i)) {
            const VirtAddr last =
                leaf ? page.base + (run->end_entry() - 1) * span : run->base_of(run->tables - 1);
            if (address >= start && last < end && end - last >= span) {
                run->first = fn(run->first, run->entries(0, run->tables));
                if (leaf) {
                    i = run->end_entry() - 1;
                } else {
                    done = run->frame;
                    tables = run->tables;
                }
                continue;
            }
        }
        if (leaf) {
            other(address, entry, page.level);
        } else if (store_.owner(entry.pfn()) == this) {
            runs_below(entry.pfn(), start, end, fn, other);
        }
    }
}

void PageTable::for_each_run(VirtAddr start, VirtAddr end,
                             const std::function<Pte(Pte, std::uint64_t)>& fn,
                             const std::function<void(VirtAddr, Pte, Level)>& other) {
    runs_below(root_, start, end, fn, other);
}

}  // namespace ptshare
