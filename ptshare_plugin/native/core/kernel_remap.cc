// mremap, madvise, userfaultfd, brk.
#include <algorithm>
#include <utility>

#include "kernel.h"
#include "range.h"

namespace ptshare {

namespace {

constexpr std::uint64_t kMremapMayMove = 1;
constexpr std::uint64_t kMremapFixed = 2;
constexpr int kMadvDontNeed = 4;
constexpr int kMadvCold = 20;
// Advice that changes no table here, with Linux's numbers: NORMAL, RANDOM, SEQUENTIAL, WILLNEED,
// HUGEPAGE, NOHUGEPAGE, DONTDUMP, DODUMP, COLD.
constexpr int kMadvHarmless[] = {0, 1, 2, 3, 14, 15, 16, 17, kMadvCold};

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

// Gives VMAs in [start, end) VM_UFFD_WP; they are cut at its ends and joined again.
void register_vmas(Mm& mm, VirtAddr start, VirtAddr end) {
    for (VirtAddr at = start; at < end;) {
        const Vma* vma = mm.find(at);
        if (!vma) vma = mm.after(at);
        if (!vma || vma->start >= end) break;
        at = std::max(at, vma->start);
        mm.split(at);
        mm.split(end);
        Vma changed = *mm.find(at);
        at = changed.end;
        mm.vmas.erase(changed.start);
        changed.flags |= kVmUffdWp;
        mm.insert(std::move(changed));
    }
}

}  // namespace

// One call of mremap on its way.
struct Kernel::Remap {
    bool fixed() const { return (flags & kMremapFixed) != 0; }
    bool may_move() const { return (flags & kMremapMayMove) != 0; }
    VirtAddr old_end() const { return old_start + old_length; }
    VirtAddr new_end() const { return new_start + new_length; }

