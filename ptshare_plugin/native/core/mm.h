// An address space, and the host mm that holds shared page tables.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "tables.h"
#include "types.h"
#include "vma.h"

namespace ptshare {

using MmId = Number<struct MmIdTag>;  // 0: none

// The kernel's mm_struct: VMAs, page table, counters.
class Mm {
  public:
    // `root`, `top`: see PageTable.
    Mm(MmId mm_id, TableStore& store, Owner owner, unsigned levels, Pfn root = Pfn(0),
       std::optional<Level> top = std::nullopt)
        : id(mm_id), table(store, owner, levels, root, top) {}

    const MmId id;
    VmaMap vmas;
    PageTable table;

    // Resident pages mapped by own leaves. Invariants: equal a recount over `table`. Pages behind
    // linked tables belong to the host's counters.
    std::uint64_t rss_file = 0;
    std::uint64_t rss_anon = 0;
    // 4 KiB pages behind 2 MiB leaves: the kernel's hugetlb_usage, no part of the RSS.
    std::uint64_t rss_huge = 0;

    // Heap: [brk_start, brk); both 0 before exec() set them.
    VirtAddr brk_start;
    VirtAddr brk;

    // Tasks that use this mm (threads share it); the last one's exit tears it down.
    unsigned users = 1;
    // Counts the flushes of this mm, as the kernel's context.tlb_gen: a CPU that last flushed at a
    // smaller value holds entries that may be stale.
    std::uint64_t tlb_generation = 1;

    // For engines: a bit for each CPU that has loaded the mm and not been found to have left it
    // since (the kernel's mm_cpumask), and the time from which on a flush finds that out.
    std::uint64_t cpus = 0;
    std::uint64_t next_trim = 0;

    // Bytes of the tables that walks use, below the root; a linked table counts for each mm that
    // links it (what hangs below it counts for its host alone). The kernel's mm_pgtables_bytes,
    // which /proc/PID/status shows as VmPTE.
    std::uint64_t vm_pte_bytes() const;

    // The VMA that holds `address`, or null.
    Vma* find(VirtAddr address);
    // The VMA that ends at or below `address` last / starts at or above `address` first, or null.
    const Vma* before(VirtAddr address) const;
    const Vma* after(VirtAddr address) const;
    // Whether a VMA, or the room that it keeps, lies in [start, end).
    bool overlaps(VirtAddr start, VirtAddr end) const;
    // Whether [start, end) holds room of a VMA, but not the whole VMA: nothing can be mapped there.
    bool in_others_room(VirtAddr start, VirtAddr end) const;
    // Cuts the VMA that holds `address` in two there, if one does.
    void split(VirtAddr address);
    // Inserts a VMA that overlaps none, and joins it with compatible neighbours.
    Vma& insert(Vma vma);
};

// Translations of [start, end) in an mm that must not be used any more.
struct FlushTarget {
    MmId mm;
    VirtAddr start;
    VirtAddr end;
    // Mm::tlb_generation once this is done; 0: the mm does not hear of it. Set by the kernel.
    std::uint64_t generation = 0;
};
constexpr std::uint64_t pages_of(const FlushTarget& target) {
    return (target.end - target.start) >> kPageShift;
}

// One process's part in a host mm.
struct Guest {
    MmId mm;         // a guest detaches before its mm goes
    VirtAddr start;  // where the guest maps the first address of the host's range
};

// What one PUD entry of an mm translates, and so one PMD table: the unit in which PMD tables are
// shared. It starts on a multiple of 1 GiB.
constexpr VirtAddr slot_of(VirtAddr address) {
    return align_down(address, kPudSize);
}
inline bool holds_slot(const Vma& vma, VirtAddr slot) {
    return vma.start <= slot && slot + kPudSize <= vma.end;
}

// The RFC's host mm: an mm attached to no process, with one VMA over the shared range (several,
// after mprotect of a part), whose tables the guests' PMD entries point at. Owned jointly by the
// kernel's list and the guest VMAs; its tables go when the last guest detaches.
//
// A host of one table has no more than the PMD table of a slot, its root, for the addresses
// [0, 1 GiB). Its guests are the PUD entries that point there, so that it goes with the last of
// them. Linux has no mm behind such a table, only a count in its page: pt_share_count, one less
// than there are guests.
class HostMm {
  public:
    HostMm(MmId mm_id, TableStore& store, unsigned levels, const Vma& creator, Pfn root = Pfn(0),
           std::optional<Level> top = std::nullopt)
        : mm(mm_id, store, Owner::Host, levels, root, top),
          start(creator.start),
          end(creator.end),
          flags(creator.flags),
          file(creator.file),
          file_page(creator.file_page) {}

    Mm mm;
    const VirtAddr start;  // aligned to what one link translates; `end` to pages
    const VirtAddr end;
    // VMA flags of the creator: what later guests must ask for. Of one table: those of every VMA
    // that links it, so that they change when its only guest's do.
    std::uint64_t flags;
    const std::shared_ptr<File> file;
    const std::uint64_t file_page;  // page of the file at `start`
    // Invariant: one entry for each guest VMA whose `host` is this; of one table: for each link.
    std::vector<Guest> guests;
    // Of the tables that guests link; what is above them is each guest's own.
    Level level = Level::Pte;
    // The process whose end ends the host, whoever is attached; none: the last guest's does.
    // Invariant: alive while set.
    MmId owner;
    // What the patches as posted count (policy rfc-v2): with references the host stays, though no
    // guest is attached, and without it goes, though some are. 0 where guests are counted.
    std::uint64_t references = 0;

    bool of_one_table() const { return mm.table.top() == Level::Pmd; }
    // Nothing is mapped in it any more, and nothing can be: accesses of guests are SIGSEGV.
    bool is_dead() const { return mm.vmas.empty(); }
    // Whether it lives on without a guest.
    bool is_kept() const { return owner != MmId(0) || references != 0; }

    VirtAddr to_host(const Vma& vma, VirtAddr address) const {
        return start + (address - vma.start);
    }
    // The guest that maps the range at `at` is one no more.
    void remove_guest(MmId id, VirtAddr at);
    // Host addresses [from, to) as every guest sees them.
    std::vector<FlushTarget> guest_ranges(VirtAddr from, VirtAddr to) const;
};

}  // namespace ptshare
