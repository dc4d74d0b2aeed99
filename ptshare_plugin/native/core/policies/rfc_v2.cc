// Policy `rfc-v2`: the patches as posted (K. Aziz, RFC v2, April 2023), to show what they do wrong.
//
//  - What cannot be shared falls back to a private mapping, and nobody is told.
//  - A file has one host range. The creator's first 1 GiB uses the host's whole PMD table, so that
//    it takes no link faults there.
//  - Whoever finds the host's PTE table in place links it and faults again for the page; who finds
//    none maps the page in the host and faults again for the link.
//  - Only mmap counts a reference and only munmap drops one. exit, exec and signals leave theirs
//    behind: the tables leak. A forked child's munmap drops its parent's: the tables are freed
//    while others use them. The model empties the links that would dangle, and counts them.
//  - mprotect and madvise flush the caller's TLB entries alone.
//
// Not as posted: nothing else can be mapped in the 1 GiB around a creator's range (there the
// patches would put it into the host's table), and mremap is EINVAL (they do not look at it).
#include <memory>

#include "ranges.h"

namespace ptshare {
namespace {

class RfcV2 final : public SharedRanges {
  public:
    FlushStrategy flush_strategy() const override { return FlushStrategy::CallerOnly; }

    ShareDecision decide(const Kernel& kernel, const MapRequest& request, VirtAddr start,
                         std::uint64_t vm_flags) const override {
        const auto fall_back = ShareDecision::to_fall_back;
        if (!(vm_flags & kVmShared) || !request.file) return fall_back();
        if (!is_aligned(start.value | request.length, kPmdSize)) return fall_back();
        for (const auto& host : kernel.hosts()) {
            if (host->file != request.file || host->is_dead()) continue;
            const bool equal = host->start == start && host->end - host->start == request.length &&
                               host->file_page == request.offset >> kPageShift &&
                               host->flags == vm_flags;
            return equal ? ShareDecision::to_share(kPmdSize) : fall_back();
        }
        return ShareDecision::to_share(kPmdSize);
    }

    void attach(Kernel& kernel, Mm& mm, Vma& vma,
                const std::vector<CarriedPage>& carried) override {
        SharedRanges::attach(kernel, mm, vma, carried);
        ++vma.host->references;
    }

    void fork(Kernel& kernel, Mm& child, Vma& vma) override {
        vma.unit = kPmdSize;  // the PUD entry is not copied
        SharedRanges::fork(kernel, child, vma);
    }

    bool detach(Kernel& kernel, Mm& mm, Vma& vma, Leaving how) override {
        const std::shared_ptr<HostMm> host = vma.host;
        bool unlinked = unlink_all(mm, vma, Level::Pmd) != 0;
        unlinked |= unlink_all(mm, vma, Level::Pte) != 0;
        if (how == Leaving::Unmap && host->references != 0 && --host->references == 0) {
            free_under_guests(kernel, *host, mm.id);
        }
        leave(kernel, mm, vma);
        return unlinked;
    }

    // Two faults for a page are its own way.
    std::optional<Level> links_at(const Kernel&) const override { return std::nullopt; }

    FaultResult fault(Kernel& kernel, Mm& mm, Vma& vma, VirtAddr address, Access access) override {
        HostMm& host = *vma.host;
        if (host.is_dead()) return FaultResult{};
        const VirtAddr at = host.to_host(vma, address);
        const bool linked = mm.table.linked(address, Level::Pud) != Pfn(0) ||
                            mm.table.linked(address, Level::Pmd) != Pfn(0);
        if (!linked && host.mm.table.has_table(at, Level::Pte)) {
            FaultResult result{FaultKind::Link};
            result.linked = link(kernel, mm, vma, address, Level::Pte);
            return result;
        }
        FaultResult result = kernel.fault_in(host.mm, *host.mm.find(at), at, access);
        if (result.kind == FaultKind::File) result.kind = FaultKind::Host;
        return result;
    }

  protected:
    Level level(const Kernel&) const override { return Level::Pte; }

    void created(Kernel& kernel, Mm& creator, Vma& vma) override {
        if (!kernel.has_room(creator, vma.start, vma.end, kPudSize)) return;
        vma.unit = kPudSize;
        link(kernel, creator, vma, vma.start, Level::Pmd);
    }

  private:
    // The last counted reference is gone: `leaving` is no user any more, the others are.
    static void free_under_guests(Kernel& kernel, HostMm& host, MmId leaving) {
        std::uint64_t dangling = 0, others = 0;
        for (const Guest& guest : host.guests) {
            if (guest.mm == leaving) continue;
            ++others;
            Mm& mm = *kernel.find_mm(guest.mm);
            dangling += unlink_all(mm, *mm.find(guest.start), Level::Pmd);
            dangling += unlink_all(mm, *mm.find(guest.start), Level::Pte);
        }
        kernel.empty_host(host);
        kernel.count_dangling_links(dangling);
        if (others == 0) return;
        // The model's own clean-up reaches everyone, so that the run can go on.
        kernel.request_host_flush(host, host.start, host.end, true, leaving, FlushStrategy::Lazy);
    }
};

const RegisterPolicy kRegistered(
    {"rfc-v2", "the RFC's patches as posted, with their leaks and stale TLB entries", 2,
     kSharesTables | kPageByPage,
     []() -> std::unique_ptr<SharingPolicy> { return std::make_unique<RfcV2>(); }});

}  // namespace
}  // namespace ptshare
