// The machine: what faults, switches and flushes cost, to the cycle, and who is charged.
#include "engine/machine.h"

#include <random>

#include "check.h"
#include "parameters.h"

using namespace ptshare;
using namespace ptshare::engine;

namespace {

constexpr VirtAddr kRegion(1ULL << 40);
constexpr std::uint64_t kRegionBytes = 4 << 20;

std::uint64_t stack_of(const Counters& c) {
    return c.cycles_base + c.cycles_fetch + c.cycles_tlb + c.cycles_walk + c.cycles_data +
           c.cycles_fault + c.cycles_syscall + c.cycles_shootdown + c.cycles_switch;
}

// Processes on cores of their own that map one file with MAP_SHARED_PT.
struct World {
    World(const std::string& policy, unsigned processes, unsigned cores, const Values& changes = {})
        : params(small_machine(changes)),
          machine(params, policy, cores, contents),
          file(machine.kernel().create_file("file")),
          tasks(processes) {
        file->resize(kRegionBytes);
        for (Charged& task : tasks) {
            task.mm = &machine.kernel().create_mm();
            MapRequest request;
            request.address = kRegion;
            request.length = kRegionBytes;
            request.prot = kProtRead | kProtWrite;
            request.flags = kMapShared | kMapFixed | kMapSharedPt;
            request.file = file;
            CHECK(machine.kernel().mmap(*task.mm, request).ok());
        }
        machine.kernel().take_effects();
        for (unsigned i = 0; i < processes && i < cores; ++i) run(i, i);
    }
    void run(unsigned process, unsigned core) {
        machine.switch_to(machine.core(core), &tasks[process]);
    }
    void touch(unsigned core, std::uint64_t page, Access access = Access::Read) {
        CHECK(machine.access(machine.core(core), kRegion + page * kPageSize, 8, access));
    }
    void protect(unsigned process, unsigned core, std::uint64_t pages, std::uint64_t prot) {
        CHECK(machine.kernel().mprotect(*tasks[process].mm, kRegion, pages * kPageSize, prot) ==
              Errno::Ok);
        machine.charge_syscall(machine.core(core), 0);
    }
    std::uint64_t cost(const std::string& name) const { return params.count("cost." + name); }
    Counters& counters(unsigned process) { return tasks[process].counters; }

    FrameContents contents;
    Params params;
    Machine machine;
    std::shared_ptr<File> file;
    std::vector<Charged> tasks;
};

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
                                 5 * world.cost("table_alloc"));
    // The failed walk reads the empty PGD entry; the second one finds that line in L1 and reads the
    // other three levels from memory.
    CHECK_EQ(c.cycles_walk, kMemory + kL1 + 3 * kMemory);
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
    CHECK_EQ(c.cycles_fault,
             world.cost("fault.entry") + world.cost("fault.link") + 2 * world.cost("table_alloc"));
    // Its own three upper entries come from memory, the PTE line from where core 0 left it.
    CHECK_EQ(c.pte_reads[index_of(Level::Pte)][static_cast<unsigned>(Served::Llc)], 1U);
    CHECK_EQ(c.cycles_walk, kMemory + kL1 + 2 * kMemory + (40 + 1));
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
        CHECK_EQ(world.counters(i).cycles_fault, world.cost("fault.entry") +
                                                     world.cost("fault.file_page") +
                                                     3 * world.cost("table_alloc"));
    }
}

TEST(one_shared_mprotect_interrupts_who_runs_a_guest) {
    World world("ptshare", 3, 3);
    for (unsigned i = 0; i < 3; ++i) world.touch(i, 0, Access::Write);
    const Counters before = world.counters(0);
    world.protect(0, 0, 1, kProtRead);
    const Counters& c = world.counters(0);
    CHECK_EQ(c.shootdowns - before.shootdowns, 1U);
    CHECK_EQ(c.shootdown_ipis, 2U);
    CHECK_EQ(c.cycles_syscall - before.cycles_syscall, world.cost("pte_update"));
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

TEST(the_shortcut_for_the_last_page_changes_no_count) {
    // given the same accesses through the machine, and one by one through an MMU and caches
    World world("private", 1, 1);
    for (std::uint64_t page = 0; page < 1024; ++page) world.touch(0, page, Access::Write);
    const Params params = small_machine();
    Hierarchy hierarchy(params, 1);
    Mmu mmu(params, 0, hierarchy, world.machine.kernel().tables());
    Counters plain;
    const MmuContext context{world.tasks[0].mm->table.root(), 1};
    const auto step = [&](std::uint64_t at, Access access) {
        const Translation result = mmu.translate(kRegion + at, access, context, plain);
        CHECK(result.ok);
        hierarchy.access(0, result.address,
                         access == Access::Write ? AccessKind::Write : AccessKind::Read, plain);
    };
    // Both TLBs start empty.
    world.protect(0, 0, 1024, kProtRead);
    world.protect(0, 0, 1024, kProtRead | kProtWrite);
    const Counters before = world.counters(0);
    std::mt19937_64 random(5);
    std::uint64_t page = 0;
    for (int i = 0; i < 20000; ++i) {
        if (random() % 4 == 0) page = random() % 1024;
        const std::uint64_t at = page * kPageSize + random() % 512 * 8;
        const Access access = random() % 3 == 0 ? Access::Write : Access::Read;
        step(at, access);
        CHECK(world.machine.access(world.machine.core(0), kRegion + at, 8, access));
    }
    const Counters& c = world.counters(0);
    CHECK_EQ(c.dtlb_accesses - before.dtlb_accesses, plain.dtlb_accesses);
    CHECK_EQ(c.dtlb_misses - before.dtlb_misses, plain.dtlb_misses);
    CHECK_EQ(c.stlb_misses - before.stlb_misses, plain.stlb_misses);
    CHECK_EQ(c.walks_data - before.walks_data, plain.walks_data);
    CHECK_EQ(c.walks_dirty - before.walks_dirty, plain.walks_dirty);
}
