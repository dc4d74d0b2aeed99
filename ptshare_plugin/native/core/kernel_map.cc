// mmap and munmap.
#include <algorithm>
#include <utility>

#include "kernel.h"
#include "range.h"

namespace ptshare {

namespace {

// Of a type that check_type() let pass.
bool is_shared(const MapRequest& request) {
    return (request.flags & kMapTypeMask) != kMapPrivate;
}

Errno check_type(const MapRequest& request) {
    const std::uint64_t type = request.flags & kMapTypeMask;
    if (type == 0 || type > kMapSharedValidate) return Errno::Invalid;
    if (!request.file && type == kMapSharedValidate) return Errno::Invalid;
    const bool plain = !request.file && !is_shared(request);
    return (request.flags & kMapGrowsDown) && !plain ? Errno::Invalid : Errno::Ok;
}

}  // namespace

// One call of mmap on its way: what its steps have found so far.
struct Kernel::Mapping {
    explicit Mapping(const MapRequest& asked) : request(asked), length(page_align(asked.length)) {}

    bool sharing() const { return (request.flags & kMapSharedPt) != 0; }
    VirtAddr end() const { return start + length; }

    const MapRequest& request;   // the caller's, as it asked
    std::uint64_t length;        // rounded up to pages, then to what the policy maps
    VirtAddr start;              // from place() on
    std::uint64_t vm_flags = 0;  // from decide() on
    ShareDecision decision;      // from decide() on
};

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
    const bool shared = is_shared(request);
    if (shared) flags |= kVmShared;
    if (request.flags & kMapGrowsDown) flags |= kVmGrowsDown;
    if (!shared && (flags & kVmWrite)) flags |= kVmAccount;
    flags |= kVmMayRead | kVmMayExec;
    if (!request.file || !shared || request.file_writable) flags |= kVmMayWrite;
    return flags;
}

