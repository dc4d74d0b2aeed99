// Policy `ptshare`: the RFC's cover letter as stated (K. Aziz, RFC v2, April 2023).
//
// A range mapped with MAP_SHARED | MAP_SHARED_PT has a host mm. A guest's PMD entries for the range
// are empty or point at the host's PTE tables; protection belongs to the host.
#include <memory>

#include "../kernel.h"

namespace ptshare {
namespace {

class Ptshare final : public SharingPolicy {
  public:
    Placement placement(const Kernel& kernel, const MapRequest& request) const override {
        const HostMm* host = request.file ? overlapping_host(kernel, request) : nullptr;
        return {host ? host->start : VirtAddr(0), kPmdSize};
    }

    ShareDecision decide(const Kernel& kernel, const MapRequest& request, VirtAddr start,
                         std::uint64_t vm_flags) const override {
        const auto refuse = [](Errno error, Refusal reason) {
            return ShareDecision{error, reason, false};
        };
        if (!(vm_flags & kVmShared)) return refuse(Errno::Invalid, Refusal::Private);
        if (!request.file) return refuse(Errno::Invalid, Refusal::Anonymous);
        if (!is_aligned(start.value, kPmdSize) || !is_aligned(request.length, kPmdSize)) {
            return refuse(Errno::Invalid, Refusal::Misaligned);
        }
        if (const HostMm* host = overlapping_host(kernel, request)) {
            if (host->start != start || host->file_page != request.offset >> kPageShift) {
                return refuse(Errno::Invalid, Refusal::Address);
            }
            if (host->end - host->start != request.length) {
                return refuse(Errno::Invalid, Refusal::Size);
            }
            // The tables hold one protection for all. More than the host's would be a right that
            // nobody granted; less could not be kept from this guest.
            if (vm_flags & ~host->flags) return refuse(Errno::Access, Refusal::Protection);
            if ((host->flags & ~vm_flags) & kVmMayWrite) {
                return refuse(Errno::Access, Refusal::Protection);
            }
            if (vm_flags != host->flags) return refuse(Errno::Invalid, Refusal::Protection);
        }
        return ShareDecision{Errno::Ok, Refusal::Anonymous, true};
    }

    void attach(Kernel& kernel, Mm& mm, Vma& vma,
                const std::vector<CarriedPage>& carried) override {
        MapRequest range;
        range.file = vma.file;
        range.length = vma.bytes();
        range.offset = vma.file_page << kPageShift;
        for (const auto& host : kernel.hosts()) {
            if (overlaps(*host, range)) vma.host = host;
        }
        if (!vma.host) {
            vma.host = kernel.create_host(vma);
            vma.host->guests.push_back({mm.id, vma.start});
            for (const CarriedPage& page : carried) {
                kernel.adopt_page(vma.host->mm, *vma.host->mm.find(page.address), page.address,
                                  page.pte);
            }
            return;
        }
        vma.host->guests.push_back({mm.id, vma.start});
    }

    Errno check_unmap(const Vma& vma, VirtAddr start, VirtAddr end) const override {
        return start == vma.start && end == vma.end ? Errno::Ok : Errno::Invalid;
    }

    Errno check_remap(const Vma&) const override { return Errno::Invalid; }

    bool detach(Kernel& kernel, Mm& mm, Vma& vma) override {
        bool unlinked = false;
        for (VirtAddr at = vma.start; at < vma.end; at = at + kPmdSize) {
            if (mm.table.linked(at) == Pfn(0)) continue;
            mm.table.unlink(at);
            unlinked = true;
        }
        vma.host->remove_guest(mm.id, vma.start);
        if (vma.host->guests.empty()) kernel.destroy_host(*vma.host);
        vma.host.reset();
        return unlinked;
    }

    void fork(Kernel&, Mm& child, Vma& vma) override {
        vma.host->guests.push_back({child.id, vma.start});
    }

    FaultResult fault(Kernel& kernel, Mm& mm, Vma& vma, VirtAddr address, Access access) override {
        HostMm& host = *vma.host;
        const VirtAddr at = host.to_host(vma, address);
        FaultResult result = kernel.fault_in(host.mm, *host.mm.find(at), at, access);
        if (result.is_fatal()) return result;
        if (result.kind == FaultKind::File) result.kind = FaultKind::Host;
        if (mm.table.linked(address) == Pfn(0)) {
            mm.table.link(address, host.mm.table.ensure_pte_table(at, true));
            kernel.count_link();
            result.linked = true;
            if (result.kind == FaultKind::Spurious) result.kind = FaultKind::Link;
        }
        return result;
    }

    Errno protect(Kernel& kernel, Mm&, Vma& vma, VirtAddr start, VirtAddr end,
                  std::uint64_t prot) override {
        HostMm& host = *vma.host;
        const VirtAddr from = host.to_host(vma, start);
        const VirtAddr to = host.to_host(vma, end);
        const Kernel::ProtectResult result = kernel.protect(host.mm, from, to, prot);
        if (result.flush) kernel.request_flush({host.guest_ranges(from, to), false});
        return result.error;
    }

    void discard(Kernel& kernel, Mm&, Vma& vma, VirtAddr start, VirtAddr end) override {
        HostMm& host = *vma.host;
        const VirtAddr from = host.to_host(vma, start);
        const VirtAddr to = host.to_host(vma, end);
        if (kernel.zap(host.mm, from, to) != 0) {
            kernel.request_flush({host.guest_ranges(from, to), false});
        }
    }

  private:
    // Whether the request names file pages that the host maps.
    static bool overlaps(const HostMm& host, const MapRequest& request) {
        const std::uint64_t first = request.offset >> kPageShift;
        const std::uint64_t last = first + (request.length >> kPageShift);
        const std::uint64_t host_last = host.file_page + ((host.end - host.start) >> kPageShift);
        return host.file == request.file && first < host_last && host.file_page < last;
    }

    // The first host of the file that maps some page of the request.
    static const HostMm* overlapping_host(const Kernel& kernel, const MapRequest& request) {
        for (const auto& host : kernel.hosts()) {
            if (overlaps(*host, request)) return host.get();
        }
        return nullptr;
    }
};

const RegisterPolicy kRegistered(
    {"ptshare", "MAP_SHARED_PT as the RFC states it: guests link host tables",
     []() -> std::unique_ptr<SharingPolicy> { return std::make_unique<Ptshare>(); }});

}  // namespace
}  // namespace ptshare
