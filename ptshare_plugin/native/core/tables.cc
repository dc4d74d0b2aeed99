#include "tables.h"

#include <algorithm>
#include <stdexcept>

namespace ptshare {

// ---- TableStore

Pte TableStore::read_entry(PhysAddr address) const {
    return entry(address);
}

void TableStore::set_entry_bits(PhysAddr address, std::uint64_t bits) {
    Pte& entry = at(pfn_of(address)).entries[index_in_page(address)];
    entry = entry.with(bits);
    contents_.walker_wrote(address, entry.bits());
}

void TableStore::for_each(const std::function<void(Pfn, const TablePage&)>& fn) const {
    while (!runs_.empty()) take_out(runs_.begin()->first);
    for (std::uint64_t i = 0; i < pages_.size(); ++i) {
        for (std::uint64_t j = 0; pages_[i] && j < kEntries; ++j) {
            if (const auto& page = pages_[i]->page[j]) fn(page->frame, *page);
        }
    }
}

Pfn TableStore::allocate(PageTable& owner, Level level, VirtAddr base, bool region) {
    const Pfn pfn = frames_.allocate(FrameUse::Table);
    auto fresh = std::make_unique<TablePage>();
    TablePage* const page = fresh.get();
    page->owner = &owner;
    page->frame = pfn;
    page->base = base;
    page->level = level;
    put(std::move(fresh));
    ++counts_.by_level[index_of(kernel_name(level, owner.levels()))];
    ++counts_.by_owner[static_cast<unsigned>(owner.owner())];
    if (region && level == Level::Pte) mark_region(*page);
    contents_.zero_table(pfn);
    ++allocated_;
    if (counts_.total() > peak_.total()) peak_ = counts_;
    return pfn;
}

void TableStore::free(Pfn pfn) {
    const TablePage& page = at(pfn);
    --counts_.by_level[index_of(kernel_name(page.level, page.owner->levels()))];
    --counts_.by_owner[static_cast<unsigned>(page.owner->owner())];
    if (page.region) --counts_.region_pte;
    ++freed_;
    remove(pfn);
    frames_.drop_reference(pfn);
}

void TableStore::mark_region(TablePage& page) {
    if (page.region) return;
    page.region = true;
    ++counts_.region_pte;
    peak_region_pte_ = std::max(peak_region_pte_, counts_.region_pte);
}

// ---- PageTable

PageTable::PageTable(TableStore& store, Owner owner, unsigned levels, Pfn root,
                     std::optional<Level> top)
    : store_(store),
      owner_(owner),
      levels_(levels),
      top_(top.value_or(top_level(levels))),
      root_(root) {
    if (root_ != Pfn(0)) return;
    root_ = store_.allocate(*this, top_, VirtAddr(0), false);
    ++tables_[index_of(top_)];
}

PageTable::~PageTable() {
    if (root_ != Pfn(0)) release_all(root_);
}

void PageTable::release_all(Pfn pfn) {
    const TableView page = store_.view(pfn);
    if (page.level != Level::Pte) {
        const TableRun* linked = nullptr;  // the last run of another tree that an entry led to
        Pfn freed;                         // tables of the last run of this one
        std::uint64_t tables = 0;
        for (std::uint64_t i = 0; i < kEntries; ++i) {
            const Pte entry = page.entry(i);
            if (!entry.present() || entry.large()) continue;
            if (linked && entry.pfn() - linked->frame < linked->tables) continue;
            if (entry.pfn() - freed < tables) continue;
            const TableRun* run = store_.run_of(entry.pfn());
            if (store_.owner(entry.pfn()) != this) {
                linked = run;
                continue;
            }
            if (run && run->level == Level::Pte && run->frame == entry.pfn()) {
                freed = run->frame;
                tables = run->tables;
                tables_[index_of(Level::Pte)] -= tables;
                store_.free_run(freed);
            } else {
                release_all(entry.pfn());
            }
        }
    }
    --tables_[index_of(page.level)];
    if (const TableRun* run = store_.run_of(pfn); run && run->tables == 1) {
        store_.free_run(pfn);
    } else {
        store_.free(pfn);
    }
}

Pte PageTable::table_entry(Pfn pfn) {
    // As the kernel's _PAGE_TABLE: rights are decided in the leaf.
    return Pte::make(pfn, Pte::kPresent | Pte::kWrite | Pte::kUser | Pte::kAccessed | Pte::kDirty);
}

VirtAddr PageTable::span_base(VirtAddr address, Level level) const {
    return level == top_ ? VirtAddr(0) : align_down(address, entry_span(level) << kIndexBits);
}

void PageTable::write(TablePage& page, std::uint64_t index, Pte entry) {
    Pte& slot = page.entries[index];
    if (slot.none() != entry.none()) {
        page.occupied = static_cast<std::uint16_t>(page.occupied + (entry.none() ? -1 : 1));
    }
    slot = entry;
    store_.contents_.write_entry(address_of(page.frame) + index * sizeof(Pte), entry.bits());
}

TablePage& PageTable::descend(VirtAddr address, Level level, bool region) {
    Pfn pfn = root_;
    for (Level at = top_; at != level; at = below(at)) {
        const std::uint64_t index = entry_index(address, at);
        const Pte entry = store_.entry(pfn, index);
        if (entry.none()) {
            const Level next = below(at);
            const Pfn table = store_.allocate(*this, next, span_base(address, next), region);
            ++tables_[index_of(next)];
            write(store_.at(pfn), index, table_entry(table));
            pfn = table;
        } else {
            if (entry.large()) throw std::logic_error("a 2 MiB leaf stands where a table is asked");
            if (store_.owner(entry.pfn()) != this) {
                throw std::logic_error("a guest writes into a linked table");
            }
            pfn = entry.pfn();
        }
    }
    return store_.at(pfn);
}

Pte* PageTable::find(VirtAddr address, Level level, bool own_only) {
    Pfn pfn = root_;
    for (Level at = top_;; at = below(at)) {
        const std::uint64_t index = entry_index(address, at);
        if (at == level) return &store_.at(pfn).entries[index];
        const Pte entry = store_.entry(pfn, index);
        if (!entry.present() || entry.large()) return nullptr;
        if (own_only && store_.owner(entry.pfn()) != this) return nullptr;
        pfn = entry.pfn();
    }
}

std::optional<PageTable::Leaf> PageTable::leaf(VirtAddr address) const {
    Pfn pfn = root_;
    for (Level at = top_;; at = below(at)) {
        const Pte entry = store_.entry(pfn, entry_index(address, at));
        if (entry.none()) return std::nullopt;
        if (at == Level::Pte || entry.large()) return Leaf{entry, at};
        pfn = entry.pfn();
    }
}

void PageTable::set(VirtAddr address, Pte leaf, Level level, bool region) {
    TablePage& page = descend(address, level, region);
    if (region && level == Level::Pte) store_.mark_region(page);
    write(page, entry_index(address, level), leaf);
}

void PageTable::replace(VirtAddr address, Pte leaf, Level level) {
    write(descend(address, level), entry_index(address, level), leaf);
}

bool PageTable::has_table(VirtAddr address, Level level) const {
    Pfn pfn = root_;
    for (Level at = top_; at != level; at = below(at)) {
        const Pte entry = store_.entry(pfn, entry_index(address, at));
        if (!entry.present() || entry.large()) return false;
        pfn = entry.pfn();
        if (store_.owner(pfn) != this) return false;
    }
    return true;
}

Pfn PageTable::ensure_pte_table(VirtAddr address, bool region) {
    TablePage& page = descend(address, Level::Pte, region);
    if (region) store_.mark_region(page);
    return find(address, Level::Pmd)->pfn();
}

void PageTable::link(VirtAddr address, Pfn table, Level level) {
    if (store_.view(table).level != below(level)) throw std::logic_error("a link skips a level");
    TablePage& page = descend(address, level);
    const std::uint64_t index = entry_index(address, level);
    if (!page.entries[index].none()) throw std::logic_error("a link would bury a table");
    write(page, index, table_entry(table));
    ++linked_[index_of(below(level))];
}

void PageTable::unlink(VirtAddr address, Level level) {
    if (linked(address, level) == Pfn(0)) throw std::logic_error("no link to take away");
    write(descend(address, level), entry_index(address, level), Pte());
    --linked_[index_of(below(level))];
}

void PageTable::adopt(VirtAddr address, Level level, PageTable& from) {
    if (linked(address, level) != from.root_)
        throw std::logic_error("adopts what it does not link");
    TablePage& page = store_.at(from.root_);
    --store_.counts_.by_owner[static_cast<unsigned>(from.owner_)];
    ++store_.counts_.by_owner[static_cast<unsigned>(owner_)];
    --from.tables_[index_of(page.level)];
    ++tables_[index_of(page.level)];
    --linked_[index_of(page.level)];
    page.owner = this;
    page.base = span_base(address, page.level);
    from.root_ = Pfn(0);
}

Pfn PageTable::linked(VirtAddr address, Level level) const {
    const std::optional<Pte> found = entry(address, level);
    if (!found || !found->present() || found->large()) return Pfn(0);
    return store_.owner(found->pfn()) == this ? Pfn(0) : found->pfn();
}

void PageTable::leaves_below(const TableView& page, VirtAddr start, VirtAddr end,
                             const std::function<void(VirtAddr, Pte, Level)>& fn) const {
    const std::uint64_t span = entry_span(page.level);
    const std::uint64_t first = start > page.base ? (start - page.base) / span : 0;
    for (std::uint64_t i = first; i < kEntries; ++i) {
        const VirtAddr address = page.base + i * span;
        if (address >= end) break;
        const Pte entry = page.entry(i);
        if (entry.none()) continue;
        if (page.level == Level::Pte || entry.large()) {
            fn(address, entry, page.level);
        } else if (const TableView next = store_.view(entry.pfn()); next.owner == this) {
            leaves_below(next, start, end, fn);
        }
    }
}

void PageTable::for_each_leaf(VirtAddr start, VirtAddr end,
                              const std::function<void(VirtAddr, Pte, Level)>& fn) const {
    leaves_below(store_.view(root_), start, end, fn);
}

void PageTable::copy_below(const PageTable& other, const TablePage& page, VirtAddr start,
                           VirtAddr end) {
    const std::uint64_t span = entry_span(page.level);
    const std::uint64_t first = start > page.base ? (start - page.base) / span : 0;
    for (std::uint64_t i = first; i < kEntries && page.base + i * span < end; ++i) {
        const Pte entry = page.entries[i];
        if (!entry.present() || entry.large()) continue;
        if (store_.owner(entry.pfn()) != &other) continue;
        const TablePage& next = store_.at(entry.pfn());
        descend(page.base + i * span, next.level);
        if (next.level != Level::Pte) copy_below(other, next, start, end);
    }
}

void PageTable::copy_tables(const PageTable& other, VirtAddr start, VirtAddr end) {
    copy_below(other, store_.at(other.root_), start, end);
}

void PageTable::free_child(TablePage& page, std::uint64_t index) {
    --tables_[index_of(below(page.level))];
    store_.free(page.entries[index].pfn());
    write(page, index, Pte());
}

bool PageTable::free_below(TablePage& page, VirtAddr floor, VirtAddr ceiling) {
    const std::uint64_t span = entry_span(page.level);
    if (page.level != Level::Pte) {
        const std::uint64_t first = floor > page.base ? (floor - page.base) / span : 0;
        for (std::uint64_t i = first; i < kEntries && page.base + i * span < ceiling; ++i) {
            const Pte entry = page.entries[i];
            if (!entry.present() || entry.large()) continue;
            if (store_.owner(entry.pfn()) != this) continue;
            if (!free_below(store_.at(entry.pfn()), floor, ceiling)) continue;
            free_child(page, i);
        }
    }
    const bool inside = page.base >= floor && page.base + span * kEntries <= ceiling;
    return page.level != top_ && inside && page.occupied == 0;
}

bool PageTable::free_pte_tables(VirtAddr start, VirtAddr end) {
    bool freed = false;
    for (VirtAddr at = align_up(start, kPmdSize); at < end && end - at >= kPmdSize;
         at = at + kPmdSize) {
        const Pte* entry = find(at, Level::Pmd);
        if (!entry || !entry->present() || entry->large()) continue;
        const TablePage& table = store_.at(entry->pfn());
        if (table.owner != this || table.occupied != 0) continue;
        free_child(descend(at, Level::Pmd), entry_index(at, Level::Pmd));
        freed = true;
    }
    return freed;
}

void PageTable::free_tables(VirtAddr floor, VirtAddr ceiling) {
    free_below(store_.at(root_), floor, ceiling);
}

}  // namespace ptshare
