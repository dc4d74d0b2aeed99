// mremap, madvise, brk.
#include <algorithm>
#include <utility>

#include "kernel.h"
#include "range.h"

namespace ptshare {

namespace {

constexpr std::uint64_t kMremapMayMove = 1;
constexpr std::uint64_t kMremapFixed = 2;

// As move_page_tables: tables for the new place wherever the old one has some, leaves or not, in
// steps that stay within one PTE table on both sides. A PMD table that translates nothing else
// moves as it is (move_normal_pud).
void make_tables_for_move(PageTable& table, VirtAddr from, std::uint64_t length, VirtAddr to,
                          bool region) {
    const auto left_in_table = [](VirtAddr at) { return kPmdSize - (at.value & (kPmdSize - 1)); };
    for (std::uint64_t done = 0; done < length;) {
        const VirtAddr old_at = from + done, new_at = to + done;
        if (table.has_table(old_at, Level::Pte)) {
            table.ensure_pte_table(new_at, region);
        } else if (table.has_table(old_at, Level::Pmd)) {
            const bool whole =
                is_aligned(old_at.value | new_at.value, kPudSize) && length - done >= kPudSize;
            table.ensure_table(new_at, whole ? Level::Pmd : Level::Pud);
        }
        done += std::min(left_in_table(old_at), left_in_table(new_at));
    }
}

}  // namespace

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
    if (!vma) return fail(Errno::Fault);
    const bool huge = vma->has(kVmHugetlb);
    if (huge) {  // the kernel's align_hugetlb
        old_length = align_up(VirtAddr(old_length), kPmdSize).value;
        new_length = align_up(VirtAddr(new_length), kPmdSize).value;
        const bool aligned = is_aligned(old_start.value, kPmdSize) &&
                             (!fixed || is_aligned(new_start.value, kPmdSize));
        if (!aligned || new_length > old_length) return fail(Errno::Invalid);
    }
    if (vma->end < old_start + old_length) return fail(Errno::Fault);
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
        if (mm.in_others_room(new_start, new_start + new_length)) return fail(Errno::Invalid);
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
            tail.file_page = vma->file_page_of(old_end);
            mm.insert(std::move(tail));
            return MapResult{Errno::Ok, old_start};
        }
        if (!(flags & kMremapMayMove)) return fail(Errno::NoMemory);
        new_start =
            vma->file ? find_area(mm, new_length, kPageSize) : find_anonymous_area(mm, new_length);
        if (new_start == VirtAddr(0)) return fail(Errno::NoMemory);
    } else {
        unmap(mm, new_start, new_start + new_length);
    }

    const VirtAddr moved_end = old_start + old_length;
    split(mm, old_start);
    split(mm, moved_end);
    Vma moved = *mm.find(old_start);
    const bool unlinked = huge && unlink_before_move(mm, moved, new_start);
    moved.start = new_start;
    moved.end = new_start + new_length;
    if (!moved.file && moved.anon_vma == 0) moved.file_page = vpn_of(new_start).value;  // copy_vma
    std::vector<CarriedPage> pages;
    mm.table.for_each_leaf(old_start, moved_end, [&](VirtAddr address, Pte pte, Level) {
        pages.push_back({address, pte});
    });
    try {
        if (huge) {
            for (const CarriedPage& page : pages) {
                mm.table.ensure_table(new_start + (page.address - old_start), Level::Pmd);
            }
        } else {
            make_tables_for_move(mm.table, old_start, old_length, new_start, moved.share_requested);
        }
    } catch (const OutOfMemory&) {  // nothing has moved yet
        free_tables(mm, new_start, new_start + new_length);
        throw;
    }
    const Level level = huge ? Level::Pmd : Level::Pte;
    for (const CarriedPage& page : pages) {
        mm.table.replace(page.address, Pte(), level);
        mm.table.set(new_start + (page.address - old_start), page.pte, level);
    }
    effects_.ptes_changed += 2 * pages.size();
    mm.vmas.erase(old_start);
    // Without UFFD_FEATURE_EVENT_REMAP the registration goes, of neighbours that it joins too:
    // Linux joins them first (copy_vma, then mremap_userfaultfd_prep).
    mm.insert(std::move(moved)).flags &= ~kVmUffdWp;
    const std::uint64_t freed_before = tables_.freed();
    free_tables(mm, old_start, moved_end);
    const bool freed = unlinked || tables_.freed() != freed_before;
    if (!pages.empty() || freed) request_flush({{{mm.id, old_start, moved_end}}, freed});
    return MapResult{Errno::Ok, new_start};
}

