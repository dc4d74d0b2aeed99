// What policies have in common that map a request with MAP_SHARED_PT as a file of hugetlbfs with
// 2 MiB pages.
#pragma once

#include "../kernel.h"

namespace ptshare {

class HugePages : public SharingPolicy {
  public:
    Placement placement(const Kernel&, const MapRequest&) const override {
        return {VirtAddr(0), kPmdSize, kPmdSize};
    }
    std::uint64_t alignment(const Kernel&) const override { return kPmdSize; }

    // hugetlbfs takes private and anonymous mappings too; they share nothing and are not modelled.
    ShareDecision decide(const Kernel&, const MapRequest& request, VirtAddr start,
                         std::uint64_t vm_flags) const override {
        const auto refuse = [](Refusal reason) {
            return ShareDecision::refuse(Errno::Invalid, reason);
        };
        if (!(vm_flags & kVmShared)) return refuse(Refusal::Private);
        if (!request.file) return refuse(Refusal::Anonymous);
        if (!is_aligned(start.value | request.offset, kPmdSize)) return refuse(Refusal::Misaligned);
        // No file of hugetlbfs has such a size.
        if (!is_aligned(request.file->size(), kPmdSize)) return refuse(Refusal::Size);
        return ShareDecision::to_map_huge();
    }
};

}  // namespace ptshare
