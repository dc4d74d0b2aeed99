// How a change of shared tables reaches the CPUs: whom each strategy interrupts, what that costs,
// and what is left behind.
#include "machine_world.h"

using namespace ptshare;
using namespace ptshare::engine;
using namespace ptshare::engine::test;

namespace {

// Guests 0 to 2 run on cores 0 to 2; guest 3 ran on core 3, which now runs process 4, no guest any
// more; core 4 never ran anything.
struct Cores : World {
    explicit Cores(const Values& changes, const std::string& policy = "ptshare")
        : World(policy, 5, 5, with_pcids(changes)) {
        CHECK(machine.kernel().munmap(*tasks[4].mm, kRegion, kRegionBytes) == Errno::Ok);
        machine.core(4).running = nullptr;
        machine.kernel().take_effects();
        for (unsigned i = 0; i < 4; ++i) {
            for (std::uint64_t page = 0; page < 3; ++page) touch(i, page, Access::Write);
        }
        run(4, 3);
        for (Charged& task : tasks) task.counters = {};
    }
    static Values with_pcids(Values changes) {
        changes.insert({"mmu.pcids", std::int64_t{6}});
        return changes;
    }

    std::uint64_t flush() const { return cost("shootdown.local") + cost("flush_page"); }
    // What the caller waited.
    std::uint64_t waited(std::uint64_t own) { return counters(0).cycles_shootdown - own; }
};

Values strategy(const char* name, bool batch = true, bool broadcast = false) {
    return {{"shootdown.strategy", std::string(name)},
            {"shootdown.batch", batch},
            {"shootdown.broadcast", broadcast}};
}

}  // namespace

TEST(lazy_interrupts_who_runs_a_guest) {
    Cores w(strategy("lazy"));
    w.protect(0, 0, 1, kProtRead);
    CHECK_EQ(w.counters(0).shootdown_ipis, 2U);
    CHECK_EQ(w.waited(w.flush()), w.cost("shootdown.first_cpu") + w.cost("shootdown.next_cpu"));
    CHECK_EQ(w.counters(4).shootdown_received, 0U);
    CHECK_EQ(w.counters(4).cycles_shootdown, 0U);
}

TEST(sharers_interrupts_who_holds_entries_of_a_guest_too) {
    Cores w(strategy("sharers"));
    w.protect(0, 0, 1, kProtRead);
    CHECK_EQ(w.counters(0).shootdown_ipis, 3U);
    CHECK_EQ(w.waited(w.flush()), w.cost("shootdown.first_cpu") + 2 * w.cost("shootdown.next_cpu"));
    CHECK_EQ(w.counters(4).shootdown_received, 1U);
    CHECK_EQ(w.counters(4).cycles_shootdown, w.flush() + w.cost("shootdown.receive"));
    // Guest 3 finds its other pages' entries where it left them: nothing is due at its return.
    w.run(3, 3);
    w.touch(3, 1, Access::Write);
    CHECK_EQ(w.counters(3).dtlb_misses, 0U);
}

TEST(all_cpus_interrupts_everyone_and_leaves_nothing) {
    Cores w(strategy("all-cpus"));
    w.protect(0, 0, 1, kProtRead);
    CHECK_EQ(w.counters(0).shootdown_ipis, 4U);
    CHECK_EQ(w.waited(w.cost("shootdown.local")),
             w.cost("shootdown.first_cpu") + 3 * w.cost("shootdown.next_cpu"));
    w.touch(1, 1, Access::Write);
    CHECK_EQ(w.counters(1).stlb_misses, 1U);
}

