// Mappings with 2 MiB pages as hugetlbfs makes them (VM_HUGETLB), and the sharing of their PMD
// tables.
#include <algorithm>
#include <stdexcept>
#include <utility>

#include "kernel.h"

namespace ptshare {

HostMm* Kernel::slot_host(const Mm& mm, VirtAddr address) const {
    const Pfn table = mm.table.linked(address, Level::Pud);
    if (table == Pfn(0)) return nullptr;
    const PageTable* owner = tables_.owner(table);
    for (const auto& host : hosts_) {
        if (&host->mm.table == owner) return host.get();
    }
    throw std::logic_error("a table of no host is linked");
}

// The kernel's hugetlb_fault: huge_pte_alloc with huge_pmd_share, then hugetlb_no_page.
FaultResult Kernel::fault_huge(Mm& mm, Vma& vma, VirtAddr address, Access access) {
    if (!vma.permits(access)) return FaultResult{};
    const VirtAddr page = align_down(address, kPmdSize);
    const VirtAddr slot = slot_of(page);
    const std::uint64_t index = vma.file_page_of(page);
    if (index >= vma.file->pages()) return FaultResult{FaultKind::Bus};
    FaultResult result{FaultKind::Spurious};
    mm.table.ensure_table(page, Level::Pud);  // first: what follows it must not fail half-way
    HostMm* host = nullptr;
    if (mm.table.find(page, Level::Pud)->none()) {
        host = policy_->slot_host(*this, vma, slot);
        if (host) {
            mm.table.link(slot, host->mm.table.root(), Level::Pud);
            host->guests.push_back({mm.id, slot});
            count_link();
            result.linked = true;
            result.kind = FaultKind::Link;
        }
    } else {
        host = slot_host(mm, page);
    }
    Mm& owner = host ? host->mm : mm;
    const VirtAddr at = host ? VirtAddr(page - slot) : page;
    if (const auto leaf = owner.table.leaf(at)) {
        if (!leaf->pte.permits(access)) throw std::logic_error("a 2 MiB leaf lags its VMA");
        return result;
    }
    owner.table.ensure_table(at, Level::Pmd);
    // Writable, and then dirty, from the start (make_huge_pte).
    const Pte pte = leaf_for(vma, vma.file->page(index), true)
                        .with(Pte::kLarge | (vma.has(kVmWrite) ? Pte::kDirty : 0));
    owner.table.set(at, pte, Level::Pmd);
    count_page(owner, pte, 1);
    result.kind = host ? FaultKind::Host : FaultKind::File;
    return result;
}

// The kernel's huge_pmd_unshare.
void Kernel::unlink_slot(Mm& mm, VirtAddr slot, HostMm& host) {
    mm.table.unlink(slot, Level::Pud);
    host.remove_guest(mm.id, slot);
    if (host.guests.empty()) destroy_host(host);
}

bool Kernel::unlink_slots(Mm& mm, const Vma& vma) {
    bool unlinked = false;
    for (VirtAddr slot = slot_of(vma.start); slot < vma.end; slot = slot + kPudSize) {
        HostMm* host = slot_host(mm, slot);
        if (!host) continue;
        unlink_slot(mm, slot, *host);
        unlinked = true;
    }
    return unlinked;
}

void Kernel::adopt_slot(Mm& mm, VirtAddr slot, HostMm& host) {
    mm.table.adopt(slot, Level::Pud, host.mm.table);
    mm.rss_huge += host.mm.rss_huge;
    forget_host(host);
}

// The kernel's hugetlb_split, with a flush of its own as there.
void Kernel::split(Mm& mm, VirtAddr address) {
    const Vma* vma = mm.find(address);
    if (!vma || vma->start == address) return;
    const VirtAddr slot = slot_of(address);
    if (vma->has(kVmHugetlb) && slot != address) {
        HostMm* host = slot_host(mm, slot);
        if (host && host->guests.size() > 1) {
            unlink_slot(mm, slot, *host);
            request_flush({{{mm.id, slot, slot + kPudSize}}, true});
        } else if (host) {
            adopt_slot(mm, slot, *host);
        }
    }
    mm.split(address);
}

Kernel::HugeZap Kernel::zap_huge(Mm& mm, VirtAddr start, VirtAddr end) {
    HugeZap zapped;
    for (VirtAddr slot = slot_of(start); slot < end; slot = slot + kPudSize) {
        const VirtAddr from = std::max(start, slot);
        const VirtAddr to = std::min(end, slot + kPudSize);
        HostMm* host = slot_host(mm, slot);
        if (!host) {
            zapped.dropped += zap(mm, from, to);
        } else if (host->guests.size() > 1) {
            unlink_slot(mm, slot, *host);
            zapped.unlinked = true;
        } else {
            zapped.dropped += zap(host->mm, VirtAddr(from - slot), VirtAddr(to - slot));
        }
    }
    return zapped;
}

Kernel::HugeZap Kernel::unmap_huge(Mm& mm, const Vma& vma) {
    HugeZap zapped = zap_huge(mm, vma.start, vma.end);
    zapped.unlinked |= unlink_slots(mm, vma);
    return zapped;
}

bool Kernel::unlink_before_move(Mm& mm, const Vma& vma, VirtAddr to) {
    const bool unlinked = unlink_slots(mm, vma);
    Vma there = vma;
    there.start = to;
    there.end = to + vma.bytes();
    std::uint64_t dropped = 0;
    for (VirtAddr slot = align_up(to, kPudSize); holds_slot(there, slot); slot = slot + kPudSize) {
        const VirtAddr from = vma.start + (slot - to);
        dropped += zap(mm, from, from + kPudSize);
    }
    return unlinked || dropped != 0;
}

Errno Kernel::protect_huge(Mm& mm, VirtAddr start, VirtAddr end, std::uint64_t prot,
                           FlushTarget& changed, bool& unlinked) {
    const Vma* before = mm.find(start);
    if ((prot & ~(before->flags >> 4)) & kVmProtMask) return Errno::Access;
    if ((before->flags & kVmProtMask) == prot) return Errno::Ok;  // also where it is misaligned
    if (!is_aligned(start.value | end.value, kPmdSize)) return Errno::Invalid;
    split(mm, start);
    split(mm, end);
    // What is linked from here on lies wholly in the VMA, and so in [start, end).
    Vma& vma = *mm.find(start);
    vma.flags = (vma.flags & ~kVmProtMask) | prot;
    for (VirtAddr slot = slot_of(start); slot < end; slot = slot + kPudSize) {
        const VirtAddr from = std::max(start, slot);
        const VirtAddr to = std::min(end, slot + kPudSize);
        HostMm* host = slot_host(mm, slot);
        bool flush = false;
        if (!host) {
            flush = protect_leaves(mm, vma, from, to);
        } else if (host->guests.size() > 1) {
            unlink_slot(mm, slot, *host);
            flush = unlinked = true;
        } else {  // nobody else's: it goes along with its VMA's flags
            host->flags = vma.flags;
            host->mm.vmas.begin()->second.flags = vma.flags;
            flush = protect_leaves(host->mm, vma, VirtAddr(0), VirtAddr(kPudSize));
        }
        if (!flush) continue;
        changed.start = std::min(changed.start, from);
        changed.end = std::max(changed.end, to);
    }
    return Errno::Ok;
}

void Kernel::flush_huge(Mm& mm, VirtAddr start, VirtAddr end, const HugeZap& zapped) {
    if (zapped.dropped == 0 && !zapped.unlinked) return;
    if (zapped.unlinked) {  // all that the tables translated
        start = slot_of(start);
        end = align_up(end, kPudSize);
    }
    request_flush({{{mm.id, start, end}}, zapped.unlinked});
}

// As khugepaged collapses a file's pages: mapped again by faults.
void Kernel::make_huge(File& file) {
    if (file.huge()) return;
    for (const auto& [id, held] : mms_) {
        Mm& mm = *held;
        for (const auto& [start, vma] : mm.vmas) {
            if (vma.file.get() != &file || file.cached_end() == 0) continue;
            std::uint64_t dropped = 0;
            mm.table.for_each_leaf(start, vma.end, [&](VirtAddr address, Pte pte, Level level) {
                if (frames_.use(pte.pfn()) != FrameUse::FilePage) return;
                mm.table.replace(address, Pte(), level);
                drop_page(mm, pte);
                ++dropped;
            });
            effects_.ptes_changed += dropped;
            if (dropped != 0) request_flush({{{id, start, vma.end}}, false});
        }
    }
    file.make_huge();
}

}  // namespace ptshare
