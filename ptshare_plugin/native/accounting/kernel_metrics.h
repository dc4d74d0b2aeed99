// Machine-wide metrics that core alone gives, the same for every engine. Units and meaning:
// vocabulary.h.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/kernel.h"

namespace ptshare::engine {

struct KernelMetric {
    const char* name;
    std::uint64_t (*value)(const Kernel&);
};

const std::vector<KernelMetric>& kernel_metrics();

}  // namespace ptshare::engine
