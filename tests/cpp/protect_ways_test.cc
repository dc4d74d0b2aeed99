// The three ways to change a protection: cycles by hand in small cases, and what holds in all.
#include "studies/protect_ways.h"

#include <stdexcept>
#include <string>

#include "check.h"
#include "core/types.h"
#include "parameters.h"

using namespace ptshare;
using namespace ptshare::engine;

namespace {

constexpr auto kReadOnly = ProtectDirection::ReadOnly;
constexpr auto kReadWrite = ProtectDirection::ReadWrite;

ProtectCost measure(ProtectWay way, ProtectDirection direction, unsigned processes, unsigned cores,
                    std::uint64_t piece = kPageSize, const Values& changes = {}) {
    return measure_protect(small_machine(changes),
                           way == ProtectWay::Shared ? "ptshare" : "private",
                           {processes, cores, kPmdSize, piece}, way, direction);
}

std::uint64_t price(const std::string& name) {
    return small_machine().count("cost." + name);
}
constexpr std::uint64_t kStore = 10 - 4;  // of an entry, whose line later tables pushed out of L1
constexpr std::uint64_t kTransfer = 60 - 4;  // a line that another core wrote, beyond an L1 hit

// One page flushed on the CPU itself.
std::uint64_t own_flush() {
    return price("shootdown.local") + price("flush_page");
}
// The call, its one PTE and its flush.
std::uint64_t own_mprotect(std::uint64_t store = kStore) {
    return price("syscall") + price("mprotect") + price("pte_update") + store + own_flush();
}
std::uint64_t sending() {
    return price("syscall") + price("message");
}

}  // namespace

TEST(one_shared_call_and_one_other_cpu) {
    for (const ProtectDirection direction : {kReadOnly, kReadWrite}) {
        const ProtectCost cost = measure(ProtectWay::Shared, direction, 2, 2);
        // The other's walks have the entry's line, too: an upgrade.
        CHECK_EQ(cost.caller_cycles, own_mprotect(kStore + 40) + price("shootdown.first_cpu"));
        CHECK_EQ(cost.change_cycles, cost.caller_cycles + own_flush() + price("shootdown.receive"));
        CHECK(cost.hold_cycles == cost.caller_cycles);
        CHECK_EQ(cost.syscalls, 1U);
        CHECK_EQ(cost.ipis, 1U);
        CHECK_EQ(cost.messages + cost.signals, 0U);
        CHECK_EQ(cost.faults, 0);
    }
}

TEST(a_message_to_one_other_process) {
    const ProtectCost cost = measure(ProtectWay::Message, kReadOnly, 2, 2);
    // The caller's own call, the signal sent, the handler entered, its call.
    const std::uint64_t held = own_mprotect() + sending() + price("signal") + own_mprotect();
    CHECK(cost.hold_cycles == held);
    // It counts itself in a line that the caller's core wrote last, and wakes the caller.
    CHECK_EQ(cost.caller_cycles, held + kTransfer + sending());
    CHECK_EQ(cost.change_cycles,
             2 * own_mprotect() + 2 * sending() + price("syscall") + price("signal") + kTransfer);
    CHECK_EQ(cost.syscalls, 5U);  // two mprotects, two messages, the caller's sleep
    CHECK_EQ(cost.messages, 2U);
    CHECK_EQ(cost.signals, 1U);
    CHECK_EQ(cost.ipis, 0U);
}

TEST(messages_are_handled_at_the_same_time) {
    // given a process a core: the last handler starts when the last signal was sent
    const ProtectCost cost = measure(ProtectWay::Message, kReadOnly, 4, 4);
    CHECK(cost.hold_cycles == own_mprotect() + 3 * sending() + price("signal") + own_mprotect());
}

TEST(on_one_core_messages_are_handled_in_turn) {
    const ProtectCost cost = measure(ProtectWay::Message, kReadOnly, 3, 1);
    // The control page's line stays in the core's cache, its translation may not: what the
    // acknowledgement of the first costs is the excess over the rest.
    const std::uint64_t handled = price("switch") + price("signal") + own_mprotect();
    const std::uint64_t least = own_mprotect() + 2 * sending() + price("syscall") + 2 * handled;
    CHECK(*cost.hold_cycles >= least);
    CHECK(*cost.hold_cycles < least + 2 * (7 + 4 * 201 + 200));
    CHECK(cost.caller_cycles >= *cost.hold_cycles + sending() + price("switch"));
    CHECK_EQ(cost.caller_cycles, cost.change_cycles);  // no other core works
}

