// mmap, munmap, mremap, brk, madvise.
#include <algorithm>
#include <utility>

#include "kernel.h"

namespace ptshare {

namespace {

// Lowest address that mmap gives out (vm.mmap_min_addr) and the room left for the stack.
constexpr VirtAddr kLowest(0x10000);
constexpr std::uint64_t kStackGap = 128ULL << 20;

constexpr std::uint64_t kMremapMayMove = 1;
constexpr std::uint64_t kMremapFixed = 2;

bool valid_range(VirtAddr start, std::uint64_t length, VirtAddr limit) {
    return length <= limit.value && start.value <= limit.value - length;
}

// Rounds up to whole pages; a length that wraps stays too long for any address space.
std::uint64_t page_align(std::uint64_t bytes) {
    const std::uint64_t rounded = (bytes + kPageSize - 1) & ~(kPageSize - 1);
    return rounded < bytes ? ~std::uint64_t{0} : rounded;
}

}  // namespace

VirtAddr Kernel::find_area(const Mm& mm, std::uint64_t length, std::uint64_t alignment) const {
    VirtAddr top = task_size() - kStackGap;
    for (auto it = mm.vmas.rbegin();; ++it) {
        const bool last = it == mm.vmas.rend();
        const VirtAddr bottom = last ? kLowest : std::max(kLowest, it->second.end);
        if (top > bottom && top - bottom >= length) {
            const VirtAddr start = align_down(top - length, alignment);
            if (start >= bottom) return start;
        }
        if (last) return VirtAddr(0);
        top = std::min(top, it->second.start);
    }
}

std::uint64_t Kernel::vm_flags_of(const MapRequest& request) const {
    std::uint64_t flags = request.prot & kProtMask;
    const std::uint64_t type = request.flags & kMapTypeMask;
    const bool shared = type == kMapShared || type == kMapSharedValidate;
    if (shared) flags |= kVmShared;
    if (request.flags & kMapGrowsDown) flags |= kVmGrowsDown;
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
    VirtAddr start = request.address;
    if (fixed) {
        if (!is_aligned(start.value, kPageSize)) return fail(Errno::Invalid);
        if (!valid_range(start, request.length, task_size())) return fail(Errno::NoMemory);
        if ((request.flags & kMapFixedNoReplace) && mm.overlaps(start, start + request.length)) {
            return fail(Errno::Exists);
        }
    } else {
        const SharingPolicy::Placement place =
            sharing ? policy_->placement(*this, request) : SharingPolicy::Placement{};
        const auto is_free = [&](VirtAddr at) {
            return at >= kLowest && is_aligned(at.value, kPageSize) &&
                   valid_range(at, request.length, task_size()) &&
                   !mm.overlaps(at, at + request.length);
        };
        const VirtAddr hint = align_up(request.address, kPageSize);
        if (start != VirtAddr(0) && is_free(hint)) {
            start = hint;
        } else if (place.preferred != VirtAddr(0) && is_free(place.preferred)) {
            start = place.preferred;
        } else {
            start = find_area(mm, request.length, place.alignment);
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
        if (decision.error != Errno::Ok) {
            ++stats_.refusals[static_cast<unsigned>(decision.reason)];
            return fail(decision.error);
        }
    }
    if (const Errno error = check_unmap(mm, start, end); error != Errno::Ok) return fail(error);

    std::vector<CarriedPage> carried;
    if (decision.share) carried = pages_to_carry(mm, request, start);
    unmap(mm, start, end);

    Vma vma;
    vma.start = start;
    vma.end = end;
    vma.flags = vm_flags;
    vma.share_requested = sharing;
    vma.file = request.file;
    vma.file_page = request.offset >> kPageShift;
    if (!vma.file && shared) {
        // Anonymous shared memory is a nameless file in the kernel too (shmem_zero_setup).
        vma.file = create_file("anonymous");
        vma.file->resize(request.length);
        vma.file_page = 0;
    }
    if (decision.share) vma.flags |= kVmSharedPt;
    Vma& placed = decision.share ? mm.vmas.emplace(start, std::move(vma)).first->second
                                 : mm.insert(std::move(vma));
    if (decision.share) policy_->attach(*this, mm, placed, carried);

    if (request.flags & kMapPopulate) {
        const Access access = request.prot & kProtWrite ? Access::Write : Access::Read;
        for (VirtAddr at = start; at < end; at = at + kPageSize) {
            const auto leaf = mm.table.leaf(at);
            if (leaf && leaf->pte.permits(access)) continue;
            if (fault(mm, at, access).fatal()) break;  // as Linux: population is best effort
        }
    }
    return MapResult{Errno::Ok, start};
}

Errno Kernel::check_unmap(const Mm& mm, VirtAddr start, VirtAddr end) const {
    for (const auto& [vma_start, vma] : mm.vmas) {
        if (vma_start >= end) break;
        if (vma.end <= start || !vma.host) continue;
        const Errno error =
            policy_->check_unmap(vma, std::max(start, vma.start), std::min(end, vma.end));
        if (error != Errno::Ok) return error;
    }
    return Errno::Ok;
}

void Kernel::free_tables(Mm& mm, VirtAddr start, VirtAddr end) {
    // The kernel's free_pgtables: from the end of the VMA before to the start of the one after.
    const Vma* before = mm.before(start);
    const Vma* after = mm.after(end);
    mm.table.free_tables(before ? before->end : VirtAddr(0), after ? after->start : task_size());
}

void Kernel::unmap(Mm& mm, VirtAddr start, VirtAddr end) {
    mm.split(start);
    mm.split(end);
    auto it = mm.vmas.lower_bound(start);
    if (it == mm.vmas.end() || it->second.start >= end) return;
    const std::uint64_t freed_before = tables_.freed();
    bool unlinked = false;  // a table left this tree without being freed: walk caches hold it too
    std::uint64_t dropped = 0;
    while (it != mm.vmas.end() && it->second.start < end) {
        if (it->second.host) {
            unlinked |= policy_->detach(*this, mm, it->second);
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

MapResult Kernel::mremap(Mm& mm, VirtAddr old_start, std::uint64_t old_length,
                         std::uint64_t new_length, std::uint64_t flags, VirtAddr new_start) {
    const auto fail = [](Errno error) { return MapResult{error, VirtAddr(0)}; };
    const bool fixed = (flags & kMremapFixed) != 0;
    if ((flags & ~(kMremapMayMove | kMremapFixed)) != 0 || (fixed && !(flags & kMremapMayMove)) ||
        !is_aligned(old_start.value, kPageSize)) {
        return fail(Errno::Invalid);
    }
    old_length = page_align(old_length);
    new_length = page_align(new_length);
    if (old_length == 0 || new_length == 0) return fail(Errno::Invalid);
    if (!valid_range(old_start, old_length, task_size())) return fail(Errno::Fault);
    if (!valid_range(VirtAddr(0), new_length, task_size())) return fail(Errno::NoMemory);
    const Vma* vma = mm.find(old_start);
    if (!vma || vma->end < old_start + old_length) return fail(Errno::Fault);
    if (vma->host) {
        if (const Errno error = policy_->check_remap(*vma); error != Errno::Ok) return fail(error);
    }
    const VirtAddr old_end = old_start + old_length;
    if (fixed) {
        if (!is_aligned(new_start.value, kPageSize) ||
            !valid_range(new_start, new_length, task_size()) ||
            (new_start < old_end && old_start < new_start + new_length)) {
            return fail(Errno::Invalid);
        }
        if (const Errno error = check_unmap(mm, new_start, new_start + new_length);
            error != Errno::Ok) {
            return fail(error);
        }
    }
    if (new_length < old_length) {
        const Errno error = munmap(mm, old_start + new_length, old_length - new_length);
        if (error != Errno::Ok) return fail(error);
        old_length = new_length;
    }
    if (!fixed) {
        if (new_length == old_length) return MapResult{Errno::Ok, old_start};
        vma = mm.find(old_start);
        const VirtAddr grown_end = old_start + new_length;
        if (vma->end == old_end && valid_range(old_start, new_length, task_size()) &&
            !mm.overlaps(old_end, grown_end)) {
            Vma tail = *vma;
            tail.start = old_end;
            tail.end = grown_end;
            if (tail.file) tail.file_page = vma->file_page_of(old_end);
            mm.insert(std::move(tail));
            return MapResult{Errno::Ok, old_start};
        }
        if (!(flags & kMremapMayMove)) return fail(Errno::NoMemory);
        new_start = find_area(mm, new_length, kPageSize);
        if (new_start == VirtAddr(0)) return fail(Errno::NoMemory);
    } else {
        unmap(mm, new_start, new_start + new_length);
    }

    const VirtAddr moved_end = old_start + old_length;
    mm.split(old_start);
    mm.split(moved_end);
    Vma moved = *mm.find(old_start);
    moved.start = new_start;
    moved.end = new_start + new_length;
    std::vector<CarriedPage> pages;
    mm.table.for_each_leaf(old_start, moved_end, [&](VirtAddr address, Pte pte, Level) {
        pages.push_back({address, pte});
    });
    for (const CarriedPage& page : pages) {
        mm.table.replace(page.address, Pte());
        mm.table.set(new_start + (page.address - old_start), page.pte, Level::Pte,
                     moved.share_requested);
    }
    effects_.ptes_changed += 2 * pages.size();
    mm.vmas.erase(old_start);
    mm.insert(std::move(moved));
    const std::uint64_t freed_before = tables_.freed();
    free_tables(mm, old_start, moved_end);
    const bool freed = tables_.freed() != freed_before;
    if (!pages.empty() || freed) request_flush({{{mm.id, old_start, moved_end}}, freed});
    return MapResult{Errno::Ok, new_start};
}

Errno Kernel::madvise(Mm& mm, VirtAddr start, std::uint64_t length, int advice) {
    // Advice that changes no table here, with Linux's numbers: NORMAL, RANDOM, SEQUENTIAL,
    // WILLNEED, DONTFORK.., HUGEPAGE, NOHUGEPAGE, DONTDUMP, DODUMP, COLD.
    constexpr int kHarmless[] = {0, 1, 2, 3, 14, 15, 16, 17, 20};
    constexpr int kDontNeed = 4;
    const bool harmless =
        std::find(std::begin(kHarmless), std::end(kHarmless), advice) != std::end(kHarmless);
    if ((!harmless && advice != kDontNeed) || !is_aligned(start.value, kPageSize) ||
        !valid_range(start, page_align(length), task_size())) {
        return Errno::Invalid;
    }
    const VirtAddr end = start + page_align(length);
    bool hole = false;
    VirtAddr at = start;
    while (at < end) {
        Vma* vma = mm.find(at);
        if (!vma) {
            hole = true;  // as Linux: the mapped parts are done, then ENOMEM
            const Vma* next = mm.after(at);
            at = next ? std::min(end, next->start) : end;
            continue;
        }
        const VirtAddr stop = std::min(end, vma->end);
        if (advice == kDontNeed) {
            if (vma->host) {
                policy_->discard(*this, mm, *vma, at, stop);
            } else if (zap(mm, at, stop) != 0) {
                request_flush({{{mm.id, at, stop}}, false});
            }
        }
        at = stop;
    }
    return hole ? Errno::NoMemory : Errno::Ok;
}

VirtAddr Kernel::brk(Mm& mm, VirtAddr end) {
    if (end < mm.brk_start || end > task_size() - kStackGap) return mm.brk;
    const VirtAddr old_top = align_up(mm.brk, kPageSize);
    const VirtAddr new_top = align_up(end, kPageSize);
    if (new_top > old_top) {
        if (mm.overlaps(old_top, new_top)) return mm.brk;
        MapRequest request;
        request.address = old_top;
        request.length = new_top - old_top;
        request.prot = kProtRead | kProtWrite;
        request.flags = kMapPrivate | kMapAnonymous | kMapFixed;
        if (!mmap(mm, request).ok()) return mm.brk;
    } else if (new_top < old_top) {
        if (munmap(mm, new_top, old_top - new_top) != Errno::Ok) return mm.brk;
    }
    mm.brk = end;
    return end;
}

}  // namespace ptshare