TEST(caller_only_interrupts_nobody_and_the_others_write_on) {
    Cores w(strategy("caller-only"));
    w.protect(0, 0, 1, kProtRead);
    CHECK_EQ(w.counters(0).shootdown_ipis, 0U);
    CHECK_EQ(w.waited(w.flush()), 0U);
    CHECK(!w.machine.access(w.machine.core(0), kRegion, 8, Access::Write));
    w.touch(1, 0, Access::Write);
    w.touch(1, 0, Access::Read);  // its right to write is still a stale one
    w.touch(1, 1, Access::Write);
    CHECK_EQ(w.counters(1).tlb_stale_hits, 2U);
    // Also who was not running when it happened.
    w.run(3, 3);
    w.touch(3, 0, Access::Write);
    CHECK_EQ(w.counters(3).tlb_stale_hits, 1U);
    // Until it is flushed for another reason.
    w.machine.core(1).mmu->flush_all();
    CHECK(!w.machine.access(w.machine.core(1), kRegion, 8, Access::Write));
    CHECK_EQ(w.counters(1).tlb_stale_hits, 2U);
}

TEST(without_batches_each_guest_is_waited_for) {
    Cores w(strategy("lazy", false));
    w.protect(0, 0, 1, kProtRead);
    CHECK_EQ(w.counters(0).shootdowns, 1U);
    CHECK_EQ(w.counters(0).shootdown_ipis, 2U);
    CHECK_EQ(w.waited(w.flush()), 2 * w.cost("shootdown.first_cpu"));

    // Everyone is interrupted for each of the four guests.
    Cores all(strategy("all-cpus", false));
    all.protect(0, 0, 1, kProtRead);
    CHECK_EQ(all.counters(0).shootdown_ipis, 4U * 4);
    CHECK_EQ(all.counters(1).shootdown_received, 4U);
}

TEST(a_broadcast_interrupts_nobody_and_reaches_all) {
    Cores w(strategy("lazy", true, true));
    w.protect(0, 0, 1, kProtRead);
    CHECK_EQ(w.counters(0).shootdown_ipis, 0U);
    // An instruction for each of the four guests, and one wait for four CPUs.
    CHECK_EQ(w.waited(w.cost("shootdown.local") + 4 * w.cost("shootdown.broadcast_issue")),
             w.cost("shootdown.broadcast_first_cpu") + 3 * w.cost("shootdown.broadcast_next_cpu"));
    CHECK_EQ(w.counters(1).cycles_shootdown, 0U);
    CHECK(!w.machine.access(w.machine.core(1), kRegion, 8, Access::Write));
    w.run(3, 3);
    CHECK(!w.machine.access(w.machine.core(3), kRegion, 8, Access::Write));
    w.touch(3, 1, Access::Write);
    CHECK_EQ(w.counters(3).tlb_stale_hits, 0U);

    // What everyone drops is dropped by one instruction.
    Cores all(strategy("all-cpus", true, true));
    all.protect(0, 0, 1, kProtRead);
    CHECK_EQ(all.waited(all.cost("shootdown.local")),
             all.cost("shootdown.broadcast_issue") + all.cost("shootdown.broadcast_first_cpu") +
                 3 * all.cost("shootdown.broadcast_next_cpu"));
}

TEST(a_policy_has_a_strategy_of_its_own) {
    for (const auto& [policy, ipis] : {std::pair{"ptshare", 2U}, {"mshare", 4U}, {"rfc-v2", 0U}}) {
        Cores w({}, policy);
        w.protect(0, 0, 1, kProtRead);
        CHECK_EQ(w.counters(0).shootdown_ipis, ipis);
    }
}

// The owner's end frees the PUD table that guests walk.
TEST(walk_caches_that_lead_to_freed_tables_are_counted) {
    for (const bool told : {true, false}) {
        Cores w(strategy(told ? "lazy" : "caller-only"), "mshare");
        w.machine.kernel().exit(*w.tasks[0].mm);
        w.machine.charge_syscall(w.machine.core(0), 0);
        w.machine.core(0).running = nullptr;
        // A page that core 1 never translated, below tables that it did.
        CHECK(!w.machine.access(w.machine.core(1), kRegion + 9 * kPageSize, 8, Access::Read));
        CHECK_EQ(w.counters(1).pwc_stale_hits, told ? 0U : 1U);
        CHECK_EQ(w.counters(1).faults_segv, 1U);
        // One that it did is served still.
        CHECK_EQ(w.machine.access(w.machine.core(1), kRegion, 8, Access::Read), !told);
        CHECK_EQ(w.counters(1).tlb_stale_hits, told ? 0U : 1U);
    }
}

