#include "mm.h"

#include <algorithm>
#include <iterator>

namespace ptshare {

namespace {

// As is_mergeable_anon_vma.
bool anon_mergeable(const Vma& low, const Vma& high) {
    if (low.anon_vma == high.anon_vma) return true;
    const Vma& with = low.anon_vma != 0 ? low : high;
    const Vma& without = low.anon_vma != 0 ? high : low;
    return without.anon_vma == 0 && !with.anon_inherited;
}

// Whether two neighbours could have been one mapping. Shared-PT VMAs never merge: each is one range
// of one host.
bool mergeable(const Vma& low, const Vma& high) {
    // VM_HUGETLB VMAs never join (the kernel gives them VM_DONTEXPAND).
    return !low.has(kVmHugetlb) && low.end == high.start && low.flags == high.flags &&
           low.file == high.file && !low.host && !high.host &&
           low.share_requested == high.share_requested &&
           low.file_page_of(low.end) == high.file_page && anon_mergeable(low, high);
}

void join_anon(Vma& vma, const Vma& gone) {
    if (vma.anon_vma == 0) vma.anon_vma = gone.anon_vma;
    vma.anon_inherited |= gone.anon_inherited;
}

}  // namespace

std::uint64_t Mm::vm_pte_bytes() const {
    std::uint64_t pages = 0;
    for (Level level = Level::Pte; level < table.top(); level = above(level)) {
        pages += table.tables(level) + table.linked_tables(level);
    }
    return pages * kPageSize;
}

Vma* Mm::find(VirtAddr address) {
    auto it = vmas.upper_bound(address);
    if (it == vmas.begin()) return nullptr;
    Vma& vma = std::prev(it)->second;
    return address < vma.end ? &vma : nullptr;
}

const Vma* Mm::before(VirtAddr address) const {
    auto it = vmas.lower_bound(address);
    while (it != vmas.begin()) {
        --it;
        if (it->second.end <= address) return &it->second;
    }
    return nullptr;
}

const Vma* Mm::after(VirtAddr address) const {
    const auto it = vmas.lower_bound(address);
    return it == vmas.end() ? nullptr : &it->second;
}

bool Mm::overlaps(VirtAddr start, VirtAddr end) const {
    auto it = vmas.lower_bound(start);
    if (it != vmas.end() && it->second.room_start() < end) return true;
    return it != vmas.begin() && std::prev(it)->second.room_end() > start;
}

bool Mm::in_others_room(VirtAddr start, VirtAddr end) const {
    return std::any_of(vmas.begin(), vmas.end(), [&](const auto& item) {
        const Vma& vma = item.second;
        const bool meets = vma.room_start() < end && start < vma.room_end();
        return vma.host && meets && (vma.start < start || vma.end > end);
    });
}

void Mm::split(VirtAddr address) {
    Vma* low = find(address);
    if (!low || low->start == address) return;
    Vma high = *low;
    high.start = address;
    high.file_page = low->file_page_of(address);
    low->end = address;
    vmas.emplace(address, std::move(high));
}

Vma& Mm::insert(Vma vma) {
    auto it = vmas.emplace(vma.start, std::move(vma)).first;
    // The one before first, as can_vma_merge_right: the neighbours may both fit, but not each
    // other.
    if (it != vmas.begin()) {
        if (const auto prev = std::prev(it); mergeable(prev->second, it->second)) {
            prev->second.end = it->second.end;
            join_anon(prev->second, it->second);
            vmas.erase(it);
            it = prev;
        }
    }
    if (const auto next = std::next(it);
        next != vmas.end() && mergeable(it->second, next->second)) {
        it->second.end = next->second.end;
        join_anon(it->second, next->second);
        vmas.erase(next);
    }
    return it->second;
}

void HostMm::remove_guest(MmId id, VirtAddr at) {
    guests.erase(std::find_if(guests.begin(), guests.end(), [&](const Guest& guest) {
        return guest.mm == id && guest.start == at;
    }));
}

std::vector<FlushTarget> HostMm::guest_ranges(VirtAddr from, VirtAddr to) const {
    std::vector<FlushTarget> ranges;
    ranges.reserve(guests.size());
    for (const Guest& guest : guests) {
        ranges.push_back({guest.mm, guest.start + (from - start), guest.start + (to - start)});
    }
    return ranges;
}

}  // namespace ptshare
