// Policy `ptshare`: the RFC's cover letter as stated (K. Aziz, RFC v2, April 2023).
//
// A range mapped with MAP_SHARED | MAP_SHARED_PT has a host mm. What the letter does not allow is
// refused; protection belongs to the host; every way to change or leave a range reaches all
// sharers, and the last guest frees the tables. The letter's open questions are options of the
// kernel: tables of another level, other addresses, anonymous memory.
#include <memory>

#include "ranges.h"

namespace ptshare {
namespace {

class Ptshare final : public SharedRanges {
  public:
    ShareDecision decide(const Kernel& kernel, const MapRequest& request, VirtAddr start,
                         std::uint64_t vm_flags) const override {
        const auto refuse = ShareDecision::refuse;
        if (!(vm_flags & kVmShared)) return refuse(Errno::Invalid, Refusal::Private);
        if (!request.file && !kernel.config().share_anonymous) {
            return refuse(Errno::Invalid, Refusal::Anonymous);
        }
        if (!is_aligned(start.value, unit(kernel)) || !is_aligned(request.length, kPmdSize)) {
            return refuse(Errno::Invalid, Refusal::Misaligned);
        }
        if (const HostMm* host = overlapping_host(kernel, request)) {
            const bool elsewhere = host->start != start && !kernel.config().share_any_address;
            if (elsewhere || host->file_page != request.offset >> kPageShift) {
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
        return ShareDecision::to_share(unit(kernel));
    }

  protected:
    Level level(const Kernel& kernel) const override {
        return kernel.config().share_level.value_or(Level::Pte);
    }
};

const RegisterPolicy kRegistered(
    {"ptshare", "MAP_SHARED_PT as the RFC states it: guests link host tables", 1,
     kSharesTables | kStrictAlignment | kCandidate,
     []() -> std::unique_ptr<SharingPolicy> { return std::make_unique<Ptshare>(); }});

}  // namespace
}  // namespace ptshare
