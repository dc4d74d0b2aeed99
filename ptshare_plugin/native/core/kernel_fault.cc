// Page faults and mprotect: what changes a leaf.
#include <algorithm>

#include "kernel.h"
#include "range.h"

namespace ptshare {

namespace {

// RLIMIT_STACK's usual soft limit.
constexpr std::uint64_t kStackLimit = 8ULL << 20;
// Of a page that this mm alone has, written.
constexpr std::uint64_t kOwnDirty = Pte::kDirty | Pte::kExclusive;

// Flags of a VMA after mprotect.
std::uint64_t protected_flags(const Vma& vma, std::uint64_t prot) {
    const std::uint64_t flags = (vma.flags & ~kVmProtMask) | prot;
    if (vma.has(kVmShared)) return flags;
    if (prot & kVmWrite) return flags | kVmAccount;
    return !vma.file && vma.anon_vma == 0 ? flags & ~kVmAccount : flags;
}

}  // namespace

Pte Kernel::leaf_for(const Vma& vma, Pfn pfn, bool writable) const {
    std::uint64_t bits = Pte::kUser | Pte::kAccessed;
    bits |= (vma.flags & kVmProtMask) ? Pte::kPresent : Pte::kProtNone;
    if (writable && vma.has(kVmWrite)) bits |= Pte::kWrite;
    if (!vma.has(kVmExec)) bits |= Pte::kNoExecute;
    return Pte::make(pfn, bits);
}

Pfn Kernel::copy_of(Pfn from) {
    const Pfn copy = frames_.allocate(FrameUse::AnonPage);
    if (from == zero_page_) {
        contents_.zero(copy);
    } else {
        contents_.copy(copy, from);
    }
    return copy;
}

void Kernel::adopt_page(Mm& mm, const Vma& vma, VirtAddr address, Pte pte) {
    const bool writable = !write_notify(vma) || pte.dirty();
    map_page(mm, vma, address, leaf_for(vma, pte.pfn(), writable).with(pte.bits() & Pte::kDirty));
    ++stats_.carried_pages;
    ++effects_.ptes_copied;
}

Vma* Kernel::grow_stack(Mm& mm, VirtAddr address) {
    const Vma* above = mm.after(address);
    if (address < kLowest || !above || !above->has(kVmGrowsDown)) return nullptr;
    if (above->end - address > kStackLimit) return nullptr;
    Vma grown = *above;
    mm.vmas.erase(grown.start);
    const VirtAddr start = align_down(address, kPageSize);
    grown.file_page -= (grown.start - start) >> kPageShift;
    grown.start = start;
    return &mm.insert(std::move(grown));
}

FaultResult Kernel::fault(Mm& mm, VirtAddr address, Access access) {
    Vma* vma = mm.find(address);
    if (!vma) vma = grow_stack(mm, address);
    if (!vma) return FaultResult{};
    FaultResult result = vma->host              ? policy_->fault(*this, mm, *vma, address, access)
                         : vma->has(kVmHugetlb) ? fault_huge(mm, *vma, address, access)
                                                : fault_in(mm, *vma, address, access);
    result.region = vma->share_requested;
    return result;
}

FaultResult Kernel::fault_in(Mm& mm, Vma& vma, VirtAddr address, Access access) {
    if (!vma.permits(access)) return FaultResult{};
    const VirtAddr page = align_down(address, kPageSize);
    const auto leaf = mm.table.leaf(page);
    if (!leaf) return fault_missing(mm, vma, page, access);
    if (leaf->pte.permits(access)) return FaultResult{FaultKind::Spurious};
    return fault_write_protected(mm, vma, page, leaf->pte);
}

// As __anon_vma_prepare: neighbours that could be one VMA but for their rights get one anon_vma, so
// that they can be joined later. One that was inherited is not given on.
void Kernel::prepare_anon(Mm& mm, Vma& vma) {
    if (vma.anon_vma != 0) return;
    const auto fits = [](const Vma* low, const Vma* high) {
        return low && high && low->end == high->start && low->file == high->file &&
               ((low->flags ^ high->flags) & ~kVmProtMask) == 0 &&
               low->file_page_of(low->end) == high->file_page;
    };
    const Vma* const next = mm.after(vma.end);
    const Vma* const before = mm.before(vma.start);
    for (const Vma* near :
         {fits(&vma, next) ? next : nullptr, fits(before, &vma) ? before : nullptr}) {
        if (!near || near->anon_vma == 0 || near->anon_inherited) continue;
        vma.anon_vma = near->anon_vma;
        return;
    }
    vma.anon_vma = next_anon_vma_++;
}

FaultResult Kernel::fault_missing(Mm& mm, Vma& vma, VirtAddr address, Access access) {
    const bool write = access == Access::Write;
    const std::uint64_t index = vma.file_page_of(address);
    // As do_cow_fault, which prepares for the page before it looks for the file's.
    if (write && !vma.has(kVmShared)) prepare_anon(mm, vma);
    if (vma.file && index >= vma.file->pages()) {
        mm.table.ensure_table(address, Level::Pmd);  // as Linux, which looks at the file after that
        return FaultResult{FaultKind::Bus};
    }
    // The table first: a page that it has no memory for would be lost.
    mm.table.ensure_pte_table(address, vma.share_requested);
    if (!vma.file) {
        if (!write) {
            map_page(mm, vma, address, leaf_for(vma, zero_page_, false));
            return FaultResult{FaultKind::Anon};
        }
        map_page(mm, vma, address, leaf_for(vma, copy_of(zero_page_), true).with(kOwnDirty));
        return FaultResult{FaultKind::Anon};
    }
    if (write && !vma.has(kVmShared)) {
        const Pfn copy = copy_of(vma.file->page(index));
        map_page(mm, vma, address, leaf_for(vma, copy, true).with(kOwnDirty));
        return FaultResult{FaultKind::Cow};
    }
    FaultResult result{FaultKind::File};
    if (!write) {
        result.around = fault_around(mm, vma, address);
        if (mm.table.leaf(address)) return result;
    }
    const bool writable = vma.has(kVmShared) && (write || !write_notify(vma));
    const Pte pte = leaf_for(vma, vma.file->page(index), writable);
    map_page(mm, vma, address, write ? pte.with(Pte::kDirty) : pte);
    return result;
}

// Maps the pages around a read fault that are in the page cache already; returns how many besides
// the faulting one. The window is the kernel's (do_fault_around): aligned to its size, cut at the
// VMA's edges and at the end of the PTE table.
std::uint64_t Kernel::fault_around(Mm& mm, const Vma& vma, VirtAddr address) {
    const std::uint64_t window = config_.fault_around_bytes >> kPageShift;
    if (window <= 1 || vma.has(kVmUffdWp)) return 0;  // uffd_disable_fault_around
    const std::uint64_t pte_index = entry_index(address, Level::Pte);
    const std::uint64_t vma_index = (address - vma.start) >> kPageShift;
    const std::uint64_t from =
        std::max(pte_index & ~(window - 1), pte_index - std::min(pte_index, vma_index));
    const std::uint64_t to =
        std::min({from + window, kEntries, pte_index + (vma.bytes() >> kPageShift) - vma_index});
    const VirtAddr table_base = align_down(address, kPmdSize);
    std::uint64_t mapped = 0;
    for (std::uint64_t i = from; i < to; ++i) {
        const VirtAddr at = table_base + (i << kPageShift);
        const std::uint64_t index = vma.file_page_of(at);
        if (index >= vma.file->pages()) break;
        const Pfn pfn = vma.file->cached(index);
        if (pfn == Pfn(0) || mm.table.leaf(at)) continue;
        map_page(mm, vma, at, leaf_for(vma, pfn, vma.has(kVmShared) && !write_notify(vma)));
        if (at != address) ++mapped;
    }
    return mapped;
}

FaultResult Kernel::fault_write_protected(Mm& mm, Vma& vma, VirtAddr address, Pte pte) {
    const Pfn pfn = pte.pfn();
    const bool reuse = vma.has(kVmShared) ||
                       (frames_.use(pfn) == FrameUse::AnonPage && frames_.references(pfn) == 1);
    if (reuse) {
        const std::uint64_t own = vma.has(kVmShared) ? Pte::kDirty : kOwnDirty;
        mm.table.replace(address, pte.with(Pte::kWrite | own));
        return FaultResult{FaultKind::WriteProtect};
    }
    prepare_anon(mm, vma);
    const Pfn copy = copy_of(pfn);
    drop_page(mm, pte);
    mm.table.replace(address, leaf_for(vma, copy, true).with(kOwnDirty));
    count_page(mm, Pte::make(copy, 0), 1);
    request_flush({{{mm.id, address, address + kPageSize}}, false});
    return FaultResult{FaultKind::Cow};
}

bool Kernel::protect_leaves(Mm& mm, const Vma& vma, VirtAddr start, VirtAddr end) {
    bool flush = false;
    // The new leaf, and what comes of the change of `leaves` ones like it.
    const auto change = [&](Pte old, std::uint64_t leaves) {
        // A page may be written at once when nobody has to hear of it: a shared one that needs
        // no dirty tracking, a private one that belongs to this mm alone. Registration with
        // userfaultfd makes vma_wants_writenotify say no here, so that no page may.
        const bool writable =
            vma.has(kVmHugetlb) ||
            (vma.has(kVmShared) ? !vma.has(kVmUffdWp) && (!write_notify(vma) || old.dirty())
                                : (old.bits() & Pte::kExclusive) != 0);
        const Pte changed =
            leaf_for(vma, old.pfn(), writable).with(old.bits() & (kOwnDirty | Pte::kLarge));
        if (changed.without(Pte::kAccessed) == old.without(Pte::kAccessed)) return old;
        effects_.ptes_changed += leaves;
        flush |= old.present();
        return changed.without(Pte::kAccessed).with(old.bits() & Pte::kAccessed);
    };
    mm.table.for_each_run(start, end, change, [&](VirtAddr page, Pte old, Level level) {
        if (const Pte changed = change(old, 1); changed != old) {
            mm.table.replace(page, changed, level);
        }
    });
    return flush;
}

Kernel::ProtectResult Kernel::protect(Mm& mm, VirtAddr start, VirtAddr end, std::uint64_t prot) {
    ProtectResult result;
    for (VirtAddr at = start; at < end;) {
        // Rights that VM_MAY* withholds (the MAY bits stand four above the rights).
        if ((prot & ~(mm.find(at)->flags >> 4)) & kVmProtMask) {
            result.error = Errno::Access;
            return result;
        }
        const Vma& whole = *mm.find(at);
        const std::uint64_t flags = protected_flags(whole, prot);
        if (flags == whole.flags) {  // as mprotect_fixup: pages and VMAs stay as they are
            at = std::min(end, whole.end);
            continue;
        }
        mm.split(at);
        mm.split(end);
        Vma vma = *mm.find(at);
        at = vma.end;
        vma.flags = flags;
        result.flush |= protect_leaves(mm, vma, vma.start, vma.end);
        mm.vmas.erase(vma.start);
        mm.insert(std::move(vma));
    }
    return result;
}

Errno Kernel::mprotect(Mm& mm, VirtAddr start, std::uint64_t length, std::uint64_t prot) {
    if (!is_aligned(start.value, kPageSize)) return Errno::Invalid;
    if (length == 0) return Errno::Ok;
    if (length > task_size().value || start > task_size() - length) return Errno::NoMemory;
    if (prot & ~kProtMask) return Errno::Invalid;
    const VirtAddr end = align_up(start + length, kPageSize);
    // As Linux: an error in a later VMA leaves the earlier ones changed; one flush for all of them.
    FlushTarget changed{mm.id, end, start};
    bool unlinked = false;
    Errno error = Errno::Ok;
    for (VirtAddr at = start; at < end && error == Errno::Ok;) {
        Vma* vma = mm.find(at);
        if (!vma) {
            error = Errno::NoMemory;
            break;
        }
        const VirtAddr stop = std::min(end, vma->end);
        if (vma->host) {
            error = policy_->protect(*this, mm, *vma, at, stop, prot);
        } else if (vma->has(kVmHugetlb)) {
            error = protect_huge(mm, at, stop, prot, changed, unlinked);
        } else {
            const ProtectResult result = protect(mm, at, stop, prot);
            if (result.flush) {
                changed.start = std::min(changed.start, at);
                changed.end = stop;
            }
            error = result.error;
        }
        at = stop;
    }
    if (changed.start < changed.end) request_flush({{changed}, unlinked});
    return error;
}

}  // namespace ptshare