TEST(with_shared_tags_one_guest_serves_another) {
    for (const bool tags : {false, true}) {
        World w("ptshare", 2, 1, {{"mmu.shared_tags", tags}, {"mmu.pcids", std::int64_t{6}}});
        w.touch(0, 0);
        w.run(1, 0);
        w.touch(0, 0);
        // Not even the link was missing: nobody walked.
        CHECK_EQ(w.counters(1).walks_data, tags ? 0U : 2U);
        CHECK_EQ(w.counters(1).faults_link, tags ? 0U : 1U);
        // Its own pages are its own.
        MapRequest own;
        own.length = kPageSize;
        own.prot = kProtRead | kProtWrite;
        own.flags = kMapPrivate | kMapAnonymous | kMapFixed;
        own.address = kRegion - kPmdSize;
        for (unsigned i = 0; i < 2; ++i) {
            CHECK(w.machine.kernel().mmap(*w.tasks[i].mm, own).ok());
            w.run(i, 0);
            CHECK(w.machine.access(w.machine.core(0), own.address, 8, Access::Write));
            CHECK_EQ(w.counters(i).faults_anon, 1U);
        }
    }
}

TEST(shared_tags_are_of_one_address) {
    World w("ptshare", 1, 1, {{"mmu.shared_tags", true}, {"share.any_address", true}});
    w.touch(0, 0);
    w.touch(0, 512);
    Charged elsewhere;
    elsewhere.mm = &w.machine.kernel().create_mm();
    MapRequest request;
    request.address = kRegion + kPmdSize;  // its first page is where the other has page 512
    request.length = kRegionBytes;
    request.prot = kProtRead | kProtWrite;
    request.flags = kMapShared | kMapFixed | kMapSharedPt;
    request.file = w.file;
    CHECK(w.machine.kernel().mmap(*elsewhere.mm, request).ok());
    w.machine.switch_to(w.machine.core(0), &elsewhere);
    PhysAddr where;
    CHECK(w.machine.access(w.machine.core(0), request.address, 8, Access::Read, &where));
    CHECK_EQ(pfn_of(where).value, elsewhere.mm->table.leaf(request.address)->pte.pfn().value);
    CHECK_EQ(elsewhere.counters.faults_link, 1U);
}

// ---- CPUs that hold entries of what they do not run

// Linux's tlb_gen, one behind another: who has missed a flush must not take a later one for all.
TEST(a_later_flush_does_not_hide_an_earlier_one) {
    for (const char* name : {"all-cpus", "sharers", "lazy"}) {
        for (const bool batch : {true, false}) {
            for (const bool broadcast : {false, true}) {
                Values changes = strategy(name, batch, broadcast);
                changes["mmu.pcids"] = std::int64_t{6};
                World w("ptshare", 4, 2, changes);
                MapRequest own;
                own.address = kRegion - kPmdSize;
                own.length = kPageSize;
                own.prot = kProtRead | kProtWrite;
                own.flags = kMapPrivate | kMapAnonymous | kMapFixed;
                CHECK(w.machine.kernel().mmap(*w.tasks[0].mm, own).ok());
                for (unsigned i = 0; i < 2; ++i) w.touch(i, 0, Access::Write);
                CHECK(w.machine.access(w.machine.core(0), own.address, 8, Access::Write));
                // Process 0 goes to core 1, drops its own page there, then changes a shared one.
                w.run(2, 0);
                w.run(0, 1);
                constexpr int kDontNeed = 4;
                CHECK(w.machine.kernel().madvise(*w.tasks[0].mm, own.address, kPageSize,
                                                 kDontNeed) == Errno::Ok);
                w.machine.charge_syscall(w.machine.core(1), 0);
                w.protect(0, 1, 1, kProtRead);
                w.run(3, 1);
                w.run(0, 0);
                CHECK(w.machine.access(w.machine.core(0), own.address, 8, Access::Write));
                CHECK_EQ(w.counters(0).faults_anon, 2U);
                CHECK_EQ(w.counters(0).tlb_stale_hits, 0U);
            }
        }
    }
}