TEST(a_trap_is_paid_by_who_comes_later) {
    const ProtectCost cost = measure(ProtectWay::Trap, kReadWrite, 2, 2);
    CHECK_EQ(cost.caller_cycles, own_mprotect());  // and a store that hits in L1
    CHECK_EQ(cost.change_cycles, cost.caller_cycles);
    CHECK_EQ(cost.signals, 1U);
    CHECK_EQ(cost.faults, 1);
    CHECK_EQ(cost.syscalls, 2U);
    CHECK_EQ(cost.ipis, 0U);
    // The refused walk reads the leaf at least once, and four entries from memory at most.
    const std::uint64_t trapped =
        price("fault.entry") + price("signal") + kTransfer + own_mprotect();
    CHECK(cost.hold_cycles.has_value());
    CHECK(*cost.hold_cycles - cost.caller_cycles >= trapped + 5);
    CHECK(*cost.hold_cycles - cost.caller_cycles <= trapped + 7 + 4 * 201);
}

TEST(a_trap_takes_no_right_away) {
    // No access of the others is refused: their tables still permit it.
    const ProtectCost cost = measure(ProtectWay::Trap, kReadOnly, 4, 2);
    CHECK_EQ(cost.adopted, 1U);
    CHECK(!cost.hold_cycles.has_value());
    CHECK_EQ(cost.signals, 0U);
    CHECK_EQ(cost.faults, 0);
    CHECK_EQ(cost.stale_hits, 0U);
}

TEST(the_new_protection_reaches_every_process) {
    for (const std::uint64_t piece : {kPageSize, 40 * kPageSize}) {
        for (const unsigned processes : {2U, 5U, 9U}) {
            for (const ProtectDirection direction : {kReadOnly, kReadWrite}) {
                for (const ProtectWay way :
                     {ProtectWay::Shared, ProtectWay::Message, ProtectWay::Trap}) {
                    if (way == ProtectWay::Trap && direction == kReadOnly) continue;
                    const ProtectCost cost = measure(way, direction, processes, 3, piece);
                    CHECK_EQ(cost.adopted, processes);
                    CHECK_EQ(cost.stale_hits, 0U);
                    CHECK(cost.hold_cycles.has_value());
                }
            }
        }
    }
}

TEST(calls_and_messages_grow_with_processes_or_do_not) {
    for (const unsigned n : {2U, 3U, 6U, 12U, 24U}) {
        const ProtectCost shared = measure(ProtectWay::Shared, kReadOnly, n, 4);
        CHECK_EQ(shared.syscalls, 1U);
        CHECK_EQ(shared.ipis, (n < 4 ? n : 4) - 1);
        const ProtectCost message = measure(ProtectWay::Message, kReadOnly, n, 4);
        CHECK_EQ(message.syscalls, 2U * n + 1);
        CHECK_EQ(message.messages, n);
        CHECK_EQ(message.signals, n - 1);
        const ProtectCost trap = measure(ProtectWay::Trap, kReadWrite, n, 4);
        CHECK_EQ(trap.syscalls, n);
        CHECK_EQ(trap.signals, n - 1);
        CHECK_EQ(trap.faults, static_cast<std::int64_t>(n) - 1);
    }
}

TEST(work_of_messages_is_linear_in_processes) {
    const auto work = [](unsigned n) {
        return measure(ProtectWay::Message, kReadOnly, n, 16).change_cycles;
    };
    const std::uint64_t step = sending() + price("signal") + own_mprotect() + kTransfer;
    for (const unsigned n : {2U, 3U, 7U, 15U}) CHECK_EQ(work(n + 1) - work(n), step);
}

TEST(equal_settings_give_equal_results) {
    const auto once = [] { return measure(ProtectWay::Message, kReadWrite, 7, 3, 4 * kPageSize); };
    const ProtectCost a = once();
    const ProtectCost b = once();
    CHECK_EQ(a.caller_cycles, b.caller_cycles);
    CHECK_EQ(a.work_cycles(), b.work_cycles());
    CHECK(a.hold_cycles == b.hold_cycles);
}

TEST(settings_that_make_no_measurement) {
    const auto with = [](const std::string& policy, ProtectWay way, ProtectSetting setting) {
        return measure_protect(small_machine(), policy, setting, way, kReadOnly);
    };
    CHECK_THROWS(with("ptshare", ProtectWay::Shared, {1, 1, kPmdSize, kPageSize}),
                 std::invalid_argument, "processes must be 2 or more");
    CHECK_THROWS(with("ptshare", ProtectWay::Shared, {2, 0, kPmdSize, kPageSize}),
                 std::invalid_argument, "cores must be 1 or more");
    CHECK_THROWS(with("ptshare", ProtectWay::Shared, {2, 1, kPageSize, kPageSize}),
                 std::invalid_argument, "multiple of 2 MiB");
    CHECK_THROWS(with("ptshare", ProtectWay::Shared, {2, 1, kPmdSize, 2 * kPmdSize}),
                 std::invalid_argument, "within the region");
    CHECK_THROWS(with("private", ProtectWay::Shared, {2, 1, kPmdSize, kPageSize}),
                 std::invalid_argument, "shares no tables");
    CHECK_THROWS(with("ptshare", ProtectWay::Message, {2, 1, kPmdSize, kPageSize}),
                 std::invalid_argument, "shares tables");
    CHECK(policy_shares_tables(small_machine(), "ptshare"));
    CHECK(!policy_shares_tables(small_machine(), "private"));
}
