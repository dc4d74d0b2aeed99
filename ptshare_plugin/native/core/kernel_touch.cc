// Accesses to many pages in order, whole PTE tables at a time.
#include <algorithm>
#include <stdexcept>

#include "kernel.h"
#include "range.h"
#include "touch.h"

namespace ptshare {

void TouchResult::add(const FaultResult& fault) {
    ++faults[static_cast<unsigned>(fault.kind)];
    if (fault.linked) ++linked;
    around += fault.around;
}

void TouchResult::add(const TouchResult& other) {
    for (unsigned i = 0; i < faults.size(); ++i) faults[i] += other.faults[i];
    linked += other.linked;
    around += other.around;
}

std::uint64_t Kernel::around_window(const Vma& vma, Access access) const {
    if (access == Access::Write || vma.has(kVmUffdWp)) return 1;
    return std::clamp<std::uint64_t>(config_.fault_around_bytes >> kPageShift, 1, kEntries);
}

TouchResult Kernel::touch(Mm& mm, VirtAddr start, std::uint64_t length, Access access) {
    TouchResult result;
    const VirtAddr end = start + length;
    for (VirtAddr at = align_down(start, kPageSize); at < end;) {
        if (Vma* vma = mm.find(at); vma && contents_.counts_only() && vma->permits(access)) {
            const VirtAddr to = touch_many(mm, *vma, at, std::min(end, vma->end), access, result);
            if (to != at) {
                at = to;
                continue;
            }
        }
        // As the MMU: a fault, and the access again.
        constexpr int kTries = 4;
        for (int tries = 0;; ++tries) {
            const auto leaf = mm.table.leaf(at);
            if (leaf && leaf->pte.permits(access)) {
                const std::uint64_t bytes = entry_span(leaf->level);
                at = align_down(at, bytes) + bytes;
                break;
            }
            if (tries == kTries) {
                throw std::logic_error("a fault was served, yet the access does not go through");
            }
            const FaultResult fault_result = fault(mm, at, access);
            result.add(fault_result);
            result.reached = at;
            if (fault_result.is_fatal()) return result;
        }
    }
    result.reached = end;
    return result;
}

VirtAddr Kernel::touch_many(Mm& mm, Vma& vma, VirtAddr at, VirtAddr end, Access access,
                            TouchResult& result) {
    if (vma.host) return touch_shared(mm, vma, at, end, access, result);
    if (vma.has(kVmHugetlb)) return touch_huge(mm, vma, at, end, access, result);
    return touch_file(mm, vma, at, end, access, FaultKind::File, result);
}

VirtAddr Kernel::touch_file(Mm& mm, const Vma& vma, VirtAddr at, VirtAddr end, Access access,
                            FaultKind kind, TouchResult& result) {
    const bool write = access == Access::Write;
    std::uint64_t n = whole_tables(at, end);
    if (n == 0) return at;
    if (const std::uint64_t done = mm.table.permitted_below(at, n, access)) {
        return at + done * kPmdSize;
    }
    if (!vma.file || (write && !vma.has(kVmShared))) return at;
    const std::uint64_t index = vma.file_page_of(at);
    // Pages that are in the page cache, or that come into it one behind the other: a fault each.
    const bool fresh = vma.file->cached_end() == index;
    const std::uint64_t each = fresh ? 1 + kEntries : 1;  // frames of a table
    const std::uint64_t untouched = frames_.untouched();
    n = std::min(n, (untouched - std::min(untouched, kUpperTables)) / each);
    n = mm.table.empty_below(at, n);
    if (n == 0 || index + n * kEntries > vma.file->pages()) return at;
    if (fresh) {
        vma.file->bring_in_next(n * kEntries);
    } else if (!vma.file->contiguous(index, n * kEntries)) {
        return at;
    }
    const bool writable = vma.has(kVmShared) && (write || !write_notify(vma));
    const Pte leaf = leaf_for(vma, vma.file->cached(index), writable);
    mm.table.fill_pte_tables(at, n, write ? leaf.with(Pte::kDirty) : leaf, vma.share_requested);
    const std::uint64_t pages = n * kEntries;
    mm.rss_file += pages;
    rss_file_ += pages;
    stats_.peak_rss_file = std::max(stats_.peak_rss_file, rss_file_);
    // Windows of fault-around divide a table: each is whole here.
    const std::uint64_t faults = pages / (fresh ? 1 : around_window(vma, access));
    result.faults[static_cast<unsigned>(kind)] += faults;
    result.around += pages - faults;
    return at + n * kPmdSize;
}

VirtAddr Kernel::touch_huge(Mm& mm, const Vma& vma, VirtAddr at, VirtAddr end, Access access,
                            TouchResult& result) {
    std::uint64_t n = whole_tables(at, end);
    // The first of a PMD table, own or shared, is a fault's business.
    if (n == 0 || !mm.table.has_entry(at, Level::Pud)) return at;
    HostMm* host = slot_host(mm, at);
    Mm& owner = host ? host->mm : mm;
    const VirtAddr there = host ? VirtAddr(at - slot_of(at)) : at;
    if (const std::uint64_t done = owner.table.permitted_below(there, n, access)) {
        return at + done * kPmdSize;
    }
    n = owner.table.empty_below(there, n);
    const std::uint64_t index = vma.file_page_of(at);
    if (n == 0 || index + n * kEntries > vma.file->pages() ||
        !vma.file->contiguous(index, n * kEntries)) {
        return at;
    }
    const Pte leaf = leaf_for(vma, vma.file->cached(index), true)
                         .with(Pte::kLarge | (vma.has(kVmWrite) ? Pte::kDirty : 0));
    owner.table.fill_huge(there, n, leaf);
    owner.rss_huge += n * kEntries;
    rss_huge_ += n * kEntries;
    stats_.peak_rss_huge = std::max(stats_.peak_rss_huge, rss_huge_);
    result.faults[static_cast<unsigned>(host ? FaultKind::Host : FaultKind::File)] += n;
    return at + n * kPmdSize;
}

VirtAddr Kernel::touch_shared(Mm& mm, Vma& vma, VirtAddr at, VirtAddr end, Access access,
                              TouchResult& result) {
    const std::optional<Level> level = policy_->links_at(*this);
    if (!level) return at;
    HostMm& host = *vma.host;
    if (host.is_dead()) return at;
    const VirtAddr there = host.to_host(vma, at);
    const Vma& range = *host.mm.find(there);
    if (!range.permits(access)) return at;
    VirtAddr stop = std::min(end, at + (range.end - there));
    if (mm.table.linked(at, *level) != Pfn(0)) {  // the host alone has to serve them
        stop = std::min(stop, align_down(at, entry_span(*level)) + entry_span(*level));
        const VirtAddr to =
            touch_file(host.mm, range, there, there + (stop - at), access, FaultKind::Host, result);
        return at + (to - there);
    }
    if (*level != Level::Pmd) return at;
    // Tables of the host that are all full, or all empty, are linked at once.
    const std::uint64_t untouched = frames_.untouched();
    std::uint64_t n = std::min(whole_tables(at, stop), whole_tables(there, there + (stop - at)));
    n = mm.table.empty_below(at, n);
    if (n == 0 || untouched < n + 2 * kUpperTables) return at;
    const std::uint64_t full = host.mm.table.permitted_below(there, n, access);
    if (full != 0) {
        n = full;
        result.faults[static_cast<unsigned>(FaultKind::Link)] += n;
    } else {
        const VirtAddr to = touch_file(host.mm, range, there, there + n * kPmdSize, access,
                                       FaultKind::Host, result);
        n = (to - there) / kPmdSize;
        if (n == 0) return at;
    }
    mm.table.link_tables(at, n, host.mm.table, there);
    stats_.links += n;
    result.linked += n;
    return at + n * kPmdSize;
}

}  // namespace ptshare
