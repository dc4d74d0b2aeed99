// The machine: what faults, switches and flushes cost, to the cycle, and who is charged.
#include <algorithm>
#include <random>

#include "machine_world.h"

using namespace ptshare;
using namespace ptshare::engine;
using namespace ptshare::engine::test;

namespace {

std::uint64_t stack_of(const Counters& c) {
    return c.cycles_base + c.cycles_fetch + c.cycles_tlb + c.cycles_walk + c.cycles_data +
           c.cycles_fault + c.cycles_syscall + c.cycles_shootdown + c.cycles_switch;
}

// Walk reads from lines that another mm had brought in.
std::uint64_t brought_by_others(const Counters& c) {
    std::uint64_t sum = 0;
    for (const auto& level : c.pte_reads_of_others) sum += level[0] + level[1] + level[2];
    return sum;
}

constexpr std::uint64_t kMemory = 200 + 1;  // one PTE read from memory, with the walker's step
constexpr std::uint64_t kL1 = 4 + 1;

}  // namespace

TEST(the_first_touch_of_a_shared_page) {
    World world("ptshare", 2, 2);
    world.touch(0, 0);
    const Counters& c = world.counters(0);
    CHECK_EQ(c.faults_host, 1U);
    CHECK_EQ(c.region_faults_page, 1U);
    // Guest: PUD and PMD table. Host: PUD, PMD and PTE table.
    CHECK_EQ(c.cycles_fault, world.cost("fault.entry") + world.cost("fault.link") +
                                 world.cost("fault.host") + world.cost("fault.file_page") +
                                 5 * world.cost("table_alloc") + c.table_store_cycles);
    // The host's root comes from memory; six lines gave way in L1 to tables that were cleared
    // later.
    CHECK_EQ(c.table_store_cycles, (200U - 4) + 6 * (10 - 4));
    CHECK_EQ(c.table_store_transfers, 0U);
    // The failed walk reads the empty PGD entry, from memory; the second one finds in L1 what the
    // kernel stored.
    CHECK_EQ(c.cycles_walk, kMemory + 4 * kL1);
    CHECK_EQ(c.walks_faulted, 1U);
    CHECK_EQ(c.cycles_tlb, 2U * 7);
    CHECK_EQ(c.cycles_data, 200U - 4);
    CHECK_EQ(world.machine.core(0).clock, stack_of(c));
}

TEST(the_same_page_costs_another_process_a_link) {
    World world("ptshare", 2, 2);
    world.touch(0, 0);
    world.touch(1, 0);
    const Counters& c = world.counters(1);
    CHECK_EQ(c.faults_link, 1U);
    CHECK_EQ(c.faults_host + c.faults_file, 0U);
    CHECK_EQ(c.cycles_fault, world.cost("fault.entry") + world.cost("fault.link") +
                                 2 * world.cost("table_alloc") + c.table_store_cycles);
    // Its own three upper entries are where its kernel made them, the PTE line is in core 0's
    // cache.
    CHECK_EQ(c.pte_reads[index_of(Level::Pte)][static_cast<unsigned>(Served::Llc)], 1U);
    CHECK_EQ(c.pte_reads_of_others[index_of(Level::Pte)][static_cast<unsigned>(Served::Llc)], 1U);
    CHECK_EQ(brought_by_others(c), 1U);
    CHECK_EQ(c.pte_transfers[index_of(Level::Pte)], 1U);
    CHECK_EQ(c.cycles_walk, kMemory + 3 * kL1 + (60 + 1));
    world.touch(0, 1);
    const std::uint64_t faults = c.cycles_fault;
    world.touch(1, 1);
    CHECK_EQ(c.cycles_fault, faults);  // core 0 faulted it in for both
}

TEST(privately_each_process_pays_for_each_page) {
    World world("private", 2, 2);
    world.touch(0, 0);
    world.touch(1, 0);
    for (unsigned i = 0; i < 2; ++i) {
        CHECK_EQ(world.counters(i).faults_file, 1U);
        CHECK_EQ(world.counters(i).cycles_fault,
                 world.cost("fault.entry") + world.cost("fault.file_page") +
                     3 * world.cost("table_alloc") + world.counters(i).table_store_cycles);
        CHECK_EQ(brought_by_others(world.counters(i)), 0U);
    }
}

