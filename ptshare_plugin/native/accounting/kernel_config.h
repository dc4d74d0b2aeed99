// Core's settings among the parameters.
#pragma once

#include "accounting/params.h"
#include "core/kernel.h"

namespace ptshare::engine {

// All of them but first_frame, which an engine that shares its memory sets.
inline KernelConfig kernel_config(const Params& params) {
    KernelConfig config;
    config.memory_bytes = params.count("kernel.memory_bytes");
    config.levels = static_cast<unsigned>(params.count("mmu.levels"));
    config.fault_around_bytes = params.count("kernel.fault_around_bytes");
    config.dirty_tracking = params.flag("kernel.dirty_tracking");
    config.pt_reclaim = params.flag("kernel.pt_reclaim");
    const std::string level = params.text("share.level");
    for (const Level each : {Level::Pte, Level::Pmd, Level::Pud}) {
        if (level == kLevelNames[index_of(each)]) config.share_level = each;
    }
    config.share_any_address = params.flag("share.any_address");
    config.share_anonymous = params.flag("share.anonymous");
    const std::string strategy = params.text("shootdown.strategy");
    for (const FlushStrategy each : kFlushStrategies) {
        if (strategy == name_of(each)) config.flush_strategy = each;
    }
    return config;
}

}  // namespace ptshare::engine
