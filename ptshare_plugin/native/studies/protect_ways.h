// Three ways to give memory that many processes share another protection, measured on the machine:
// one mprotect on shared tables, a message to each process, a trap on a mismatch in each.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>

#include "accounting/params.h"

namespace ptshare::engine {

enum class ProtectWay : unsigned {
    Shared,   // the caller's mprotect changes the tables of all
    Message,  // the caller signals each process; each calls mprotect and acknowledges
    Trap,     // the caller publishes the protection; each other adopts it in its SIGSEGV handler
};
enum class ProtectDirection : unsigned { ReadOnly, ReadWrite };

struct ProtectSetting {
    unsigned processes = 0;
    unsigned cores = 0;        // process p runs on core p % cores
    std::uint64_t region = 0;  // bytes that each process maps; a multiple of 2 MiB
    std::uint64_t piece = 0;   // bytes of it, from its start, whose protection changes
    // Called now and then; what it throws ends the measurement.
    std::function<void()> look{};
};

// What one change cost. Cycles are of simulated cores. Afterwards every process touches the piece
// once; the same touches without a change are `baseline_cycles`, and counts are net of theirs.
struct ProtectCost {
    std::uint64_t caller_cycles = 0;  // until the caller goes on
    // Until the last process has the new protection; none when some process never gets it.
    std::optional<std::uint64_t> hold_cycles;
    std::uint64_t change_cycles = 0;  // work of all cores while it is changed
    std::uint64_t touch_cycles = 0;   // and while all touch it afterwards
    std::uint64_t baseline_cycles = 0;
    std::uint64_t syscalls = 0;
    std::uint64_t messages = 0;
    std::uint64_t signals = 0;
    std::int64_t faults = 0;
    std::int64_t switches = 0;
    std::int64_t walks = 0;
    std::uint64_t ipis = 0;        // flushes asked of other CPUs
    std::uint64_t adopted = 0;     // processes whose tables have the new protection in the end
    std::uint64_t stale_hits = 0;  // writes let through right after, that the tables forbid

    std::int64_t work_cycles() const {
        return static_cast<std::int64_t>(change_cycles + touch_cycles) -
               static_cast<std::int64_t>(baseline_cycles);
    }
};

// Runs the change on machines of its own; equal arguments give equal results. Throws
// std::invalid_argument for a setting or policy that the way cannot be measured with.
ProtectCost measure_protect(const Params& params, const std::string& policy,
                            const ProtectSetting& setting, ProtectWay way,
                            ProtectDirection direction);

// Whether one process's mprotect reaches all that map the region under a policy.
bool policy_shares_tables(const Params& params, const std::string& policy);

}  // namespace ptshare::engine