TEST(who_comes_next_on_a_core_finds_the_lines_of_who_was_there) {
    // given two processes that took turns on one core, so that both have their tables
    World world("ptshare", 2, 1);
    world.touch(0, 0);
    world.run(1, 0);
    world.touch(0, 0);
    // The PTE line came with the first, which cleared the table, and gave way to what the second
    // cleared in L1.
    const auto& pte = world.counters(1).pte_reads_of_others[index_of(Level::Pte)];
    CHECK_EQ(pte[static_cast<unsigned>(Served::L2)], 1U);
    CHECK_EQ(brought_by_others(world.counters(1)), 1U);
    // Page 1: a walk that faults, which the first process is spared, and one after it.
    world.touch(0, 1);
    CHECK_EQ(pte[static_cast<unsigned>(Served::L1)], 2U);
    // Page 8 is in a line of its own, which the first brought in, too: its own when it returns.
    world.touch(0, 8);
    CHECK_EQ(brought_by_others(world.counters(1)), 5U);
    world.run(0, 0);
    world.touch(0, 8);
    CHECK_EQ(brought_by_others(world.counters(0)), 0U);
}

TEST(populated_pages_are_faults_that_do_not_enter_the_kernel) {
    World world("private", 1, 1);
    MapRequest request;
    request.address = kRegion + kRegionBytes;
    request.length = 5 * kPageSize;
    request.prot = kProtRead | kProtWrite;
    request.flags = kMapPrivate | kMapAnonymous | kMapFixed | kMapPopulate;
    CHECK(world.machine.kernel().mmap(*world.tasks[0].mm, request).ok());
    world.machine.charge_syscall(world.machine.core(0), 7);
    const Counters& c = world.counters(0);
    CHECK_EQ(c.faults_anon, 5U);
    CHECK_EQ(minor_faults(c), 5U);
    CHECK_EQ(c.cycles_fault, 0U);
    CHECK_EQ(c.cycles_syscall, 7 + 5 * world.cost("fault.anon_page") +
                                   3 * world.cost("table_alloc") + c.table_store_cycles);
    CHECK_EQ(world.machine.core(0).clock, stack_of(c));
    // Charged once.
    world.machine.charge_syscall(world.machine.core(0), 0);
    CHECK_EQ(c.faults_anon, 5U);
}

TEST(one_shared_mprotect_interrupts_who_runs_a_guest) {
    World world("ptshare", 3, 3);
    for (unsigned i = 0; i < 3; ++i) world.touch(i, 0, Access::Write);
    const Counters before = world.counters(0);
    world.protect(0, 0, 1, kProtRead);
    const Counters& c = world.counters(0);
    CHECK_EQ(c.shootdowns - before.shootdowns, 1U);
    CHECK_EQ(c.shootdown_ipis, 2U);
    // The entry's line has been read by the others' walks: as an upgrade of data.
    CHECK_EQ(c.table_store_cycles - before.table_store_cycles, 40U);
    CHECK_EQ(c.table_stores - before.table_stores, 1U);
    CHECK_EQ(c.cycles_syscall - before.cycles_syscall, world.cost("pte_update") + 40);
    const std::uint64_t own = world.cost("shootdown.local") + world.cost("flush_page");
    CHECK_EQ(c.cycles_shootdown - before.cycles_shootdown,
             own + world.cost("shootdown.first_cpu") + world.cost("shootdown.next_cpu"));
    for (unsigned i = 1; i < 3; ++i) {
        CHECK_EQ(world.counters(i).shootdown_received, 1U);
        CHECK_EQ(world.counters(i).cycles_shootdown, own + world.cost("shootdown.receive"));
        // No translation survives: the write is refused.
        CHECK(!world.machine.access(world.machine.core(i), kRegion, 8, Access::Write));
        CHECK_EQ(world.counters(i).faults_segv, 1U);
    }
}

TEST(a_private_mprotect_concerns_the_caller_alone) {
    World world("private", 3, 3);
    for (unsigned i = 0; i < 3; ++i) world.touch(i, 0, Access::Write);
    world.protect(0, 0, 1, kProtRead);
    CHECK_EQ(world.counters(0).shootdown_ipis, 0U);
    CHECK_EQ(world.counters(1).shootdown_received, 0U);
    world.touch(1, 0, Access::Write);
    CHECK_EQ(world.counters(1).faults_segv, 0U);
}

