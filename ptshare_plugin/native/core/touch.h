// What the two ways to touch many pages at once have in common.
#pragma once

#include <algorithm>
#include <cstdint>

#include "tables.h"
#include "types.h"

namespace ptshare {

// Tables that may be missing above PTE tables: of one tree, with five levels.
constexpr std::uint64_t kUpperTables = 3;

// Whole 2 MiB from `at` on that lie before `end` and have their entries in one PMD table.
inline std::uint64_t whole_tables(VirtAddr at, VirtAddr end) {
    if (!is_aligned(at.value, kPmdSize) || end <= at) return 0;
    return std::min((end - at) / kPmdSize, kEntries - entry_index(at, Level::Pmd));
}

}  // namespace ptshare
