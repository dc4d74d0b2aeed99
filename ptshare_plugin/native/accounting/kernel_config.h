// Core's settings among the parameters.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "accounting/params.h"
#include "core/kernel.h"

namespace ptshare::engine {

// What share.level may be; none: what the policy does by itself.
constexpr Choice<std::optional<Level>> kShareLevels[] = {
    {"policy", std::nullopt},
    {kLevelNames[index_of(Level::Pte)], Level::Pte},
    {kLevelNames[index_of(Level::Pmd)], Level::Pmd},
    {kLevelNames[index_of(Level::Pud)], Level::Pud},
};

// Each throws std::invalid_argument that names the key, what it is and what it may be.

// All of them but first_frame, which an engine that shares its memory sets.
KernelConfig kernel_config(const Params& params);
// mmu.levels, of the page table and of what caches its entries.
unsigned page_table_levels(const Params& params);
void check_levels(const std::string& key, std::uint64_t levels);
void check_fault_around(const std::string& key, std::uint64_t bytes);

}  // namespace ptshare::engine