TEST(above_the_ceiling_the_whole_address_space_is_flushed) {
    World world("private", 1, 1);
    for (std::uint64_t page = 0; page < 40; ++page) world.touch(0, page, Access::Write);
    const std::uint64_t before = world.counters(0).cycles_shootdown;
    world.protect(0, 0, 34, kProtRead);
    CHECK_EQ(world.counters(0).cycles_shootdown - before, world.cost("shootdown.local"));
    // All 40 in the second level, and the eight of the D-TLB.
    CHECK_EQ(world.counters(0).tlb_flushed_entries, 40U + 8);
}

TEST(who_is_not_running_flushes_when_it_is_loaded_again) {
    World world("ptshare", 2, 1);
    world.touch(0, 0, Access::Write);
    world.run(1, 0);
    world.touch(0, 0, Access::Write);
    world.protect(1, 0, 1, kProtRead);
    CHECK_EQ(world.counters(1).shootdown_ipis, 0U);
    world.run(0, 0);
    CHECK(!world.machine.access(world.machine.core(0), kRegion, 8, Access::Write));
}

TEST(pcids_keep_translations_over_a_switch) {
    for (const std::int64_t pcids : {0, 2}) {
        World world("private", 2, 1, {{"mmu.pcids", pcids}});
        world.touch(0, 0);
        world.run(1, 0);
        world.run(0, 0);
        const std::uint64_t walks = world.counters(0).walks_data;
        world.touch(0, 0);
        CHECK_EQ(world.counters(0).walks_data - walks, pcids == 0 ? 1U : 0U);
        CHECK_EQ(world.counters(0).switches, 1U);
        CHECK_EQ(world.counters(0).cycles_switch, world.cost("switch"));
    }
}

TEST(a_third_address_space_takes_the_oldest_pcid) {
    World world("private", 3, 1);
    world.touch(0, 0);
    world.run(1, 0);
    world.run(2, 0);
    world.touch(0, 0);
    // The slot of process 0 went to process 2: its translations must not be taken for its own.
    CHECK_EQ(world.counters(2).walks_data, 2U);
    CHECK_EQ(world.counters(2).faults_file, 1U);
    world.run(0, 0);
    const std::uint64_t walks = world.counters(0).walks_data;
    world.touch(0, 0);
    CHECK_EQ(world.counters(0).walks_data, walks + 1);
}

TEST(lines_and_fractions) {
    World world("private", 1, 1);
    world.touch(0, 0);
    const std::uint64_t accesses = world.counters(0).l1d_accesses;
    CHECK(world.machine.access(world.machine.core(0), kRegion + 60, 8, Access::Read));
    CHECK_EQ(world.counters(0).l1d_accesses, accesses + 2);
    // No code is mapped: the block faults, its instructions are counted all the same.
    for (int i = 0; i < 5; ++i) world.machine.block(world.machine.core(0), kRegion, 3, 1);
    CHECK_EQ(world.counters(0).instructions, 5U);
    CHECK_EQ(world.counters(0).cycles_base, 2U);  // 5 x 0.5, the half is kept for the next
    CHECK_EQ(world.machine.core(0).clock, stack_of(world.counters(0)));
}

TEST(fractions_of_base_cycles_are_kept) {
    World world("private", 1, 1, {{"cpu.base_cpi", 0.375}});
    Core& core = world.machine.core(0);
    std::uint64_t instructions = 0;
    for (unsigned i = 1; i <= 30; ++i) {
        world.machine.block(core, kRegion, 1, i % 4 + 1);
        instructions += i % 4 + 1;
        CHECK_EQ(world.counters(0).cycles_base, instructions * 3 / 8);
    }
    CHECK_EQ(world.counters(0).instructions, instructions);
}

TEST(one_remote_cpu_costs_the_first_of_them) {
    World world("ptshare", 2, 2);
    for (unsigned i = 0; i < 2; ++i) world.touch(i, 0, Access::Write);
    const std::uint64_t clocks[] = {world.machine.core(0).clock, world.machine.core(1).clock};
    world.protect(1, 1, 1, kProtRead);
    const std::uint64_t own = world.cost("shootdown.local") + world.cost("flush_page");
    CHECK_EQ(world.machine.core(1).clock - clocks[1],
             world.cost("pte_update") + 40 + own + world.cost("shootdown.first_cpu"));
    CHECK_EQ(world.machine.core(0).clock - clocks[0], own + world.cost("shootdown.receive"));
    CHECK_EQ(world.counters(1).shootdown_ipis, 1U);
    CHECK_EQ(world.counters(0).shootdown_received, 1U);
    CHECK_EQ(world.counters(0).shootdowns, 0U);
    // Each had the page in its D-TLB and in its second level.
    CHECK_EQ(world.counters(0).tlb_flushed_entries, 2U);
    CHECK_EQ(world.counters(1).tlb_flushed_entries, 2U);
    CHECK(world.machine.take_translations_changed());
    CHECK(!world.machine.take_translations_changed());
}

