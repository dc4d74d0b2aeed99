// Page tables in physical frames: the pages themselves (TableStore) and one address space's tree of
// them (PageTable).
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <unordered_map>
#include <vector>

#include "frames.h"
#include "physical.h"
#include "pte.h"
#include "table_run.h"
#include "types.h"

namespace ptshare {

// Whose tables: a process's own, or those of a host mm.
enum class Owner : unsigned { Guest = 0, Host = 1 };

// Live table pages, machine-wide.
struct TableCounts {
    std::array<std::uint64_t, kLevels> by_level{};  // index: kernel_name of the level
    std::array<std::uint64_t, 2> by_owner{};        // index: Owner
    std::uint64_t region_pte = 0;  // PTE tables of memory for which MAP_SHARED_PT was asked

    std::uint64_t total() const { return by_owner[0] + by_owner[1]; }
    friend bool operator==(const TableCounts& a, const TableCounts& b) {
        return a.by_level == b.by_level && a.by_owner == b.by_owner && a.region_pte == b.region_pte;
    }
};

// One 4 KiB table page.
struct TablePage {
    std::array<Pte, kEntries> entries{};
    PageTable* owner = nullptr;  // the tree that will free it: allocated it, or adopted it
    Pfn frame;                   // where it lies
    VirtAddr base;               // first address it translates, in its owner's address space
    Level level = Level::Pte;
    std::uint16_t occupied = 0;  // invariant: number of entries that are not none()
    bool region = false;         // counted in TableCounts::region_pte
};

// A table as it reads: a page, or one of a run. It shows a run's table as it was.
class TableView {
  public:
    explicit TableView(const TablePage& page)
        : owner(page.owner), base(page.base), level(page.level), page_(&page) {}
    TableView(const TableRun& run, std::uint64_t table)
        : owner(run.owner), base(run.base_of(table)), level(run.level), run_(run), table_(table) {}

    Pte entry(std::uint64_t index) const {
        return page_ ? page_->entries[index] : run_.entry(table_, index);
    }

    const PageTable* const owner;
    const VirtAddr base;
    const Level level;

  private:
    const TablePage* page_ = nullptr;  // the store's; null: table `table_` of run_, which is a copy
    TableRun run_;
    std::uint64_t table_ = 0;
};

// All table pages of the machine, by frame. Owns their storage.
class TableStore final : public TableMemory {
  public:
    // Both must outlive the store.
    TableStore(FrameAllocator& frames, FrameContents& contents)
        : frames_(frames), contents_(contents) {}

    Pte read_entry(PhysAddr address) const override;
    void set_entry_bits(PhysAddr address, std::uint64_t bits) override;

    bool is_table(Pfn pfn) const { return find(pfn) || run_of(pfn); }
    // A table page; one that is kept in a run is taken out of it, for good.
    TablePage& at(Pfn pfn) const {
        TablePage* page = find(pfn);
        return page ? *page : take_out(pfn);
    }
    // To read a table, wherever it is kept; valid until it is written or freed.
    TableView view(Pfn pfn) const {
        if (const TablePage* page = find(pfn)) return TableView(*page);
        const TableRun& run = *run_of(pfn);
        return TableView(run, pfn - run.frame);
    }
    Pte entry(PhysAddr address) const { return entry(pfn_of(address), index_in_page(address)); }
    // Asks the host to bring it near. Inlined always: GCC 12 drops calls of what only prefetches.
    [[gnu::always_inline]] void prefetch(PhysAddr address) const {
        const TablePage* page = find(pfn_of(address));
        if (page) __builtin_prefetch(&page->entries[index_in_page(address)]);
    }
    Pte entry(Pfn pfn, std::uint64_t index) const {
        if (const TablePage* page = find(pfn)) return page->entries[index];
        const TableRun& run = *run_of(pfn);
        return run.entry(pfn - run.frame, index);
    }
    const PageTable* owner(Pfn pfn) const {
        if (const TablePage* page = find(pfn)) return page->owner;
        return run_of(pfn)->owner;
    }
    // The run that the table is kept in, or null.
    TableRun* run_of(Pfn pfn) const;
    std::uint64_t pages() const { return live_pages_; }
    std::uint64_t runs() const { return runs_.size(); }
    // Of the host's memory, about: tables kept as pages, runs and the shapes that these share.
    std::uint64_t held_bytes() const;