Errno Kernel::madvise(Mm& mm, VirtAddr start, std::uint64_t length, int advice) {
    // Advice that changes no table here, with Linux's numbers: NORMAL, RANDOM, SEQUENTIAL,
    // WILLNEED, HUGEPAGE, NOHUGEPAGE, DONTDUMP, DODUMP, COLD.
    constexpr int kHarmless[] = {0, 1, 2, 3, 14, 15, 16, 17, 20};
    constexpr int kDontNeed = 4;
    const bool harmless =
        std::find(std::begin(kHarmless), std::end(kHarmless), advice) != std::end(kHarmless);
    const std::uint64_t bytes = page_align(length);
    if ((!harmless && advice != kDontNeed) || !is_aligned(start.value, kPageSize) ||
        bytes >= ~start.value) {
        return Errno::Invalid;
    }
    const VirtAddr end = start + bytes;
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
        constexpr int kCold = 20;
        if (vma->has(kVmHugetlb) &&
            (advice == kCold || (advice == kDontNeed && !is_aligned(at.value, kPmdSize)))) {
            return Errno::Invalid;
        }
        if (advice == kDontNeed) {
            if (vma->has(kVmPfnMap)) return Errno::Invalid;
            if (vma->has(kVmHugetlb)) {
                // Not more than was asked for.
                const VirtAddr whole = align_down(stop, kPmdSize);
                if (at < whole) flush_huge(mm, at, whole, zap_huge(mm, at, whole));
            } else if (vma->host) {
                policy_->discard(*this, mm, *vma, at, stop);
            } else {
                const bool zapped = zap(mm, at, stop) != 0;
                const bool freed = config_.pt_reclaim && mm.table.free_pte_tables(at, stop);
                if (zapped || freed) request_flush({{{mm.id, at, stop}}, freed});
            }
        }
        at = stop;
    }
    return hole ? Errno::NoMemory : Errno::Ok;
}

Errno Kernel::userfault_register(Mm& mm, VirtAddr start, std::uint64_t length) {
    if (!is_aligned(start.value, kPageSize) || !is_aligned(length, kPageSize) || length == 0 ||
        start < kLowest || !valid_range(start, length, task_size())) {
        return Errno::Invalid;
    }
    const VirtAddr end = start + length;
    // All or nothing: anonymous memory and tmpfs can be registered, other file systems cannot.
    bool found = false;
    for (const auto& [vma_start, vma] : mm.vmas) {
        if (vma.end <= start || vma_start >= end) continue;
        if (vma.file && config_.dirty_tracking) return Errno::Invalid;
        if (vma.has(kVmHugetlb)) return Errno::Invalid;  // Linux can; not modelled
        if (vma.has(kVmPfnMap)) return Errno::Invalid;
        if (!vma.has(kVmMayWrite)) return Errno::NotPermitted;
        found = true;
    }
    if (!found) return Errno::Invalid;
    const auto mark = [](Mm& in, VirtAddr from, VirtAddr to) {
        for (VirtAddr at = from; at < to;) {
            const Vma* vma = in.find(at);
            if (!vma) vma = in.after(at);
            if (!vma || vma->start >= to) break;
            at = std::max(at, vma->start);
            in.split(at);
            in.split(to);
            Vma changed = *in.find(at);
            at = changed.end;
            in.vmas.erase(changed.start);
            changed.flags |= kVmUffdWp;
            in.insert(std::move(changed));
        }
    };
    std::vector<std::pair<VirtAddr, VirtAddr>> own;
    for (const auto& [vma_start, vma] : mm.vmas) {
        const VirtAddr from = std::max(start, vma_start);
        const VirtAddr to = std::min(end, vma.end);
        if (from >= to) continue;
        if (vma.host) {
            mark(vma.host->mm, vma.host->to_host(vma, from), vma.host->to_host(vma, to));
        } else {
            own.emplace_back(from, to);
        }
    }
    for (const auto& [from, to] : own) mark(mm, from, to);
    return Errno::Ok;
}

VirtAddr Kernel::brk(Mm& mm, VirtAddr end) {
    if (mm.brk_start == VirtAddr(0) || end < mm.brk_start || end > mmap_base()) return mm.brk;
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