TEST(a_thread_on_another_core_is_interrupted) {
    // given a process with a thread on each core
    World world("private", 1, 2);
    Charged thread;
    thread.mm = world.tasks[0].mm;
    world.machine.switch_to(world.machine.core(1), &thread);
    world.touch(0, 0, Access::Write);
    world.touch(1, 0, Access::Write);
    CHECK_EQ(thread.counters.faults_file, 0U);
    world.protect(0, 0, 1, kProtRead);
    CHECK_EQ(world.counters(0).shootdown_ipis, 1U);
    CHECK_EQ(thread.counters.shootdown_received, 1U);
    CHECK(!world.machine.access(world.machine.core(1), kRegion, 8, Access::Write));
    world.machine.core(1).running = nullptr;
}

TEST(pages_up_to_the_ceiling_are_flushed_one_by_one) {
    World world("private", 1, 1);
    for (std::uint64_t page = 0; page < 40; ++page) world.touch(0, page, Access::Write);
    const Counters before = world.counters(0);
    world.protect(0, 0, 33, kProtRead);
    const Counters& c = world.counters(0);
    CHECK_EQ(c.cycles_shootdown - before.cycles_shootdown,
             world.cost("shootdown.local") + 33 * world.cost("flush_page"));
    // Five lines of entries, which gave way in L1.
    CHECK_EQ(c.table_stores - before.table_stores, 5U);
    CHECK_EQ(c.cycles_syscall - before.cycles_syscall,
             33 * world.cost("pte_update") + c.table_store_cycles - before.table_store_cycles);
    // The D-TLB held pages 32 to 39: one of them goes.
    CHECK_EQ(c.tlb_flushed_entries, 33U + 1);
    world.touch(0, 39);
    CHECK_EQ(c.walks_data, before.walks_data);
}

TEST(what_a_switch_leaves_behind_costs_exact_cycles) {
    // given two processes on one core, each with page 0 in all caches
    for (const std::int64_t pcids : {0, 2}) {
        // An L1D that has room for the 8 table lines and the data line, all of one set.
        World world("private", 2, 1,
                    {{"mmu.pcids", pcids},
                     {"cache.l1d.bytes", std::int64_t{65536}},
                     {"cache.l1d.ways", std::int64_t{16}},
                     {"cache.l2.bytes", std::int64_t{0}}});
        world.touch(0, 0);
        world.run(1, 0);
        world.touch(0, 0);
        world.run(0, 0);
        // when the first comes back and touches it
        const Counters before = world.counters(0);
        const std::uint64_t clock = world.machine.core(0).clock;
        world.touch(0, 0);
        // then its TLB entry is there, or it walks four entries that are in L1
        const Counters& c = world.counters(0);
        CHECK_EQ(c.cycles_walk - before.cycles_walk, pcids == 0 ? 4 * kL1 : 0U);
        CHECK_EQ(c.cycles_tlb - before.cycles_tlb, pcids == 0 ? 7U : 0U);
        CHECK_EQ(c.cycles_data, before.cycles_data);  // an L1 hit is in the base CPI
        CHECK_EQ(world.machine.core(0).clock - clock, stack_of(c) - stack_of(before));
    }
}

TEST(addresses_that_no_table_reaches_are_fatal) {
    // given a page that may be read
    World world("private", 1, 1);
    world.touch(0, 0);
    Core& core = world.machine.core(0);
    // then it is not met again at addresses that a walk could not tell from its own
    for (const unsigned bit : {48U, 59U, 63U}) {
        const VirtAddr beyond = kRegion + (1ULL << bit);
        CHECK(!world.machine.access(core, beyond, 8, Access::Read));
        CHECK(world.machine.last_fault().kind == FaultKind::Segv);
        CHECK_EQ(world.machine.last_fault().address.value, beyond.value);
        CHECK(!world.machine.make_accessible(core, beyond, Access::Read));
    }
    CHECK_EQ(world.counters(0).faults_segv, 6U);
}