    const TableCounts& counts() const { return counts_; }
    // The counts when there were most table pages; the first such moment.
    const TableCounts& peak() const { return peak_; }
    // Most region PTE tables alive at one time.
    std::uint64_t peak_region_pte() const { return peak_region_pte_; }
    std::uint64_t allocated() const { return allocated_; }
    std::uint64_t freed() const { return freed_; }

    // Calls fn(pfn, page) for every live table page, in frame order.
    void for_each(const std::function<void(Pfn, const TablePage&)>& fn) const;

  private:
    friend class PageTable;
    template <bool kReads>
    friend class Snapshot;
    Pfn allocate(PageTable& owner, Level level, VirtAddr base, bool region);
    void free(Pfn pfn);
    static constexpr std::uint64_t index_in_page(PhysAddr address) {
        return (address.value & (kPageSize - 1)) / sizeof(Pte);
    }
    TablePage* find(Pfn pfn) const {
        const std::uint64_t block = pfn.value / kEntries;
        if (block >= pages_.size() || !pages_[block]) return nullptr;
        return pages_[block]->page[pfn.value % kEntries].get();
    }
    TablePage& put(std::unique_ptr<TablePage> page) const;
    void remove(Pfn pfn) const;
    TablePage& take_out(Pfn pfn) const;
    // New tables, all of a run but its frames, which are the next untouched ones.
    Pfn allocate_run(TableRun run);
    void free_run(Pfn first);
    // Keeps a page as a run of one, if it is regular. Nobody may hold a reference to it.
    void compact(Pfn pfn);
    // The same for any page that is smaller as a shape. No page is written: it would go back.
    void compact_sparse(Pfn pfn);
    // A run in place of the page in its frame.
    void exchange(TableRun run);
    // The one that is equal, if there is one already.
    std::shared_ptr<const TableShape> shared_shape(TableShape shape);
    void mark_region(TablePage& page);

    FrameAllocator& frames_;   // the kernel's
    FrameContents& contents_;  // the engine's
    struct Block {
        std::array<std::unique_ptr<TablePage>, kEntries> page;  // null: no table, or in a run
        std::uint64_t live = 0;                                 // invariant: those not null
    };
    // How a table is kept changes nothing of what it says: hence mutable. A frame is in one of
    // them.
    mutable std::vector<std::unique_ptr<Block>> pages_;  // index: frame number / 512
    mutable std::map<Pfn, TableRun> runs_;               // by first frame
    mutable std::uint64_t live_pages_ = 0;               // invariant: tables in pages_
    // Of single tables, by hash; those that no run has any more go when there are too many.
    std::unordered_multimap<std::uint64_t, std::shared_ptr<const TableShape>> shapes_;
    std::uint64_t shape_bytes_ = 0;  // invariant: sum over shapes_
    std::uint64_t most_shapes_ = 1024;
    TableCounts counts_;  // invariant: equals a recount over pages_ and runs_
    TableCounts peak_;
    std::uint64_t peak_region_pte_ = 0;
    std::uint64_t allocated_ = 0;  // ever, as freed_
    std::uint64_t freed_ = 0;
};

// The table tree of one mm. It owns every table page that it allocated; a table that link() put
// into it stays its host's.
class PageTable {
  public:
    // `root`: of a tree that a snapshot brings back; none: a new one is allocated. `top`: where the
    // root stands in the trees of processes; lower for a tree of tables that only others walk.
    PageTable(TableStore& store, Owner owner, unsigned levels, Pfn root = Pfn(0),
              std::optional<Level> top = std::nullopt);
    ~PageTable();
    PageTable(const PageTable&) = delete;
    PageTable& operator=(const PageTable&) = delete;

