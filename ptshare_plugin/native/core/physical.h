// Simulated physical memory as a page walker sees it.
#pragma once

#include "pte.h"
#include "types.h"

namespace ptshare {

// What a hardware walker may do to tables: read an entry, and set its A and D bits. Implemented by
// core's table store; kept apart so that an MMU can be tested on hand-made tables.
class TableMemory {
  public:
    virtual ~TableMemory() = default;

    // The entry at `address` (8-byte aligned, inside a live table page).
    virtual Pte read_entry(PhysAddr address) const = 0;
    // Sets bits (Pte::kAccessed, Pte::kDirty) of the entry at `address`.
    virtual void set_entry_bits(PhysAddr address, std::uint64_t bits) = 0;
};

// Where the entry for `address` stands in the table page at position `level`.
inline PhysAddr entry_address(Pfn table, VirtAddr address, Level level) {
    const std::uint64_t index =
        (address.value >> (kPageShift + kIndexBits * index_of(level))) & (kEntries - 1);
    return PhysAddr(address_of(table).value + index * sizeof(Pte));
}

}  // namespace ptshare