TEST(clocks_add_up_and_no_stale_translation_is_held) {
    // given two processes on each of two cores, and random work: accesses, mprotect, madvise,
    // blocks
    for (const char* policy : {"private", "ptshare"}) {
        for (const std::int64_t pcids : {0, 1, 6}) {
            World world(policy, 4, 2, {{"mmu.pcids", pcids}});
            Kernel& kernel = world.machine.kernel();
            std::mt19937_64 random(17);
            for (int step = 0; step < 6000; ++step) {
                const auto id = static_cast<unsigned>(random() % 2);
                Core& core = world.machine.core(id);
                const std::uint64_t what = random() % 100;
                const std::uint64_t first = random() % 96;
                const VirtAddr at = kRegion + first * kPageSize;
                if (what < 6) {
                    world.machine.switch_to(core, &world.tasks[random() % 2 * 2 + id]);
                } else if (what < 8) {
                    const std::uint64_t length = (random() % 40 + 1) * kPageSize;
                    Mm& mm = *core.running->mm;
                    const std::uint64_t prot = kProtRead | (random() % 2 * kProtWrite);
                    CHECK(kernel.mprotect(mm, at, length, prot) == Errno::Ok);
                    world.machine.charge_syscall(core, 1);
                } else if (what < 9) {
                    constexpr int kDontNeed = 4;
                    Mm& mm = *core.running->mm;
                    CHECK(kernel.madvise(mm, at, 4 * kPageSize, kDontNeed) == Errno::Ok);
                    world.machine.charge_syscall(core, 1);
                } else if (what < 12) {
                    CHECK(!world.machine.block(core, at, 1, 3));
                } else {
                    const Access access = random() % 2 == 0 ? Access::Read : Access::Write;
                    PhysAddr where;
                    const bool ok = world.machine.access(core, at, 8, access, &where);
                    const auto leaf = core.running->mm->table.leaf(at);
                    CHECK_EQ(ok, leaf && leaf->pte.permits(access));
                    if (ok) CHECK_EQ(pfn_of(where).value, leaf->pte.pfn().value);
                }
                // What a core holds of the loaded address space is what the tables say, or less.
                core.mmu->for_each_entry([&](Pcid pcid, VirtAddr address, PageSize, Pte held) {
                    if (pcid != core.context.pcid) return;
                    const auto leaf = core.running->mm->table.leaf(address);
                    CHECK(leaf && leaf->pte.present() && leaf->pte.pfn() == held.pfn());
                    CHECK(leaf && (leaf->pte.writable() || !held.writable()));
                });
                if (check::failures_in_test != 0) return;
            }
            for (unsigned id = 0; id < 2; ++id) {
                CHECK_EQ(world.machine.core(id).clock,
                         stack_of(world.counters(id)) + stack_of(world.counters(id + 2)));
                CHECK(world.counters(id).switches > 30);
                CHECK(world.counters(id).faults_segv > 100);
                CHECK((world.counters(id).shootdown_received > 0) == (policy[1] == 't'));
            }
        }
    }
}

