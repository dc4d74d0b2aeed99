#include "accounting/kernel_config.h"

#include <stdexcept>

namespace ptshare::engine {

namespace {

constexpr Choice<std::optional<FlushStrategy>> kStrategies[] = {
    {"policy", std::nullopt},
    {name_of(FlushStrategy::CallerOnly), FlushStrategy::CallerOnly},
    {name_of(FlushStrategy::AllCpus), FlushStrategy::AllCpus},
    {name_of(FlushStrategy::Sharers), FlushStrategy::Sharers},
    {name_of(FlushStrategy::Lazy), FlushStrategy::Lazy},
};

}  // namespace

void check_levels(const std::string& key, std::uint64_t levels) {
    if (levels == 4 || levels == 5) return;
    throw std::invalid_argument(key + " must be 4 or 5, not " + std::to_string(levels));
}

void check_fault_around(const std::string& key, std::uint64_t bytes) {
    if (bytes >= kPageSize && bytes <= kPmdSize && (bytes & (bytes - 1)) == 0) return;
    throw std::invalid_argument(key + " must be a power of two from " + std::to_string(kPageSize) +
                                " to " + std::to_string(kPmdSize) + ", not " +
                                std::to_string(bytes));
}

unsigned page_table_levels(const Params& params) {
    const std::uint64_t levels = params.count("mmu.levels");
    check_levels("parameter mmu.levels", levels);
    return static_cast<unsigned>(levels);
}

KernelConfig kernel_config(const Params& params) {
    KernelConfig config;
    config.memory_bytes = params.count("kernel.memory_bytes");
    config.levels = page_table_levels(params);
    config.fault_around_bytes = params.count("kernel.fault_around_bytes");
    check_fault_around("parameter kernel.fault_around_bytes", config.fault_around_bytes);
    config.dirty_tracking = params.flag("kernel.dirty_tracking");
    config.pt_reclaim = params.flag("kernel.pt_reclaim");
    config.share_level = params.choice("share.level", kShareLevels);
    config.share_any_address = params.flag("share.any_address");
    config.share_anonymous = params.flag("share.anonymous");
    config.flush_strategy = params.choice("shootdown.strategy", kStrategies);
    return config;
}

}  // namespace ptshare::engine
