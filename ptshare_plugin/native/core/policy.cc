#include "policy.h"

#include <algorithm>
#include <stdexcept>
#include <tuple>
#include <utility>

namespace ptshare {

namespace {

// A function's static: registration runs before main, in no known order.
std::vector<PolicyInfo>& registry() {
    static std::vector<PolicyInfo> list;
    return list;
}

[[noreturn]] void makes_no_shared_vma() {
    throw std::logic_error("a VMA with VM_SHARED_PT under a policy that makes none");
}

}  // namespace

SharingPolicy::Placement SharingPolicy::placement(const Kernel&, const MapRequest&) const {
    return Placement{};
}
std::uint64_t SharingPolicy::alignment(const Kernel&) const {
    return 0;
}
ShareDecision SharingPolicy::decide(const Kernel&, const MapRequest&, VirtAddr,
                                    std::uint64_t) const {
    return ShareDecision{};
}
void SharingPolicy::attach(Kernel&, Mm&, Vma&, const std::vector<CarriedPage>&) {
    makes_no_shared_vma();
}
Errno SharingPolicy::check_unmap(const Vma&, VirtAddr, VirtAddr) const {
    makes_no_shared_vma();
}
Errno SharingPolicy::check_remap(const Vma&) const {
    makes_no_shared_vma();
}
bool SharingPolicy::detach(Kernel&, Mm&, Vma&, Leaving) {
    makes_no_shared_vma();
}
void SharingPolicy::end(Kernel&, MmId) {
}
void SharingPolicy::fork(Kernel&, Mm&, Vma&) {
    makes_no_shared_vma();
}
FaultResult SharingPolicy::fault(Kernel&, Mm&, Vma&, VirtAddr, Access) {
    makes_no_shared_vma();
}
Errno SharingPolicy::protect(Kernel&, Mm&, Vma&, VirtAddr, VirtAddr, std::uint64_t) {
    makes_no_shared_vma();
}
void SharingPolicy::discard(Kernel&, Mm&, Vma&, VirtAddr, VirtAddr) {
    makes_no_shared_vma();
}

HostMm* SharingPolicy::slot_host(Kernel&, const Vma&, VirtAddr) {
    return nullptr;
}

RegisterPolicy::RegisterPolicy(PolicyInfo info) {
    registry().push_back(std::move(info));
}

std::vector<PolicyInfo> policies() {
    std::vector<PolicyInfo> list = registry();
    std::sort(list.begin(), list.end(), [](const PolicyInfo& a, const PolicyInfo& b) {
        return std::tie(a.rank, a.name) < std::tie(b.rank, b.name);
    });
    return list;
}

std::unique_ptr<SharingPolicy> make_policy(const std::string& name) {
    std::string known;
    for (const PolicyInfo& info : policies()) {
        if (info.name == name) {
            auto policy = info.make();
            policy->name_ = name;
            return policy;
        }
        known += (known.empty() ? "" : ", ") + info.name;
    }
    throw std::invalid_argument("unknown policy '" + name + "'; there are: " + known);
}

}  // namespace ptshare
