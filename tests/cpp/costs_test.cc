// What system calls cost by their numbers.
#include "accounting/costs.h"

#include <sys/syscall.h>

#include <stdexcept>

#include "check.h"
#include "parameters.h"

using ptshare::Effects;
using ptshare::engine::Costs;

TEST(memory_calls_have_three_prices) {
    const auto params = small_machine();
    const Costs costs(params);
    CHECK_EQ(costs.memory_call(SYS_mmap), params.count("cost.mmap"));
    CHECK_EQ(costs.memory_call(SYS_mremap), params.count("cost.mmap"));
    CHECK_EQ(costs.memory_call(SYS_brk), params.count("cost.mmap"));
    CHECK_EQ(costs.memory_call(SYS_munmap), params.count("cost.munmap"));
    CHECK_EQ(costs.memory_call(SYS_mprotect), params.count("cost.mprotect"));
    CHECK_EQ(costs.memory_call(SYS_madvise), params.count("cost.mprotect"));
}

TEST(another_call_has_no_such_price) {
    const Costs costs(small_machine());
    CHECK_THROWS(costs.memory_call(SYS_fork), std::logic_error, "none about memory");
}

TEST(each_effect_on_tables_has_its_price) {
    const auto params = small_machine();
    const Costs costs(params);
    CHECK_EQ(costs.effects(Effects()), 0U);
    Effects effects;
    effects.ptes_copied = 7;
    CHECK_EQ(costs.effects(effects), 7 * params.count("cost.fork_pte"));
    effects.ptes_changed = 5;
    effects.tables_allocated = 3;
    effects.tables_freed = 2;
    CHECK_EQ(costs.effects(effects),
             7 * params.count("cost.fork_pte") + 5 * params.count("cost.pte_update") +
                 3 * params.count("cost.table_alloc") + 2 * params.count("cost.table_free"));
}
