// Accesses to a set of pages in order, the PTE tables below one PMD table at a time: all address
// spaces that touch the set alike have tables of the same shape.
#include <algorithm>

#include "kernel.h"
#include "range.h"
#include "touch.h"

namespace ptshare {

// Of a set, the pages of some PTE tables below one PMD table: at least one, and none is touched.
struct Kernel::SetPart {
    const PageSet& set;
    std::uint64_t first;  // page of the set where the first table begins
    std::uint64_t tables;
    Access access;
};

TouchResult Kernel::touch(Mm& mm, VirtAddr start, const PageSet& set, Access access) {
    TouchResult result;
    const VirtAddr end = start + set.pages() * kPageSize;
    for (std::uint64_t page = set.next(0); page < set.pages();) {
        const VirtAddr at = start + page * kPageSize;
        const VirtAddr base = align_down(at, kPmdSize);
        Vma* vma = contents_.counts_only() ? mm.find(at) : nullptr;
        if (vma && base >= std::max(start, vma->start) && vma->permits(access)) {
            const std::uint64_t first = (base - start) >> kPageShift;
            const SetPart part{set, first, whole_tables(base, std::min(end, vma->end)), access};
            if (part.tables != 0 && set.next(first) == page) {
                const VirtAddr to = touch_part(mm, *vma, base, part, result);
                page = set.next((to - start) >> kPageShift);
                if (to != base) continue;
            }
        }
        const TouchResult one = touch(mm, at, kPageSize, access);
        result.add(one);
        result.reached = one.reached;
        if (one.reached == at) return result;
        page = set.next(page + 1);
    }
    result.reached = end;
    return result;
}

VirtAddr Kernel::touch_part(Mm& mm, Vma& vma, VirtAddr at, const SetPart& part,
                            TouchResult& result) {
    if (vma.host) return touch_part_shared(mm, vma, at, part, result);
    if (vma.has(kVmHugetlb)) return touch_part_huge(mm, vma, at, part, result);
    return touch_part_of_file(mm, vma, at, part, FaultKind::File, result);
}

VirtAddr Kernel::touch_part_of_file(Mm& mm, const Vma& vma, VirtAddr at, const SetPart& part,
                                    FaultKind kind, TouchResult& result) {
    const std::uint64_t window = around_window(vma, part.access);
    const VirtAddr end = at + part.tables * kPmdSize;
    const PageSet::Group* group = part.set.known(part.first, part.tables, window);
    if (group && mm.table.has_shape(at, *group->shape, part.access)) return end;
    if (const auto done = mm.table.permitted_below(at, part.tables, part.access)) {
        return at + done * kPmdSize;
    }
    const bool write = part.access == Access::Write;
    if (!vma.file || (write && !vma.has(kVmShared))) return at;
    if (frames_.untouched() < part.tables + kUpperTables) return at;
    if (mm.table.empty_below(at, part.tables) != part.tables) return at;
    const std::uint64_t index = vma.file_page_of(at);
    const std::uint64_t pages = part.tables * kEntries;
    if (index + pages > vma.file->pages() || !vma.file->contiguous(index, pages)) return at;
    group = &part.set.group(part.first, part.tables, window);
    const bool writable = vma.has(kVmShared) && (write || !write_notify(vma));
    const Pte leaf = leaf_for(vma, vma.file->cached(index), writable);
    mm.table.fill_pte_tables(at, group->shape, write ? leaf.with(Pte::kDirty) : leaf,
                             vma.share_requested);
    mm.rss_file += group->mapped;
    rss_file_ += group->mapped;
    stats_.peak_rss_file = std::max(stats_.peak_rss_file, rss_file_);
    result.faults[static_cast<unsigned>(kind)] += group->faults;
    result.around += group->mapped - group->faults;
    return end;
}

VirtAddr Kernel::touch_part_huge(Mm& mm, const Vma& vma, VirtAddr at, const SetPart& part,
                                 TouchResult& result) {
    // An access to any page of 2 MiB is one to all of them.
    std::uint64_t n = 0;
    while (n < part.tables && vma.file_page_of(at) + (n + 1) * kEntries <= vma.file->pages()) {
        const std::uint64_t page = part.first + n * kEntries;
        if (part.set.next(page) >= page + kEntries) break;
        ++n;
    }
    const TouchResult touched = touch(mm, at, n * kPmdSize, part.access);
    result.add(touched);
    return touched.reached;
}

VirtAddr Kernel::touch_part_shared(Mm& mm, Vma& vma, VirtAddr at, const SetPart& part,
                                   TouchResult& result) {
    const std::optional<Level> level = policy_->links_at(*this);
    if (!level || vma.host->is_dead()) return at;
    HostMm& host = *vma.host;
    const VirtAddr there = host.to_host(vma, at);
    const Vma& range = *host.mm.find(there);
    if (!range.permits(part.access)) return at;
    const std::uint64_t room = std::min(part.tables * kPmdSize, range.end - there);
    const std::uint64_t n = std::min(part.tables, whole_tables(there, there + room));
    const SetPart less{part.set, part.first, n, part.access};
    if (n == 0 || part.set.next(part.first) >= part.first + n * kEntries) return at;
    if (*level != Level::Pmd) {  // once linked, the host alone has to serve them
        if (mm.table.linked(at, *level) == Pfn(0)) return at;
        const VirtAddr to =
            touch_part_of_file(host.mm, range, there, less, FaultKind::Host, result);
        return at + (to - there);
    }
    if (mm.table.empty_below(at, n) != n) return at;
    if (frames_.untouched() < n + 2 * kUpperTables) return at;
    const std::uint64_t window = around_window(range, part.access);
    const PageSet::Group* group = part.set.known(part.first, n, window);
    const bool full = group && host.mm.table.has_shape(there, *group->shape, part.access);
    if (!full) {
        // Tables that are full need no faults of these pages, but links.
        if (host.mm.table.permitted_below(there, 1, part.access) != 0) return at;
        if (touch_part_of_file(host.mm, range, there, less, FaultKind::Host, result) == there) {
            return at;
        }
        group = part.set.known(part.first, n, window);
    }
    const std::uint64_t tables = group->shape->count();
    if (full) result.faults[static_cast<unsigned>(FaultKind::Link)] += tables;
    mm.table.link_tables(at, *group->shape, host.mm.table, there);
    stats_.links += tables;
    result.linked += tables;
    return at + n * kPmdSize;
}

void Kernel::compact(Mm& mm) {
    if (contents_.counts_only()) mm.table.compact();
}

}  // namespace ptshare
