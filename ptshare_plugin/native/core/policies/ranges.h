// What policies have in common that share the tables of a range: the first process that asks makes
// a host mm with a VMA over it, every process that maps it is a guest, and a guest's entries above
// the shared tables are empty or equal the host's. A policy is a class derived from this.
#pragma once

#include <vector>

#include "../kernel.h"

namespace ptshare {

class SharedRanges : public SharingPolicy {
  public:
    Placement placement(const Kernel& kernel, const MapRequest& request) const override;
    std::uint64_t alignment(const Kernel& kernel) const override { return unit(kernel); }
    void attach(Kernel& kernel, Mm& mm, Vma& vma, const std::vector<CarriedPage>& carried) override;
    Errno check_unmap(const Vma& vma, VirtAddr start, VirtAddr end) const override;
    Errno check_remap(const Vma& vma) const override;
    bool detach(Kernel& kernel, Mm& mm, Vma& vma, Leaving how) override;
    void fork(Kernel& kernel, Mm& child, Vma& vma) override;
    FaultResult fault(Kernel& kernel, Mm& mm, Vma& vma, VirtAddr address, Access access) override;
    std::optional<Level> links_at(const Kernel& kernel) const override {
        return above(level(kernel));
    }
    Errno protect(Kernel& kernel, Mm& mm, Vma& vma, VirtAddr start, VirtAddr end,
                  std::uint64_t prot) override;
    void discard(Kernel& kernel, Mm& mm, Vma& vma, VirtAddr start, VirtAddr end) override;

  protected:
    // Of the tables that guests link.
    virtual Level level(const Kernel& kernel) const = 0;
    // A host has been made for a creator's VMA, which is its first guest.
    virtual void created(Kernel&, Mm& /*creator*/, Vma&) {}

    // Bytes that such a table translates.
    std::uint64_t unit(const Kernel& kernel) const {
        return entry_span(level(kernel)) << kIndexBits;
    }
    // The first host alive that maps some page of the file that the request names, or null.
    static HostMm* overlapping_host(const Kernel& kernel, const File& file, std::uint64_t page,
                                    std::uint64_t pages);
    static HostMm* overlapping_host(const Kernel& kernel, const MapRequest& request);
    // Points the guest's entry at the host's table of `level`, if it does not yet; whether it had
    // to. The host has the table.
    static bool link(Kernel& kernel, Mm& mm, const Vma& vma, VirtAddr address, Level level);
    // Empties the guest's entries of the range that point at tables of `level`; whether there were
    // any. The caller flushes.
    static std::uint64_t unlink_all(Mm& mm, const Vma& vma, Level level);
    // Takes a guest off the list; with the last one the host goes, unless something else keeps it.
    static void leave(Kernel& kernel, Mm& mm, Vma& vma);
};

}  // namespace ptshare