    VirtAddr old_start;
    // Whole pages, and from check_old() on whole huge ones; the old one is what is left of it when
    // the new one is less.
    std::uint64_t old_length;
    std::uint64_t new_length;
    std::uint64_t flags;
    VirtAddr new_start;  // the caller's with MREMAP_FIXED; else found when it has to move
};

MapResult Kernel::mremap(Mm& mm, VirtAddr old_start, std::uint64_t old_length,
                         std::uint64_t new_length, std::uint64_t flags, VirtAddr new_start) {
    const auto fail = [](Errno error) { return MapResult{error, VirtAddr(0)}; };
    Remap remap{old_start, page_align(old_length), page_align(new_length), flags, new_start};
    Errno error = check_arguments(remap);
    if (error == Errno::Ok) error = check_old(mm, remap);
    if (error == Errno::Ok && remap.fixed()) error = check_fixed(mm, remap);
    if (error != Errno::Ok) return fail(error);
    if (remap.new_length < remap.old_length) {
        error = munmap(mm, old_start + remap.new_length, remap.old_length - remap.new_length);
        if (error != Errno::Ok) return fail(error);
        remap.old_length = remap.new_length;
    }
    if (remap.fixed()) {
        unmap(mm, remap.new_start, remap.new_end());
    } else {
        if (remap.new_length == remap.old_length || grow_in_place(mm, remap)) {
            return MapResult{Errno::Ok, old_start};
        }
        if (!remap.may_move()) return fail(Errno::NoMemory);
        remap.new_start = mm.find(old_start)->file ? find_area(mm, remap.new_length, kPageSize)
                                                   : find_anonymous_area(mm, remap.new_length);
        if (remap.new_start == VirtAddr(0)) return fail(Errno::NoMemory);
    }
    move(mm, remap);
    return MapResult{Errno::Ok, remap.new_start};
}

Errno Kernel::check_arguments(const Remap& remap) const {
    if ((remap.flags & ~(kMremapMayMove | kMremapFixed)) != 0 ||
        (remap.fixed() && !remap.may_move()) || !is_aligned(remap.old_start.value, kPageSize) ||
        remap.old_length == 0 || remap.new_length == 0) {
        return Errno::Invalid;
    }
    if (!valid_range(remap.old_start, remap.old_length, task_size())) return Errno::Fault;
    if (!valid_range(VirtAddr(0), remap.new_length, task_size())) return Errno::NoMemory;
    return Errno::Ok;
}

Errno Kernel::check_old(Mm& mm, Remap& remap) const {
    const Vma* vma = mm.find(remap.old_start);
    if (!vma) return Errno::Fault;
    if (vma->has(kVmHugetlb)) {  // the kernel's align_hugetlb
        remap.old_length = align_up(VirtAddr(remap.old_length), kPmdSize).value;
        remap.new_length = align_up(VirtAddr(remap.new_length), kPmdSize).value;
        const bool aligned = is_aligned(remap.old_start.value, kPmdSize) &&
                             (!remap.fixed() || is_aligned(remap.new_start.value, kPmdSize));
        if (!aligned || remap.new_length > remap.old_length) return Errno::Invalid;
    }
    if (vma->end < remap.old_end()) return Errno::Fault;
    return vma->host ? policy_->check_remap(*vma) : Errno::Ok;
}

Errno Kernel::check_fixed(const Mm& mm, const Remap& remap) const {
    if (!is_aligned(remap.new_start.value, kPageSize) ||
        !valid_range(remap.new_start, remap.new_length, task_size()) ||
        (remap.new_start < remap.old_end() && remap.old_start < remap.new_end())) {
        return Errno::Invalid;
    }
    const Errno error = check_unmap(mm, remap.new_start, remap.new_end());
    if (error != Errno::Ok) return error;
    return mm.in_others_room(remap.new_start, remap.new_end()) ? Errno::Invalid : Errno::Ok;
}

bool Kernel::grow_in_place(Mm& mm, const Remap& remap) {
    const Vma& vma = *mm.find(remap.old_start);
    const VirtAddr grown_end = remap.old_start + remap.new_length;
    if (vma.end != remap.old_end() ||
        !valid_range(remap.old_start, remap.new_length, task_size()) ||
        mm.overlaps(remap.old_end(), grown_end)) {
        return false;
    }
    Vma tail = vma;
    tail.start = remap.old_end();
    tail.end = grown_end;
    tail.file_page = vma.file_page_of(tail.start);
    mm.insert(std::move(tail));
    return true;
}

void Kernel::move(Mm& mm, const Remap& remap) {
    const VirtAddr old_start = remap.old_start;
    split(mm, old_start);
    split(mm, remap.old_end());
    Vma moved = *mm.find(old_start);
    const bool huge = moved.has(kVmHugetlb);
    const bool unlinked = huge && unlink_before_move(mm, moved, remap.new_start);
    moved.start = remap.new_start;
    moved.end = remap.new_end();
    if (!moved.file && moved.anon_vma == 0) {  // copy_vma
        moved.file_page = vpn_of(remap.new_start).value;
    }
    std::vector<CarriedPage> pages;
    mm.table.for_each_leaf(old_start, remap.old_end(), [&](VirtAddr address, Pte pte, Level) {
        pages.push_back({address, pte});
    });
    make_tables(mm, remap, moved, pages);
    const Level level = huge ? Level::Pmd : Level::Pte;
    for (const CarriedPage& page : pages) {
        mm.table.replace(page.address, Pte(), level);
        mm.table.set(remap.new_start + (page.address - old_start), page.pte, level);
    }
    effects_.ptes_changed += 2 * pages.size();
    mm.vmas.erase(old_start);
    // Without UFFD_FEATURE_EVENT_REMAP the registration goes, of neighbours that it joins too:
    // Linux joins them first (copy_vma, then mremap_userfaultfd_prep).
    mm.insert(std::move(moved)).flags &= ~kVmUffdWp;
    const std::uint64_t freed_before = tables_.freed();
    free_tables(mm, old_start, remap.old_end());
    const bool freed = unlinked || tables_.freed() != freed_before;
    if (!pages.empty() || freed) request_flush({{{mm.id, old_start, remap.old_end()}}, freed});
}

void Kernel::make_tables(Mm& mm, const Remap& remap, const Vma& moved,
                         const std::vector<CarriedPage>& pages) {
    try {
        if (moved.has(kVmHugetlb)) {
            for (const CarriedPage& page : pages) {
                mm.table.ensure_table(remap.new_start + (page.address - remap.old_start),
                                      Level::Pmd);
            }
        } else {
            make_tables_for_move(mm.table, remap.old_start, remap.old_length, remap.new_start,
                                 moved.share_requested);
        }
    } catch (const OutOfMemory&) {
        free_tables(mm, remap.new_start, remap.new_end());
        throw;
    }
}

Errno Kernel::madvise(Mm& mm, VirtAddr start, std::uint64_t length, int advice) {
    const bool known = advice == kMadvDontNeed ||
                       std::find(std::begin(kMadvHarmless), std::end(kMadvHarmless), advice) !=
                           std::end(kMadvHarmless);
    const std::uint64_t bytes = page_align(length);
    if (!known || !is_aligned(start.value, kPageSize) || bytes >= ~start.value) {
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
        if (vma->has(kVmHugetlb) && advice == kMadvCold) return Errno::Invalid;
        if (advice == kMadvDontNeed) {
            const Errno error = discard(mm, *vma, at, stop);
            if (error != Errno::Ok) return error;
        }
        at = stop;
    }
    return hole ? Errno::NoMemory : Errno::Ok;
}

Errno Kernel::discard(Mm& mm, Vma& vma, VirtAddr start, VirtAddr end) {
    if (vma.has(kVmPfnMap)) return Errno::Invalid;
    if (vma.has(kVmHugetlb)) {
        if (!is_aligned(start.value, kPmdSize)) return Errno::Invalid;
        const VirtAddr whole = align_down(end, kPmdSize);  // not more than was asked for
        if (start < whole) flush_huge(mm, start, whole, zap_huge(mm, start, whole));
    } else if (vma.host) {
        policy_->discard(*this, mm, vma, start, end);
    } else {
        const bool zapped = zap(mm, start, end) != 0;
        const bool freed = config_.pt_reclaim && mm.table.free_pte_tables(start, end);
        if (zapped || freed) request_flush({{{mm.id, start, end}}, freed});
    }
    return Errno::Ok;
}

Errno Kernel::check_userfault(const Mm& mm, VirtAddr start, VirtAddr end) const {
    bool found = false;
    for (const auto& [vma_start, vma] : mm.vmas) {
        if (vma.end <= start || vma_start >= end) continue;
        if (vma.file && config_.dirty_tracking) return Errno::Invalid;
        if (vma.has(kVmHugetlb)) return Errno::Invalid;  // Linux can; not modelled
        if (vma.has(kVmPfnMap)) return Errno::Invalid;
        if (!vma.has(kVmMayWrite)) return Errno::NotPermitted;
        found = true;
    }
    return found ? Errno::Ok : Errno::Invalid;
}

Errno Kernel::userfault_register(Mm& mm, VirtAddr start, std::uint64_t length) {
    if (!is_aligned(start.value, kPageSize) || !is_aligned(length, kPageSize) || length == 0 ||
        start < kLowest || !valid_range(start, length, task_size())) {
        return Errno::Invalid;
    }
    const VirtAddr end = start + length;
    if (const Errno error = check_userfault(mm, start, end); error != Errno::Ok) return error;
    std::vector<std::pair<VirtAddr, VirtAddr>> own;
    for (const auto& [vma_start, vma] : mm.vmas) {
        const VirtAddr from = std::max(start, vma_start);
        const VirtAddr to = std::min(end, vma.end);
        if (from >= to) continue;
        if (vma.host) {
            register_vmas(vma.host->mm, vma.host->to_host(vma, from), vma.host->to_host(vma, to));
        } else {
            own.emplace_back(from, to);
        }
    }
    for (const auto& [from, to] : own) register_vmas(mm, from, to);
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