TEST(what_nobody_asked_for_is_heard_by_shared_entries_too) {
    for (const bool tags : {false, true}) {
        Values changes = strategy("caller-only");
        changes["mmu.shared_tags"] = tags;
        changes["mmu.pcids"] = std::int64_t{6};
        World w("ptshare", 4, 2, changes);
        w.touch(0, 5, Access::Write);
        w.touch(0, 0, Access::Write);
        CHECK(w.machine.kernel().munmap(*w.tasks[3].mm, kRegion, kRegionBytes) == Errno::Ok);
        w.machine.charge_syscall(w.machine.core(0), 0);
        w.run(3, 0);
        w.machine.kernel().truncate(*w.file, 5 * kPageSize);
        w.machine.charge_syscall(w.machine.core(1), 0);
        w.run(0, 0);
        w.protect(0, 0, 1, kProtRead);  // flushes what it hears of, before it looks
        CHECK(!w.machine.access(w.machine.core(0), kRegion + 5 * kPageSize, 8, Access::Read));
        CHECK_EQ(w.counters(0).faults_bus, 1U);
    }
}

TEST(shared_entries_are_flushed_and_paid_once_for_all_guests) {
    for (const char* name : {"lazy", "sharers"}) {
        for (const unsigned guests : {2U, 4U, 50U}) {
            Values changes = strategy(name);
            changes["mmu.shared_tags"] = true;
            changes["mmu.pcids"] = std::int64_t{6};
            World w("ptshare", guests, 2, changes);
            for (unsigned i = 0; i < 2; ++i) w.touch(i, 0, Access::Write);
            for (Charged& task : w.tasks) task.counters = {};
            w.protect(0, 0, 1, kProtRead);
            const std::uint64_t flush = w.cost("shootdown.local") + w.cost("flush_page");
            CHECK_EQ(w.counters(1).cycles_shootdown, flush + w.cost("shootdown.receive"));
            // Nothing is left to be suspected.
            for (unsigned i = 0; i < 2; ++i) CHECK(!w.machine.core(i).context.suspect);
        }
    }
}

TEST(a_broadcast_without_batches_interrupts_nobody_either) {
    for (const char* name : {"lazy", "sharers"}) {
        Values changes = strategy(name, false, true);
        changes["mmu.pcids"] = std::int64_t{6};
        World w("ptshare", 4, 3, changes);
        for (unsigned i = 0; i < 3; ++i) w.touch(i, 0, Access::Write);
        w.run(3, 0);
        w.run(0, 2);  // core 0 holds entries of process 0, which core 2 runs
        for (Charged& task : w.tasks) task.counters = {};
        w.protect(0, 2, 1, kProtRead);
        CHECK_EQ(w.counters(0).shootdown_ipis, 0U);
        CHECK_EQ(
            w.counters(0).cycles_shootdown,
            4 * (w.cost("shootdown.local") + w.cost("shootdown.broadcast_issue") +
                 w.cost("shootdown.broadcast_first_cpu") + w.cost("shootdown.broadcast_next_cpu")));
    }
}

// Tags are taken back, and what a CPU holds under one is not taken for the next range's.
TEST(shared_tags_of_ranges_that_are_gone_are_used_again) {
    World w("ptshare", 1, 1, {{"mmu.shared_tags", true}, {"mmu.pcids", std::int64_t{6}}});
    MapRequest request;
    request.address = kRegion;
    request.length = kRegionBytes;
    request.prot = kProtRead | kProtWrite;
    request.flags = kMapShared | kMapFixed | kMapSharedPt;
    for (int turn = 0; turn < 1000; ++turn) {
        w.touch(0, static_cast<std::uint64_t>(turn % 7), Access::Write);
        CHECK(w.machine.kernel().munmap(*w.tasks[0].mm, kRegion, kRegionBytes) == Errno::Ok);
        request.file = w.machine.kernel().create_file("another");
        request.file->resize(kRegionBytes);
        CHECK(w.machine.kernel().mmap(*w.tasks[0].mm, request).ok());
        w.machine.charge_syscall(w.machine.core(0), 0);
        PhysAddr where;
        CHECK(w.machine.access(w.machine.core(0), kRegion, 8, Access::Write, &where));
        CHECK_EQ(pfn_of(where).value, w.tasks[0].mm->table.leaf(kRegion)->pte.pfn().value);
    }
    CHECK(w.machine.core(0).asids.shared().size() <= 64);
}

