// mmap and munmap.
#include <algorithm>
#include <utility>

#include "kernel.h"
#include "range.h"

namespace ptshare {

VirtAddr Kernel::mmap_base() const {
    return task_size() - kStackGap;
}

VirtAddr Kernel::find_area(const Mm& mm, std::uint64_t length, std::uint64_t alignment) const {
    VirtAddr top = mmap_base();
    for (auto it = mm.vmas.rbegin();; ++it) {
        const bool last = it == mm.vmas.rend();
        const VirtAddr bottom = last ? kLowest : std::max(kLowest, it->second.room_end());
        if (top > bottom && top - bottom >= length) {
            const VirtAddr start = align_down(top - length, alignment);
            if (start >= bottom) return start;
        }
        if (last) return VirtAddr(0);
        top = std::min(top, it->second.room_start());
    }
}

// As thp_get_unmapped_area: memory that could consist of huge pages is aligned for them.
VirtAddr Kernel::find_anonymous_area(const Mm& mm, std::uint64_t length) const {
    if (is_aligned(length, kPmdSize)) {
        const VirtAddr wide = find_area(mm, length + kPmdSize, kPageSize);
        if (wide != VirtAddr(0)) return align_down(wide + kPmdSize, kPmdSize);
    }
    return find_area(mm, length, kPageSize);
}

std::uint64_t Kernel::vm_flags_of(const MapRequest& request) const {
    std::uint64_t flags = request.prot & kProtMask;
    const std::uint64_t type = request.flags & kMapTypeMask;
    const bool shared = type == kMapShared || type == kMapSharedValidate;
    if (shared) flags |= kVmShared;
    if (request.flags & kMapGrowsDown) flags |= kVmGrowsDown;
    if (!shared && (flags & kVmWrite)) flags |= kVmAccount;
    flags |= kVmMayRead | kVmMayExec;
    if (!request.file || !shared || request.file_writable) flags |= kVmMayWrite;
    return flags;
}

std::vector<CarriedPage> Kernel::pages_to_carry(const Mm& mm, const MapRequest& request,
                                                VirtAddr start) const {
    std::vector<CarriedPage> pages;
    const VirtAddr end = start + request.length;
    for (const auto& [vma_start, vma] : mm.vmas) {
        const VirtAddr from = std::max(start, vma_start);
        const VirtAddr to = std::min(end, vma.end);
        if (from >= to || vma.file != request.file || !vma.has(kVmShared) || vma.host) continue;
        const std::uint64_t page = (request.offset + (from - start)) >> kPageShift;
        if (vma.file_page_of(from) != page) continue;
        mm.table.for_each_leaf(from, to, [&](VirtAddr address, Pte pte, Level) {
            pages.push_back({address, pte});
        });
    }
    return pages;
}

MapResult Kernel::mmap(Mm& mm, const MapRequest& asked) {
    MapRequest request = asked;
    const auto fail = [](Errno error) { return MapResult{error, VirtAddr(0)}; };
    const std::uint64_t type = request.flags & kMapTypeMask;
    if (type == 0 || type > kMapSharedValidate) return fail(Errno::Invalid);
    const bool fixed = (request.flags & (kMapFixed | kMapFixedNoReplace)) != 0;
    const bool shared = type != kMapPrivate;
    if (!request.file && type == kMapSharedValidate) return fail(Errno::Invalid);
    if ((request.flags & kMapGrowsDown) && (request.file || shared)) return fail(Errno::Invalid);
    if (request.length == 0 || !is_aligned(request.offset, kPageSize)) return fail(Errno::Invalid);
    const std::uint64_t asked_length = request.length;
    request.length = page_align(request.length);
    if (!valid_range(VirtAddr(0), request.length, task_size())) return fail(Errno::NoMemory);
    if (request.file) {
        if (!request.file_readable) return fail(Errno::Access);
        if (shared && (request.prot & kProtWrite) && !request.file_writable) {
            return fail(Errno::Access);
        }
    }

    const bool sharing = (request.flags & kMapSharedPt) != 0;
    const SharingPolicy::Placement place =
        sharing ? policy_->placement(*this, request) : SharingPolicy::Placement{};
    request.length = align_up(VirtAddr(request.length), place.granule).value;
    if (!valid_range(VirtAddr(0), request.length, task_size())) return fail(Errno::NoMemory);
    VirtAddr start(0);
    if (fixed) {
        start = request.address;
        if (!is_aligned(start.value, kPageSize)) return fail(Errno::Invalid);
        if (!valid_range(start, request.length, task_size())) return fail(Errno::NoMemory);
        if ((request.flags & kMapFixedNoReplace) && mm.overlaps(start, start + request.length)) {
            return fail(Errno::Exists);
        }
    } else {
        const auto is_free = [&](VirtAddr at) {
            return at >= kLowest && is_aligned(at.value, kPageSize) &&
                   valid_range(at, request.length, task_size()) &&
                   !mm.overlaps(at, at + request.length);
        };
        // As the kernel's round_hint_to_min, and hugetlbfs' rounding up.
        const VirtAddr asked_hint = align_down(request.address, kPageSize);
        const VirtAddr hint = align_up(std::max(asked_hint, kLowest), place.granule);
        if (asked_hint != VirtAddr(0) && is_free(hint)) {
            start = hint;
        } else if (place.preferred != VirtAddr(0) && is_free(place.preferred)) {
            start = place.preferred;
        } else {
            const bool could_be_huge = !request.file && !shared && asked_hint == VirtAddr(0);
            start = could_be_huge
                        ? find_anonymous_area(mm, request.length)
                        : find_area(mm, align_up(VirtAddr(request.length), place.alignment).value,
                                    place.alignment);
            if (start == VirtAddr(0)) return fail(Errno::NoMemory);
        }
    }
    const VirtAddr end = start + request.length;
    const std::uint64_t vm_flags = vm_flags_of(request);

    ShareDecision decision;
    if (sharing) {
        MapRequest exact = request;
        exact.length = asked_length;  // a policy sees what was asked, not what was rounded up
        decision = policy_->decide(*this, exact, start, vm_flags);
        if (decision.share && !has_room(mm, start, end, decision.unit)) {
            decision = ShareDecision::refuse(Errno::Invalid, Refusal::Room);
        }
        if (decision.error != Errno::Ok) {
            ++stats_.refusals[static_cast<unsigned>(decision.reason)];
            return fail(decision.error);
        }
        stats_.fell_back += decision.fell_back ? 1 : 0;
    }
    if (const Errno error = check_unmap(mm, start, end); error != Errno::Ok) return fail(error);
    if (mm.in_others_room(start, end)) return fail(Errno::Invalid);

    if (decision.huge) {
        make_huge(*request.file);
        // A writable mapping makes a hugetlbfs file as long as it reaches.
        const std::uint64_t reach = request.offset + request.length;
        if ((request.prot & kProtWrite) && request.file->size() < reach) {
            request.file->resize(reach);
        }
    }
    std::vector<CarriedPage> carried;
    if (decision.share) carried = pages_to_carry(mm, request, start);
    unmap(mm, start, end);

    Vma vma;
    vma.start = start;
    vma.end = end;
    vma.flags = vm_flags;
    vma.share_requested = sharing;
    vma.file = request.file;
    vma.file_page = vma.file ? request.offset >> kPageShift : vpn_of(start).value;
    if (!vma.file && shared) {
        // Anonymous shared memory is a nameless file in the kernel too (shmem_zero_setup).
        vma.file = create_file("anonymous");
        vma.file->resize(request.length);
        vma.file_page = 0;
    }
    if (decision.share) {
        vma.flags |= kVmSharedPt;
        vma.unit = decision.unit;
    }
    if (decision.huge) vma.flags |= kVmHugetlb;
    Vma& placed = decision.share ? mm.vmas.emplace(start, std::move(vma)).first->second
                                 : mm.insert(std::move(vma));
    if (decision.share) {
        try {
            policy_->attach(*this, mm, placed, carried);
        } catch (const OutOfMemory&) {
            unmap(mm, start, end);
            throw;
        }
    }

    if (request.flags & kMapPopulate) {
        // As populate_vma_page_range: shared pages are only read, so that they stay clean.
        const bool write = (request.prot & kProtWrite) && !shared;
        const Access access = write ? Access::Write : Access::Read;
        const std::uint64_t step = decision.huge ? kPmdSize : kPageSize;
        for (VirtAddr at = start; at < end; at = at + step) {
            if (!populate_page(mm, at, access)) break;  // as Linux: population is best effort
        }
    }
    return MapResult{Errno::Ok, start};
}

bool Kernel::has_room(const Mm& mm, VirtAddr start, VirtAddr end, std::uint64_t unit) const {
    const VirtAddr from = align_down(start, unit);
    const VirtAddr to = align_up(end, unit);
    // What lies within [start, end) makes way for the range, and its room goes with it.
    const bool taken = std::any_of(mm.vmas.begin(), mm.vmas.end(), [&](const auto& item) {
        const Vma& vma = item.second;
        return (from < start && vma.start < start && vma.room_end() > from) ||
               (end < to && vma.end > end && vma.room_start() < to);
    });
    return to <= task_size() && !taken;
}

bool Kernel::populate_page(Mm& mm, VirtAddr at, Access access) {
    for (;;) {
        const auto leaf = mm.table.leaf(at);
        if (leaf && leaf->pte.permits(access)) return true;
        const FaultResult result = fault(mm, at, access);
        if (result.is_fatal()) return false;
        auto& populated = effects_.populated;
        if (populated.empty() || !(populated.back().result == result)) {
            populated.push_back({result, 0});
        }
        ++populated.back().times;
    }
}

Errno Kernel::check_unmap(const Mm& mm, VirtAddr start, VirtAddr end) const {
    for (const auto& [vma_start, vma] : mm.vmas) {
        if (vma_start >= end) break;
        if (vma.end <= start) continue;
        const VirtAddr from = std::max(start, vma.start);
        const VirtAddr to = std::min(end, vma.end);
        // The kernel's hugetlb_vm_op_split.
        if (vma.has(kVmHugetlb) && !is_aligned(from.value | to.value, kPmdSize)) {
            return Errno::Invalid;
        }
        if (!vma.host) continue;
        const Errno error = policy_->check_unmap(vma, from, to);
        if (error != Errno::Ok) return error;
    }
    return Errno::Ok;
}

void Kernel::free_tables(Mm& mm, VirtAddr start, VirtAddr end) {
    // The kernel's free_pgtables: from the end of the VMA before to the start of the one after.
    const Vma* before = mm.before(start);
    const Vma* after = mm.after(end);
    mm.table.free_tables(before ? before->end : VirtAddr(0), after ? after->start : kEverything);
}

void Kernel::unmap(Mm& mm, VirtAddr start, VirtAddr end, Leaving how) {
    split(mm, start);
    split(mm, end);
    auto it = mm.vmas.lower_bound(start);
    if (it == mm.vmas.end() || it->second.start >= end) return;
    const std::uint64_t freed_before = tables_.freed();
    bool unlinked = false;  // a table left this tree without being freed: walk caches hold it too
    std::uint64_t dropped = 0;
    while (it != mm.vmas.end() && it->second.start < end) {
        if (it->second.host) {
            unlinked |= policy_->detach(*this, mm, it->second, how);
        } else if (it->second.has(kVmHugetlb)) {
            const HugeZap zapped = unmap_huge(mm, it->second);
            dropped += zapped.dropped;
            unlinked |= zapped.unlinked;
        } else {
            dropped += zap(mm, it->second.start, it->second.end);
        }
        it = mm.vmas.erase(it);
    }
    free_tables(mm, start, end);
    const bool freed = unlinked || tables_.freed() != freed_before;
    if (dropped != 0 || freed) request_flush({{{mm.id, start, end}}, freed});
}

Errno Kernel::munmap(Mm& mm, VirtAddr start, std::uint64_t length) {
    if (!is_aligned(start.value, kPageSize) || length == 0) return Errno::Invalid;
    if (!valid_range(start, page_align(length), task_size())) return Errno::Invalid;
    const VirtAddr end = start + page_align(length);
    if (const Errno error = check_unmap(mm, start, end); error != Errno::Ok) return error;
    unmap(mm, start, end);
    return Errno::Ok;
}

}  // namespace ptshare
