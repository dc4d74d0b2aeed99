// Policy `huge-2m`: private page tables with 2 MiB pages, the alternative that a reviewer asks for
// first. A request with MAP_SHARED_PT is taken as one for a file of hugetlbfs, as a kernel without
// CONFIG_HUGETLB_PMD_PAGE_TABLE_SHARING maps it: every process has its own PMD tables.
#include <memory>

#include "huge.h"

namespace ptshare {
namespace {

const RegisterPolicy kRegistered(
    {"huge-2m", "every process has its own page tables, with 2 MiB pages", 5,
     kStrictAlignment | kCandidate,
     []() -> std::unique_ptr<SharingPolicy> { return std::make_unique<HugePages>(); }});

}  // namespace
}  // namespace ptshare