    Owner owner() const { return owner_; }
    unsigned levels() const { return levels_; }
    Level top() const { return top_; }
    Pfn root() const { return root_; }
    // Own live table pages at a position.
    std::uint64_t tables(Level level) const { return tables_[index_of(level)]; }
    // Entries that point at another tree's table, by the position of that table.
    std::uint64_t linked_tables(Level level) const { return linked_[index_of(level)]; }

    // The leaf that translates `address` (through linked tables too): a PTE, or a PMD entry with PS
    // set. Level says which. None where nothing is mapped.
    struct Leaf {
        Pte pte;
        Level level = Level::Pte;

        // The frame of the 4 KiB page at `address`, also inside a 2 MiB leaf.
        Pfn frame_of(VirtAddr address) const {
            if (level == Level::Pte) return pte.pfn();
            return pte.pfn() + ((address.value & (kPmdSize - 1)) >> kPageShift);
        }
    };
    std::optional<Leaf> leaf(VirtAddr address) const;

    // The entry for `address` at `level`, or null where the tables above it are missing. `own_only`
    // stops at linked tables.
    Pte* find(VirtAddr address, Level level, bool own_only = true);

    // Sets a 4 KiB leaf, or with level Pmd a 2 MiB one (the PMD entry must not hold a table),
    // allocating what is missing above it. `region`: the memory asked for MAP_SHARED_PT.
    void set(VirtAddr address, Pte leaf, Level level = Level::Pte, bool region = false);
    // Replaces an occupied leaf by another one, or empties it with Pte().
    void replace(VirtAddr address, Pte leaf, Level level = Level::Pte);

    // Points the empty entry for `address` at `level` at a table of another tree, which stands one
    // level below; empties it again.
    void link(VirtAddr address, Pfn table, Level level = Level::Pmd);
    void unlink(VirtAddr address, Level level = Level::Pmd);
    // The table that this entry points at when another tree owns it, else Pfn(0).
    Pfn linked(VirtAddr address, Level level = Level::Pmd) const;
    // Makes the table that this entry links, the root of `from`, a table of this tree's own. `from`
    // is left without a root and must go.
    void adopt(VirtAddr address, Level level, PageTable& from);
    // ---- Many at once, where contents count only and frames are untouched (as many as there will
    // ---- be new tables). The PMD entries from `address` on, all of one PMD table, are empty.

    // How many PMD entries of one table from `address` on, `most` at most, are empty.
    std::uint64_t empty_below(VirtAddr address, std::uint64_t most) const;
    // How many of them have full PTE tables or 2 MiB leaves, kept as runs, that permit an access.
    std::uint64_t permitted_below(VirtAddr address, std::uint64_t most, Access access) const;
    // PTE tables full of leaves, the first one `leaf`, the others' frames follow it.
    void fill_pte_tables(VirtAddr address, std::uint64_t tables, Pte leaf, bool region);
    // 2 MiB leaves, the first one `leaf`, the others' frames follow it.
    void fill_huge(VirtAddr address, std::uint64_t leaves, Pte leaf);
    // Links the PTE tables that `host` has from `from` on; all are there.
    void link_tables(VirtAddr address, std::uint64_t tables, const PageTable& host, VirtAddr from);
    // PTE tables of this shape, whose frames are counted from that of `leaf`; `address` is the
    // shape's first.
    void fill_pte_tables(VirtAddr address, std::shared_ptr<const TableShape> shape, Pte leaf,
                         bool region);
    // Whether fill_pte_tables() made tables of that shape there, which are as they were and permit
    // an access.
    bool has_shape(VirtAddr address, const TableShape& shape, Access access) const;
    // Links the PTE tables of a shape that `host` has at `from`.
    void link_tables(VirtAddr address, const TableShape& shape, const PageTable& host,
                     VirtAddr from);
    // Keeps own tables in little memory until they are written.
    void compact() { compact_below(root_); }
    // Where own leaves are kept in runs that lie wholly in [start, end): fn(a leaf, number) gives
    // that leaf's new bits, with the frame it had; the others are alike. The rest is each given to
    // `other`, in address order.
    void for_each_run(VirtAddr start, VirtAddr end,
                      const std::function<Pte(Pte, std::uint64_t)>& fn,
                      const std::function<void(VirtAddr, Pte, Level)>& other);

