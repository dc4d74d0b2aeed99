// Policy `hugetlb-pmd`: what Linux does today for hugetlbfs (CONFIG_HUGETLB_PMD_PAGE_TABLE_SHARING,
// x86-64, read for 6.12 to 6.18): processes that map the same 1 GiB of a file share its PMD table.
//
// A request with MAP_SHARED_PT is taken as one for a file of hugetlbfs with 2 MiB pages. Nothing is
// refused for being unfit to share: such memory has PMD tables of its own.
#include <memory>

#include "../kernel.h"

namespace ptshare {
namespace {

class HugetlbPmd final : public SharingPolicy {
  public:
    Placement placement(const Kernel&, const MapRequest&) const override {
        return {VirtAddr(0), kPmdSize, kPmdSize};
    }

    // hugetlbfs takes private and anonymous mappings too; they share nothing and are not modelled.
    ShareDecision decide(const Kernel&, const MapRequest& request, VirtAddr start,
                         std::uint64_t vm_flags) const override {
        const auto refuse = [](Refusal reason) {
            return ShareDecision{Errno::Invalid, reason, false, false};
        };
        if (!(vm_flags & kVmShared)) return refuse(Refusal::Private);
        if (!request.file) return refuse(Refusal::Anonymous);
        if (!is_aligned(start.value | request.offset, kPmdSize)) return refuse(Refusal::Misaligned);
        // No file of hugetlbfs has such a size.
        if (!is_aligned(request.file->size(), kPmdSize)) return refuse(Refusal::Size);
        return ShareDecision{Errno::Ok, Refusal::Anonymous, false, true};
    }

    // The kernel's want_pmd_share and page_table_shareable: the slot lies wholly in the VMA, and
    // another VMA with the same flags has a table for the same pages of the file. Where the slot is
    // does not matter: a table does not know its address.
    HostMm* slot_host(Kernel& kernel, const Vma& vma, VirtAddr slot) override {
        if (!vma.has(kVmShared) || !holds_slot(vma, slot)) return nullptr;
        for (const auto& host : kernel.hosts()) {
            if (host->file == vma.file && host->file_page == vma.file_page_of(slot) &&
                host->flags == vma.flags) {
                return host.get();
            }
        }
        return kernel.create_slot_host(vma, slot).get();
    }
};

const RegisterPolicy kRegistered(
    {"hugetlb-pmd",
     "hugetlbfs with 2 MiB pages: PMD tables are shared by whole 1 GiB slots (Linux)",
     []() -> std::unique_ptr<SharingPolicy> { return std::make_unique<HugetlbPmd>(); }});

}  // namespace
}  // namespace ptshare
