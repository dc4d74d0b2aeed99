// Parameters of a small machine with round figures, for tests that compute cycles by hand.
#pragma once

#include <map>
#include <string>

#include "accounting/params.h"

using Values = std::map<std::string, ptshare::engine::Parameter>;

// 64-byte lines; L1 4 KiB, L2 64 KiB, LLC 1 MiB; latencies 4, 10, 40, memory 200; 8-entry L1 TLBs,
// a 64-entry second level at 7; walk caches of 4 entries. `changes` replace or add.
inline ptshare::engine::Params small_machine(const Values& changes = {}) {
    const auto count = [](std::int64_t n) { return ptshare::engine::Parameter(n); };
    Values values{
        {"cpu.base_cpi", 0.5},
        {"cache.line_bytes", count(64)},
        {"cache.l1i.bytes", count(4096)},
        {"cache.l1i.ways", count(4)},
        {"cache.l1i.latency", count(4)},
        {"cache.l1d.bytes", count(4096)},
        {"cache.l1d.ways", count(4)},
        {"cache.l1d.latency", count(4)},
        {"cache.l2.bytes", count(65536)},
        {"cache.l2.ways", count(8)},
        {"cache.l2.latency", count(10)},
        {"cache.llc.bytes", count(1 << 20)},
        {"cache.llc.ways", count(16)},
        {"cache.llc.inclusion", std::string("inclusive")},
        {"cache.llc.latency", count(40)},
        {"cache.transfer_latency", count(60)},
        {"cache.dram_latency", count(200)},
        {"mmu.levels", count(4)},
        {"mmu.pcids", count(2)},
        {"mmu.itlb.entries", count(8)},
        {"mmu.itlb.ways", count(0)},
        {"mmu.itlb.entries_2m", count(4)},
        {"mmu.itlb.ways_2m", count(0)},
        {"mmu.dtlb.entries", count(8)},
        {"mmu.dtlb.ways", count(0)},
        {"mmu.dtlb.entries_2m", count(4)},
        {"mmu.dtlb.ways_2m", count(0)},
        {"mmu.stlb.entries", count(64)},
        {"mmu.stlb.ways", count(4)},
        {"mmu.stlb.latency", count(7)},
        {"mmu.walk_cache.pmd_entries", count(4)},
        {"mmu.walk_cache.pud_entries", count(4)},
        {"mmu.walk_cache.p4d_entries", count(4)},
        {"mmu.walk_cache.pgd_entries", count(4)},
        {"mmu.walk_cache.ways", count(0)},
        {"mmu.walk_cache.invlpg", std::string("pcid")},
        {"mmu.walker.port", std::string("l1d")},
        {"mmu.walker.step_cycles", count(1)},
        {"mmu.walker.lock_cycles", count(3)},
        {"kernel.memory_bytes", count(64 << 20)},
        {"kernel.fault_around_bytes", count(4096)},
        {"kernel.flush_ceiling_pages", count(33)},
        {"kernel.cpumask_trim_cycles", count(0)},
        {"kernel.dirty_tracking", false},
        {"kernel.pt_reclaim", false},
        {"share.level", std::string("policy")},
        {"share.any_address", false},
        {"share.anonymous", false},
        {"mmu.shared_tags", false},
        {"shootdown.strategy", std::string("policy")},
        {"shootdown.batch", true},
        {"shootdown.broadcast", false},
    };
    // Costs of kernel work, all different.
    std::int64_t cost = 0;
    for (const char* name : {"syscall",
                             "mmap",
                             "munmap",
                             "mprotect",
                             "fork",
                             "exec",
                             "exit",
                             "switch",
                             "pte_update",
                             "fork_pte",
                             "table_alloc",
                             "table_free",
                             "flush_page",
                             "fault.entry",
                             "fault.file_page",
                             "fault.around_page",
                             "fault.anon_page",
                             "fault.cow_page",
                             "fault.write_protect",
                             "fault.link",
                             "fault.host",
                             "shootdown.local",
                             "shootdown.first_cpu",
                             "shootdown.next_cpu",
                             "shootdown.receive",
                             "shootdown.broadcast_issue",
                             "shootdown.broadcast_first_cpu",
                             "shootdown.broadcast_next_cpu",
                             "message",
                             "signal"}) {
        values[std::string("cost.") + name] = count(1000 + ++cost);
    }
    for (const auto& [name, value] : changes) values[name] = value;
    return ptshare::engine::Params(values);
}
