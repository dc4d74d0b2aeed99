#include "ranges.h"

#include <algorithm>

namespace ptshare {

HostMm* SharedRanges::overlapping_host(const Kernel& kernel, const File& file, std::uint64_t page,
                                       std::uint64_t pages) {
    for (const auto& host : kernel.hosts()) {
        const std::uint64_t host_pages = (host->end - host->start) >> kPageShift;
        if (host->file.get() == &file && !host->is_dead() && page < host->file_page + host_pages &&
            host->file_page < page + pages) {
            return host.get();
        }
    }
    return nullptr;
}

HostMm* SharedRanges::overlapping_host(const Kernel& kernel, const MapRequest& request) {
    if (!request.file) return nullptr;
    return overlapping_host(kernel, *request.file, request.offset >> kPageShift,
                            request.length >> kPageShift);
}

SharingPolicy::Placement SharedRanges::placement(const Kernel& kernel,
                                                 const MapRequest& request) const {
    const HostMm* host = overlapping_host(kernel, request);
    return {host ? host->start : VirtAddr(0), unit(kernel)};
}

void SharedRanges::attach(Kernel& kernel, Mm& mm, Vma& vma,
                          const std::vector<CarriedPage>& carried) {
    const HostMm* found =
        overlapping_host(kernel, *vma.file, vma.file_page, vma.bytes() >> kPageShift);
    for (const auto& host : kernel.hosts()) {
        if (host.get() == found) vma.host = host;
    }
    if (found) {
        vma.host->guests.push_back({mm.id, vma.start});
        kernel.count_room(vma);
        return;
    }
    vma.host = kernel.create_host(vma);
    vma.host->level = level(kernel);
    vma.host->guests.push_back({mm.id, vma.start});
    created(kernel, mm, vma);
    kernel.count_room(vma);
    for (const CarriedPage& page : carried) {
        kernel.adopt_page(vma.host->mm, *vma.host->mm.find(page.address), page.address, page.pte);
    }
}

Errno SharedRanges::check_unmap(const Vma& vma, VirtAddr start, VirtAddr end) const {
    return start == vma.start && end == vma.end ? Errno::Ok : Errno::Invalid;
}

Errno SharedRanges::check_remap(const Vma&) const {
    return Errno::Invalid;
}

bool SharedRanges::link(Kernel& kernel, Mm& mm, const Vma& vma, VirtAddr address, Level level) {
    const Level at = above(level);
    if (mm.table.linked(address, at) != Pfn(0)) return false;
    HostMm& host = *vma.host;
    mm.table.link(address, host.mm.table.ensure_table(host.to_host(vma, address), level), at);
    kernel.count_link();
    return true;
}

std::uint64_t SharedRanges::unlink_all(Mm& mm, const Vma& vma, Level level) {
    const std::uint64_t span = entry_span(level) << kIndexBits;
    std::uint64_t unlinked = 0;
    for (VirtAddr at = vma.start; at < vma.end; at = align_down(at + span, span)) {
        if (mm.table.linked(at, above(level)) == Pfn(0)) continue;
        mm.table.unlink(at, above(level));
        ++unlinked;
    }
    return unlinked;
}

void SharedRanges::leave(Kernel& kernel, Mm& mm, Vma& vma) {
    kernel.uncount_room(vma);
    const std::shared_ptr<HostMm> host = std::move(vma.host);
    host->remove_guest(mm.id, vma.start);
    if (host->guests.empty() && !host->is_kept()) kernel.destroy_host(*host);
}

bool SharedRanges::detach(Kernel& kernel, Mm& mm, Vma& vma, Leaving) {
    const bool unlinked = unlink_all(mm, vma, vma.host->level) != 0;
    leave(kernel, mm, vma);
    return unlinked;
}

void SharedRanges::fork(Kernel& kernel, Mm& child, Vma& vma) {
    vma.host->guests.push_back({child.id, vma.start});
    kernel.count_room(vma);
}

FaultResult SharedRanges::fault(Kernel& kernel, Mm& mm, Vma& vma, VirtAddr address, Access access) {
    HostMm& host = *vma.host;
    if (host.is_dead()) return FaultResult{};
    const VirtAddr at = host.to_host(vma, address);
    FaultResult result = kernel.fault_in(host.mm, *host.mm.find(at), at, access);
    if (result.is_fatal()) return result;
    if (result.kind == FaultKind::File) result.kind = FaultKind::Host;
    result.linked = link(kernel, mm, vma, address, host.level);
    if (result.linked && result.kind == FaultKind::Spurious) result.kind = FaultKind::Link;
    return result;
}

Errno SharedRanges::protect(Kernel& kernel, Mm& mm, Vma& vma, VirtAddr start, VirtAddr end,
                            std::uint64_t prot) {
    HostMm& host = *vma.host;
    if (host.is_dead()) return Errno::NoMemory;
    const VirtAddr from = host.to_host(vma, start);
    const VirtAddr to = host.to_host(vma, end);
    const Kernel::ProtectResult result = kernel.protect(host.mm, from, to, prot);
    if (result.flush) kernel.request_host_flush(host, from, to, false, mm.id);
    return result.error;
}

void SharedRanges::discard(Kernel& kernel, Mm& mm, Vma& vma, VirtAddr start, VirtAddr end) {
    HostMm& host = *vma.host;
    if (host.is_dead()) return;
    const VirtAddr from = host.to_host(vma, start);
    const VirtAddr to = host.to_host(vma, end);
    if (kernel.zap(host.mm, from, to) != 0) {
        kernel.request_host_flush(host, from, to, false, mm.id);
    }
}

}  // namespace ptshare
