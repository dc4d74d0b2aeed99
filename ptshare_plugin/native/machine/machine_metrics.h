// Machine-wide raw metrics by name, the same for whatever front-end drives the machine.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "machine/machine.h"

namespace ptshare::engine {

std::uint64_t machine_cycles(const Machine& machine);  // of the core that is furthest
// Meaningful once every process has ended.
std::vector<std::pair<std::string, std::uint64_t>> machine_metrics(const Machine& machine);
std::vector<std::string> machine_metric_names();

}  // namespace ptshare::engine
