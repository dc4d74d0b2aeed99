"""The figures that the page-table arithmetic predicts for `scan`."""

from __future__ import annotations

import pytest
from embedded import execute, totals

from ptshare_plugin.metrics import vocabulary

MIB = 1 << 20
NO_FAULT_AROUND = ("kernel.fault_around_bytes=4KiB",)


@pytest.mark.parametrize(("region", "procs"), [(4 * MIB, 2), (16 * MIB, 4)])
def test_table_pages_of_the_region(region: int, procs: int) -> None:
    chunks = region // (2 * MIB)
    private = totals(execute("scan", policy="private", region=region, procs=procs, work=1))
    shared = totals(execute("scan", policy="ptshare", region=region, procs=procs, work=1))
    assert private["pt.region.pte_tables"] == chunks * procs
    assert shared["pt.region.pte_tables"] == chunks
    assert private["pt.bytes.host"] == 0
    # The host mm: its PTE tables, and one table of each upper level.
    assert shared["pt.bytes.host"] == (chunks + 3) * 4096
    assert private["pt.host_mms"] == 0
    assert shared["pt.host_mms"] == 1


def test_faults_without_fault_around() -> None:
    pages, procs = 4 * MIB // 4096, 3
    private = totals(execute("scan", policy="private", procs=procs, work=2, sets=NO_FAULT_AROUND))
    shared = totals(execute("scan", policy="ptshare", procs=procs, work=2, sets=NO_FAULT_AROUND))
    assert private["fault.region.page"] == pages * procs
    assert private["fault.region.link"] == 0
    assert shared["fault.region.page"] == pages
    # Every process links both chunks; the one that faults first in a chunk does it on the way.
    assert shared["share.links"] == 2 * procs
    assert shared["fault.region.link"] == 2 * procs - 2
    assert shared["fault.host"] == pages


def test_fault_around_maps_sixteen_pages_that_are_cached() -> None:
    # Two processes one after the other on one core, the second with every page in the page cache.
    quantum = ("sched.quantum_cycles=100000000000", "sched.slice_instructions=1000000000")
    done = execute("scan", policy="private", procs=2, cores=1, work=1, sets=quantum)
    first, second = done.values[0], done.values[1]
    pages = 4 * MIB // 4096
    assert {first["fault.region.page"], second["fault.region.page"]} == {pages, pages // 16}
    assert max(first["fault.around_pages"], second["fault.around_pages"]) >= pages * 15 // 16


@pytest.mark.parametrize("policy", ["private", "ptshare", "hugetlb-pmd"])
@pytest.mark.parametrize("preset", ["server", "server-amd", "gem5-x86"])
def test_nothing_is_left(policy: str, preset: str) -> None:
    for workload, procs in (("scan", 3), ("preshare", 3), ("protect", 2), ("churn", 5)):
        args = ("--piece", str(2 * MIB)) if workload == "protect" else ()
        values = totals(execute(workload, policy=policy, preset=preset, procs=procs, args=args))
        assert values["pt.end.bytes"] == 0
        assert values["frames.end"] == 0
        assert values["pt.tables.allocated"] == values["pt.tables.freed"]


def test_cycles_are_a_stack_that_sums() -> None:
    cores = 2
    values = totals(execute("protect", procs=4, cores=cores))
    stack = [name for name in values if name.startswith("cycles.")]
    parts = {"base", "fetch", "tlb", "walk", "data", "fault", "syscall", "shootdown", "switch"}
    assert parts <= {name.removeprefix("cycles.") for name in stack}
    total = sum(values[f"cycles.{part}"] for part in parts)
    assert values["cycles.total"] == total
    # Every cycle of every core was work of some process, or idle.
    assert total + values["cycles.idle"] == cores * values["cycles.makespan"]
    assert values["walk.cycles"] == values["cycles.walk"]


def test_translation_counts_agree() -> None:
    values = totals(execute("random", procs=2, work=20000))
    misses = values["tlb.dtlb.misses"] + values["tlb.itlb.misses"]
    assert values["tlb.stlb.accesses"] >= misses
    assert values["walk.count"] == values["tlb.stlb.misses"]
    places = ("l1", "l2", "llc", "dram")
    levels = ("pte", "pmd", "pud", "p4d", "pgd")
    reads = sum(values[f"walk.reads.{level}.{place}"] for level in levels for place in places)
    assert reads == values["walk.reads"]
    # A walk reads the entry of at least one level, and of all four at most.
    walks = values["walk.count"] + values["walk.dirty_assists"]
    assert walks <= reads <= 4 * walks
    assert values["walk.reads_per_walk"] == reads / walks
    times = {bound: values[f"walk.latency.from_{bound}"] for bound in vocabulary.WALK_LATENCIES}
    assert sum(times.values()) == walks
    least = sum(count * bound for bound, count in times.items())
    assert least <= values["walk.cycles"] <= 2 * least + 8 * times[0]
    assert values["walk.reads.p4d.dram"] == 0


def test_five_levels() -> None:
    four = totals(execute("scan", procs=2))
    five = totals(execute("scan", procs=2, sets=("mmu.levels=5",)))
    assert four["pt.tables.p4d"] == 0
    assert five["pt.tables.p4d"] == five["pt.tables.pgd"] == four["pt.tables.pgd"] == 3
    assert five["walk.reads"] > four["walk.reads"]
    assert five["fault.total"] == four["fault.total"]


def test_walks_find_what_the_kernel_stored_on_their_core_or_on_another() -> None:
    sizes = {"procs": 4, "region": 16 * MIB, "work": 1}
    private = totals(execute("scan", policy="private", **sizes))
    shared = totals(execute("scan", policy="ptshare", **sizes))
    # Tables are cleared and filled by the core that faults, and all fit its caches.
    assert private["roi.walk.reads.pte.dram"] == shared["roi.walk.reads.pte.dram"] == 0
    assert private["roi.walk.reads.pte.transfers"] == private["roi.pte.stores.transfers"] == 0
    # 4096 shared PTEs are 512 cache lines, which each of the three others takes at least once.
    assert shared["roi.walk.reads.pte.transfers"] >= 3 * 512
    stores = 16 * MIB // 4096 // 16  # a line is stored to at least once for each 16 pages around
    assert shared["roi.pte.stores.lines"] >= stores
    assert private["roi.pte.stores.lines"] >= 4 * stores


def test_private_walks_read_from_memory_what_the_caches_do_not_hold() -> None:
    small = ("cache.l2.bytes=64KiB", "cache.llc.bytes=60KiB")
    values = totals(execute("scan", policy="private", procs=4, region=16 * MIB, sets=small))
    # Two rounds over 512 lines of PTEs in each process, of which at most 31 KiB fit.
    assert values["roi.walk.reads.pte.dram"] > 4 * 512


def test_without_the_flag_policies_do_not_differ() -> None:
    private = totals(execute("scan", policy="private", procs=3, share=False))
    shared = totals(execute("scan", policy="ptshare", procs=3, share=False))
    assert private == shared


def test_one_seed_one_result() -> None:
    for workload in ("zipf", "churn"):
        one, two = (execute(workload, procs=3, work=4, seed=7) for _ in range(2))
        assert totals(one) == totals(two)
        assert one.output_lines() == two.output_lines()
    other = execute("random", procs=1, work=4, seed=8)
    assert other.output_lines() != execute("random", procs=1, work=4, seed=7).output_lines()