// Page 512 lies in another PTE table than page 0; guest 1's walk caches know both.
TEST(an_interrupt_for_pages_empties_the_walk_caches_of_its_pcid) {
    for (const auto& [invlpg, kept] : {std::pair{"pcid", 0U}, {"page", 1U}}) {
        Values changes = strategy("sharers");
        changes.insert({"mmu.walk_cache.invlpg", std::string(invlpg)});
        Cores w(changes);
        w.touch(0, 513);
        for (const unsigned guest : {1U, 3U}) {
            w.run(guest, guest);
            w.touch(guest, 512);
            w.touch(guest, 0);
        }
        w.run(4, 3);
        w.protect(0, 0, 1, kProtRead);
        w.run(3, 3);
        for (const unsigned guest : {1U, 3U}) {
            w.counters(guest) = {};
            w.touch(guest, 513);
            CHECK_EQ(w.counters(guest).dtlb_misses, 1U);
            // By INVPCID, for one that is not loaded, the other pages' stay.
            CHECK_EQ(w.counters(guest).pwc_pmd_hits, guest == 1 ? kept : 1U);
        }
    }
}

TEST(a_broadcast_leaves_the_walk_caches_alone) {
    Cores w(strategy("lazy", true, true));
    w.protect(0, 0, 1, kProtRead);
    w.counters(1) = {};
    w.touch(1, 0, Access::Read);
    CHECK_EQ(w.counters(1).dtlb_misses, 1U);
    CHECK_EQ(w.counters(1).pwc_pmd_hits, 1U);
}

namespace {

// Two threads of one process on cores 0 and 1, whose page 0 both have in their TLBs.
struct Threads : World {
    explicit Threads(const Values& changes = {}) : World("private", 2, 3, changes) {
        thread.mm = tasks[0].mm;
        machine.switch_to(machine.core(1), &thread);
        for (const unsigned core : {0U, 1U}) touch(core, 0, Access::Write);
        for (Counters* each : {&tasks[0].counters, &thread.counters}) *each = {};
    }
    ~Threads() { machine.core(1).running = nullptr; }
    // 2 MiB, with their page table.
    void unmap(std::uint64_t page) {
        CHECK(machine.kernel().munmap(*tasks[0].mm, kRegion + page * kPageSize, kPmdSize) ==
              Errno::Ok);
        machine.charge_syscall(machine.core(0), 0);
    }
    std::uint64_t ipis() const { return tasks[0].counters.shootdown_ipis; }

    Charged thread;
};

}  // namespace

TEST(a_cpu_that_runs_nothing_is_not_interrupted_and_flushes_when_it_comes_back) {
    Threads w;
    w.machine.rest(w.machine.core(1));
    const std::uint64_t clock = w.machine.core(1).clock;
    for (int i = 0; i < 10; ++i) {
        w.protect(0, 0, 1, i % 2 == 0 ? kProtRead : kProtRead | kProtWrite);
    }
    w.protect(0, 0, 1, kProtRead);
    CHECK_EQ(w.ipis(), 0U);
    CHECK_EQ(w.machine.core(1).clock, clock);
    CHECK_EQ(w.thread.counters.shootdown_received, 0U);
    // It comes back to the same thread: what was spared it is due, and nothing stale is used.
    w.machine.enter(w.machine.core(1));
    CHECK(!w.machine.access(w.machine.core(1), kRegion, 8, Access::Write));
    CHECK_EQ(w.thread.counters.tlb_stale_hits, 0U);
    // It is interrupted again.
    w.touch(1, 0);
    w.protect(0, 0, 1, kProtRead | kProtWrite);
    CHECK_EQ(w.ipis(), 1U);
    CHECK_EQ(w.thread.counters.shootdown_received, 1U);
}

