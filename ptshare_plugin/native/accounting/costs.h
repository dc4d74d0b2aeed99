// What kernel work costs, in cycles. Values, units and sources: presets/*.toml.
#pragma once

#include <cstdint>

#include "accounting/params.h"
#include "core/kernel.h"

namespace ptshare::engine {

struct Costs {
    explicit Costs(const Params& params);

    std::uint64_t syscall, fork, exec, exit, switch_to;
    std::uint64_t pte_update, pte_copy, table_alloc, table_free, flush_page;
    std::uint64_t fault_entry, fault_file, fault_around, fault_anon, fault_cow;
    std::uint64_t fault_write_protect, fault_link, fault_host;
    std::uint64_t shootdown_local, shootdown_first, shootdown_next, shootdown_receive;
    std::uint64_t broadcast_issue, broadcast_first, broadcast_next;
    std::uint64_t message, signal;

    // A fault without the tables it allocated: those are effects.
    std::uint64_t fault(const FaultResult& result) const;
    // A system call about memory, by its number, beyond the entry and without its effects. Throws
    // std::logic_error for any other call.
    std::uint64_t memory_call(std::uint64_t number) const;
    // Tables and entries, without flushes.
    std::uint64_t effects(const Effects& effects) const;

    // What a CPU's flush of one target takes beyond shootdown_local. `ceiling`: of pages that are
    // flushed one by one.
    std::uint64_t flush_pages(const FlushTarget& target, std::uint64_t ceiling) const {
        return pages_of(target) > ceiling ? 0 : pages_of(target) * flush_page;
    }
    // What a CPU waits for others: those that it interrupts, or all that a broadcast reaches.
    std::uint64_t interrupts(std::uint64_t cpus) const {
        return cpus == 0 ? 0 : shootdown_first + (cpus - 1) * shootdown_next;
    }
    std::uint64_t broadcast(std::uint64_t cpus) const {
        return cpus == 0 ? 0 : broadcast_first + (cpus - 1) * broadcast_next;
    }

  private:
    std::uint64_t mmap_, munmap_, mprotect_;  // memory_call() says of which calls
};

}  // namespace ptshare::engine
