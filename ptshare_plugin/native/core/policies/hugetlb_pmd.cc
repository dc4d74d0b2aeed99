// Policy `hugetlb-pmd`: what Linux does today for hugetlbfs (CONFIG_HUGETLB_PMD_PAGE_TABLE_SHARING,
// x86-64, read for 6.12 to 6.18): processes that map the same 1 GiB of a file share its PMD table.
//
// A request with MAP_SHARED_PT is taken as one for a file of hugetlbfs with 2 MiB pages. Nothing is
// refused for being unfit to share: such memory has PMD tables of its own.
#include <memory>

#include "huge.h"

namespace ptshare {
namespace {

class HugetlbPmd final : public HugePages {
  public:
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
     "hugetlbfs with 2 MiB pages: PMD tables are shared by whole 1 GiB slots (Linux)", 4,
     kSharesTables | kStrictAlignment,
     []() -> std::unique_ptr<SharingPolicy> { return std::make_unique<HugetlbPmd>(); }});

}  // namespace
}  // namespace ptshare