TEST(a_cpu_that_comes_back_without_a_flush_keeps_its_translations) {
    Threads w;
    w.machine.rest(w.machine.core(1));
    w.machine.enter(w.machine.core(1));
    w.touch(1, 0, Access::Write);
    CHECK_EQ(w.thread.counters.walks_data, 0U);
}

TEST(freed_tables_reach_a_cpu_that_runs_nothing_once) {
    // given page tables that go with the page, on an idle CPU that has the mm loaded
    Threads w;
    w.machine.rest(w.machine.core(1));
    w.unmap(0);
    CHECK_EQ(w.ipis(), 1U);
    // It was told to leave the mm; a task that waits was not stopped.
    CHECK_EQ(w.thread.counters.shootdown_received, 0U);
    w.touch(0, 512, Access::Write);
    w.unmap(512);
    CHECK_EQ(w.ipis(), 1U);
    w.machine.enter(w.machine.core(1));
    CHECK(!w.machine.access(w.machine.core(1), kRegion, 8, Access::Read));
    CHECK_EQ(w.thread.counters.pwc_stale_hits + w.thread.counters.tlb_stale_hits, 0U);
}

TEST(who_has_left_the_mm_is_trimmed_from_its_mask_by_one_flush) {
    // given a mask that is trimmed every million cycles, and core 1, which runs another process now
    for (const std::int64_t trim : {0, 1'000'000}) {
        Threads w({{"kernel.cpumask_trim_cycles", trim}});
        w.run(1, 1);
        for (int i = 0; i < 4; ++i) {
            w.protect(0, 0, 1, i % 2 == 0 ? kProtRead : kProtRead | kProtWrite);
        }
        CHECK_EQ(w.ipis(), trim == 0 ? 0U : 1U);
        // It flushes nothing: what it runs is another's.
        CHECK_EQ(w.counters(1).shootdown_received, w.ipis());
        CHECK_EQ(w.counters(1).cycles_shootdown, w.ipis() * w.cost("shootdown.receive"));
        // It comes by again, and leaves: so soon, nobody looks.
        w.machine.switch_to(w.machine.core(1), &w.thread);
        w.run(1, 1);
        w.protect(0, 0, 1, kProtRead);
        CHECK_EQ(w.ipis(), trim == 0 ? 0U : 1U);
        w.machine.core(0).clock += 1'000'000;
        w.protect(0, 0, 1, kProtRead | kProtWrite);
        CHECK_EQ(w.ipis(), trim == 0 ? 0U : 2U);
        CHECK_EQ(w.thread.counters.shootdown_received, 0U);
    }
}

TEST(an_idle_cpu_that_has_left_the_mm_is_left_alone) {
    Threads w({{"kernel.cpumask_trim_cycles", std::int64_t{1}}});
    w.run(1, 1);
    w.machine.rest(w.machine.core(1));
    w.protect(0, 0, 1, kProtRead);
    CHECK_EQ(w.ipis(), 0U);
    // Until it runs something.
    w.machine.enter(w.machine.core(1));
    w.protect(0, 0, 1, kProtRead | kProtWrite);
    CHECK_EQ(w.ipis(), 1U);
}

TEST(a_guest_that_waits_is_spared_as_by_lazy_and_not_by_all_cpus) {
    for (const auto& [name, ipis] : {std::pair{"lazy", 1U}, {"sharers", 3U}, {"all-cpus", 4U}}) {
        Cores w(strategy(name));
        w.machine.rest(w.machine.core(1));
        w.protect(0, 0, 1, kProtRead);
        CHECK_EQ(w.counters(0).shootdown_ipis, ipis);
        CHECK_EQ(w.counters(1).cycles_shootdown, 0U);
        w.machine.enter(w.machine.core(1));
        CHECK(!w.machine.access(w.machine.core(1), kRegion, 8, Access::Write));
        CHECK_EQ(w.counters(1).tlb_stale_hits, 0U);
    }
}