std::vector<CarriedPage> Kernel::pages_to_carry(const Mm& mm, const Mapping& mapping) const {
    const MapRequest& request = mapping.request;
    const VirtAddr start = mapping.start;
    const VirtAddr end = mapping.end();
    std::vector<CarriedPage> pages;
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

MapResult Kernel::mmap(Mm& mm, const MapRequest& request) {
    Mapping mapping(request);
    Errno error = check(request);
    if (error == Errno::Ok) error = place(mm, mapping);
    if (error == Errno::Ok) error = decide(mm, mapping);
    if (error != Errno::Ok) return MapResult{error, VirtAddr(0)};
    insert(mm, mapping);
    if (request.flags & kMapPopulate) populate(mm, mapping);
    return MapResult{Errno::Ok, mapping.start};
}

Errno Kernel::check(const MapRequest& request) const {
    if (const Errno error = check_type(request); error != Errno::Ok) return error;
    if (request.length == 0 || !is_aligned(request.offset, kPageSize)) return Errno::Invalid;
    if (!valid_range(VirtAddr(0), page_align(request.length), task_size())) return Errno::NoMemory;
    if (!request.file) return Errno::Ok;
    const bool writes_file = is_shared(request) && (request.prot & kProtWrite);
    const bool allowed = request.file_readable && (!writes_file || request.file_writable);
    return allowed ? Errno::Ok : Errno::Access;
}

Errno Kernel::place(const Mm& mm, Mapping& mapping) const {
    const MapRequest& request = mapping.request;
    SharingPolicy::Placement preference;
    if (mapping.sharing()) {
        MapRequest whole = request;
        whole.length = mapping.length;
        preference = policy_->placement(*this, whole);
    }
    mapping.length = align_up(VirtAddr(mapping.length), preference.granule).value;
    if (!valid_range(VirtAddr(0), mapping.length, task_size())) return Errno::NoMemory;
    if (request.flags & (kMapFixed | kMapFixedNoReplace)) return place_fixed(mm, mapping);
    mapping.start = choose_place(mm, mapping, preference);
    return mapping.start == VirtAddr(0) ? Errno::NoMemory : Errno::Ok;
}

Errno Kernel::place_fixed(const Mm& mm, Mapping& mapping) const {
    mapping.start = mapping.request.address;
    if (!is_aligned(mapping.start.value, kPageSize)) return Errno::Invalid;
    if (!valid_range(mapping.start, mapping.length, task_size())) return Errno::NoMemory;
    const bool may_replace = (mapping.request.flags & kMapFixedNoReplace) == 0;
    return may_replace || !mm.overlaps(mapping.start, mapping.end()) ? Errno::Ok : Errno::Exists;
}

VirtAddr Kernel::choose_place(const Mm& mm, const Mapping& mapping,
                              const SharingPolicy::Placement& preference) const {
    const MapRequest& request = mapping.request;
    const auto is_free = [&](VirtAddr at) {
        return at >= kLowest && is_aligned(at.value, kPageSize) &&
               valid_range(at, mapping.length, task_size()) &&
               !mm.overlaps(at, at + mapping.length);
    };
    // As the kernel's round_hint_to_min, and hugetlbfs' rounding up.
    const VirtAddr asked_hint = align_down(request.address, kPageSize);
    const VirtAddr hint = align_up(std::max(asked_hint, kLowest), preference.granule);
    if (asked_hint != VirtAddr(0) && is_free(hint)) return hint;
    if (preference.preferred != VirtAddr(0) && is_free(preference.preferred)) {
        return preference.preferred;
    }
    const bool could_be_huge = !request.file && !is_shared(request) && asked_hint == VirtAddr(0);
    if (could_be_huge) return find_anonymous_area(mm, mapping.length);
    const std::uint64_t alignment = preference.alignment;
    return find_area(mm, align_up(VirtAddr(mapping.length), alignment).value, alignment);
}

Errno Kernel::decide(const Mm& mm, Mapping& mapping) {
    const VirtAddr start = mapping.start;
    const VirtAddr end = mapping.end();
    mapping.vm_flags = vm_flags_of(mapping.request);
    if (mapping.sharing()) {
        // A policy sees what was asked, not what was rounded up.
        ShareDecision& decision = mapping.decision;
        decision = policy_->decide(*this, mapping.request, start, mapping.vm_flags);
        if (decision.share && !has_room(mm, start, end, decision.unit)) {
            decision = ShareDecision::refuse(Errno::Invalid, Refusal::Room);
        }
        if (decision.error != Errno::Ok) {
            ++stats_.refusals[static_cast<unsigned>(decision.reason)];
            return decision.error;
        }
        stats_.fell_back += decision.fell_back ? 1 : 0;
    }
    if (const Errno error = check_unmap(mm, start, end); error != Errno::Ok) return error;
    return mm.in_others_room(start, end) ? Errno::Invalid : Errno::Ok;
}

void Kernel::insert(Mm& mm, const Mapping& mapping) {
    const MapRequest& request = mapping.request;
    const ShareDecision& decision = mapping.decision;
    if (decision.huge) {
        make_huge(*request.file);
        // A writable mapping makes a hugetlbfs file as long as it reaches.
        const std::uint64_t reach = request.offset + mapping.length;
        if ((request.prot & kProtWrite) && request.file->size() < reach) {
            request.file->resize(reach);
        }
    }
    std::vector<CarriedPage> carried;
    if (decision.share) carried = pages_to_carry(mm, mapping);
    unmap(mm, mapping.start, mapping.end());
    Vma vma = new_vma(mapping);
    if (!decision.share) {
        mm.insert(std::move(vma));
        return;
    }
    Vma& placed = mm.vmas.emplace(mapping.start, std::move(vma)).first->second;
    try {
        policy_->attach(*this, mm, placed, carried);
    } catch (const OutOfMemory&) {
        unmap(mm, mapping.start, mapping.end());
        throw;
    }
}

Vma Kernel::new_vma(const Mapping& mapping) {
    const MapRequest& request = mapping.request;
    const ShareDecision& decision = mapping.decision;
    Vma vma;
    vma.start = mapping.start;
    vma.end = mapping.end();
    vma.flags = mapping.vm_flags;
    vma.share_requested = mapping.sharing();
    vma.file = request.file;
    vma.file_page = vma.file ? request.offset >> kPageShift : vpn_of(mapping.start).value;
    if (!vma.file && is_shared(request)) {
        // Anonymous shared memory is a nameless file in the kernel too (shmem_zero_setup).
        vma.file = create_file("anonymous");
        vma.file->resize(mapping.length);
        vma.file_page = 0;
    }
    if (decision.share) {
        vma.flags |= kVmSharedPt;
        vma.unit = decision.unit;
    }
    if (decision.huge) vma.flags |= kVmHugetlb;
    return vma;
}

void Kernel::populate(Mm& mm, const Mapping& mapping) {
    // As populate_vma_page_range: shared pages are only read, so that they stay clean.
    const bool write = (mapping.request.prot & kProtWrite) && !is_shared(mapping.request);
    const Access access = write ? Access::Write : Access::Read;
    const std::uint64_t step = mapping.decision.huge ? kPmdSize : kPageSize;
    for (VirtAddr at = mapping.start; at < mapping.end(); at = at + step) {
        if (!populate_page(mm, at, access)) break;  // as Linux: population is best effort
    }
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