TEST(shortcuts_for_the_last_pages_change_no_count) {
    // given 96 pages that are data and code, not written yet, in two equal machines
    constexpr std::uint64_t kPages = 96;
    World world("private", 1, 1);
    World other("private", 1, 1);
    for (World* each : {&world, &other}) {
        Kernel& kernel = each->machine.kernel();
        CHECK(kernel.mprotect(*each->tasks[0].mm, kRegion, kPages * kPageSize, kProtMask) ==
              Errno::Ok);
        for (std::uint64_t page = 0; page < kPages; ++page) {
            const VirtAddr at = kRegion + page * kPageSize;
            CHECK(kernel.fault(*each->tasks[0].mm, at, Access::Read).kind == FaultKind::File);
        }
        kernel.take_effects();
    }
    // when one of them works as it does, and for the other each access is translated
    const Params params = small_machine();
    Hierarchy hierarchy(params, 1);
    Mmu mmu(params, 0, hierarchy, other.machine.kernel().tables());
    const MmuContext context{other.tasks[0].mm->table.root(), 1};
    Counters plain;
    std::uint64_t last_line = kNoLine;
    const auto translate = [&](VirtAddr at, Access access) {
        const Translation result = mmu.translate(at, access, context, plain);
        CHECK(result.ok);
        plain.cycles_tlb += result.tlb_cycles;
        plain.cycles_walk += result.walk_cycles;
        return result.address;
    };
    std::mt19937_64 random(5);
    std::uint64_t data = 0;
    std::uint64_t code = 0;
    for (int i = 0; i < 40000; ++i) {
        if (random() % 4 == 0) data = random() % kPages;
        if (random() % 4 == 0) code = random() % 4 == 0 ? data : random() % kPages;
        const std::uint64_t offset = random() % 512 * 8;
        if (random() % 2 == 0) {
            // Two lines of code at most, in one page.
            const VirtAddr at = kRegion + code * kPageSize + std::min<std::uint64_t>(offset, 4000);
            CHECK(world.machine.block(world.machine.core(0), at, 64, 2));
            plain.instructions += 2;
            plain.cycles_base += 1;
            const std::uint64_t from = translate(at, Access::Fetch).value;
            for (std::uint64_t line = from & ~63ULL; line <= from + 63; line += 64) {
                if (line == last_line) continue;
                last_line = line;
                ++plain.fetches;
                plain.cycles_fetch +=
                    hierarchy.access(0, PhysAddr(line), AccessKind::Fetch, plain).latency - 4;
            }
            continue;
        }
        const bool write = random() % 3 == 0;
        const Access access = write ? Access::Write : Access::Read;
        const VirtAddr at = kRegion + data * kPageSize + offset;
        CHECK(world.machine.access(world.machine.core(0), at, 8, access));
        ++(write ? plain.data_writes : plain.data_reads);
        const AccessKind kind = write ? AccessKind::Write : AccessKind::Read;
        plain.cycles_data += hierarchy.access(0, translate(at, access), kind, plain).latency - 4;
    }
    // then every counter is the same
#define PTSHARE_SAME(field, name) CHECK_EQ(world.counters(0).field, plain.field);
    PTSHARE_COUNTERS(PTSHARE_SAME)
#undef PTSHARE_SAME
    CHECK(world.counters(0).pte_reads == plain.pte_reads);
    CHECK(plain.walks_dirty > 50 && plain.dtlb_misses > 1000 && plain.itlb_misses > 1000);
}

TEST(an_entry_that_another_core_wrote_is_fetched_from_there) {
    // given a page of a shared table that both cores have walked to
    World world("ptshare", 2, 2);
    world.touch(0, 0, Access::Write);
    world.touch(1, 0, Access::Write);
    const unsigned pte = index_of(Level::Pte);
    for (int round = 0; round < 10; ++round) {
        // when the first changes its protection, and back
        const Counters before = world.counters(0);
        world.protect(0, 0, 1, kProtRead);
        world.protect(0, 0, 1, kProtRead | kProtWrite);
        // then it takes the line from the other once: as an upgrade, both have a copy
        CHECK_EQ(world.counters(0).table_stores - before.table_stores, 2U);
        CHECK_EQ(world.counters(0).table_store_cycles - before.table_store_cycles, 40U);
        // and the other's walk, which its flush forces, takes it from the first one's cache
        const Counters walker = world.counters(1);
        world.touch(1, 0);
        CHECK_EQ(world.counters(1).pte_transfers[pte] - walker.pte_transfers[pte], 1U);
        // (of its own upper entries, one gave way in L1 to the data)
        CHECK_EQ(world.counters(1).cycles_walk - walker.cycles_walk, 2 * kL1 + (10 + 1) + (60 + 1));
    }
    // when the other has written data in that line's place, it is the kernel's store that transfers
    world.protect(1, 1, 1, kProtRead);
    world.protect(0, 0, 1, kProtRead | kProtWrite);
    CHECK_EQ(world.counters(0).table_store_transfers, 1U);
}

TEST(tables_of_a_process_that_was_there_before_are_in_no_cache) {
    World world("private", 1, 1);
    CHECK_EQ(world.counters(0).table_stores, 0U);
    world.touch(0, 0);
    CHECK_EQ(world.counters(0).pte_reads[index_of(Level::Pgd)][3], 1U);
    // PGD, PUD, PMD and PTE entry: a line each.
    CHECK_EQ(world.counters(0).table_stores, 4U);
}