    // The own PTE table for `address`, allocated if need be.
    Pfn ensure_pte_table(VirtAddr address, bool region);
    // Allocates what is missing of the own tables for `address` down to `level`; returns the last.
    Pfn ensure_table(VirtAddr address, Level level) { return descend(address, level).frame; }
    // Whether the own entry for `address` at `level` is there and leads somewhere.
    bool has_entry(VirtAddr address, Level level) const {
        const std::optional<Pte> found = entry(address, level);
        return found && !found->none();
    }
    // Whether there is an own table of `level` for `address`.
    bool has_table(VirtAddr address, Level level) const;

    // Calls fn(address, leaf, level) for each occupied own leaf that translates a part of
    // [start, end), in address order. fn may replace() the leaf, not remove tables.
    void for_each_leaf(VirtAddr start, VirtAddr end,
                       const std::function<void(VirtAddr, Pte, Level)>& fn) const;

    // Makes tables like those of `other` that translate a part of [start, end), but without leaves.
    void copy_tables(const PageTable& other, VirtAddr start, VirtAddr end);

    // Frees own empty tables below the root whose whole span lies in [floor, ceiling).
    void free_tables(VirtAddr floor, VirtAddr ceiling);
    // Of these, PTE tables only; whether there were any.
    bool free_pte_tables(VirtAddr start, VirtAddr end);

  private:
    friend class TableStore;
    template <bool kReads>
    friend class Snapshot;
    static Pte table_entry(Pfn pfn);
    VirtAddr span_base(VirtAddr address, Level level) const;
    TablePage& descend(VirtAddr address, Level level, bool region = false);
    void write(TablePage& page, std::uint64_t index, Pte entry);
    bool free_below(TablePage& page, VirtAddr floor, VirtAddr ceiling);
    void free_child(TablePage& page, std::uint64_t index);
    void release_all(Pfn pfn);
    void compact_below(Pfn pfn);
    void copy_below(const PageTable& other, const TablePage& page, VirtAddr start, VirtAddr end);
    void leaves_below(const TableView& page, VirtAddr start, VirtAddr end,
                      const std::function<void(VirtAddr, Pte, Level)>& fn) const;
    Pfn own_pmd_table(VirtAddr address) const;  // Pfn(0): none, or another's
    // The run that begins with an entry of the table `page` in frame `pfn`: its leaves, if it is of
    // one table, or the tables from the one that the entry points at on, if they are whole.
    TableRun* run_from(const TableView& page, Pfn pfn, std::uint64_t index);
    void runs_below(Pfn pfn, VirtAddr start, VirtAddr end,
                    const std::function<Pte(Pte, std::uint64_t)>& fn,
                    const std::function<void(VirtAddr, Pte, Level)>& other);
    std::optional<Pte> entry(VirtAddr address, Level level, bool own_only = true) const;

    TableStore& store_;  // the kernel's
    Owner owner_;
    unsigned levels_;
    Level top_;
    Pfn root_;  // owned; allocated with the tree, freed with it; none after a restore that failed
    std::array<std::uint64_t, kLevels> tables_{};  // invariant: own live table pages by level
    std::array<std::uint64_t, kLevels> linked_{};  // invariant: links by level of the linked table
};

// Bytes that one entry at `level` translates, and its index in its table.
constexpr std::uint64_t entry_span(Level level) {
    return kPageSize << (kIndexBits * index_of(level));
}
constexpr std::uint64_t entry_index(VirtAddr address, Level level) {
    return (address.value >> (kPageShift + kIndexBits * index_of(level))) & (kEntries - 1);
}
constexpr Level below(Level level) {
    return static_cast<Level>(index_of(level) - 1);
}
constexpr Level above(Level level) {
    return static_cast<Level>(index_of(level) + 1);
}

}  // namespace ptshare
