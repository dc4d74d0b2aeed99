"""Programs on 2 MiB leaves, with and without a shared PMD table."""

from __future__ import annotations

import pytest
from embedded import execute, totals

MIB, GIB = 1 << 20, 1 << 30
MEMORY = ("kernel.memory_bytes=8GiB",)


def test_a_region_of_1_gib_has_one_pmd_table() -> None:
    runs = {
        policy: execute("random", policy=policy, region=GIB, procs=3, work=300, sets=MEMORY)
        for policy in ("private", "hugetlb-pmd")
    }
    assert runs["private"].output_lines() == runs["hugetlb-pmd"].output_lines()
    values = totals(runs["hugetlb-pmd"])
    assert values["pt.bytes.host"] == 4096
    assert values["pt.region.pte_tables"] == 0
    assert values["pt.host_mms"] == 1
    assert values["share.links"] == 3
    # One fault for each 2 MiB that anybody touched; whoever links meets pages of the others.
    assert 512 * values["fault.host"] <= values["frames.page_cache"]
    assert values["fault.region.link"] <= 2
    # A walk for the region ends at the PMD entry.
    assert values["frames.end"] == values["pt.end.bytes"] == 0
    # Beside the shared table each process has what its code, stack and region need above.
    assert values["pt.tables.pmd"] == 1 + totals(runs["private"])["pt.tables.pmd"] - 3


@pytest.mark.parametrize("name", ["scan", "preshare", "protect", "pingpong", "zipf", "churn"])
@pytest.mark.parametrize("preset", ["server", "server-amd", "gem5-x86"])
def test_smaller_regions_have_tables_of_their_own(name: str, preset: str) -> None:
    procs, work = (3, 2) if name != "zipf" else (2, 2000)
    common = {"preset": preset, "region": 4 * MIB, "procs": procs, "work": work}
    if name == "protect":
        common["args"] = ("--piece", str(2 * MIB))  # no less can be protected
    private = execute(name, policy="private", **common)
    huge = execute(name, policy="hugetlb-pmd", **common)
    assert private.output_lines() == huge.output_lines()
    values = totals(huge)
    assert values["share.links"] == values["pt.bytes.host"] == values["pt.region.pte_tables"] == 0
    assert values["frames.page_cache"] >= 512
    assert values["frames.end"] == values["pt.end.bytes"] == 0
    assert values["pt.tables.allocated"] == values["pt.tables.freed"]


def test_large_leaves_reach_further() -> None:
    sizes = {"region": 16 * MIB, "procs": 2, "work": 1}
    private = totals(execute("scan", policy="private", **sizes))
    huge = totals(execute("scan", policy="hugetlb-pmd", **sizes))
    # Eight pages of 2 MiB, once in each process.
    assert private["fault.region.page"] > 4096 // 16
    assert huge["fault.region.page"] == 2 * 8
    assert huge["roi.walk.cycles"] < private["roi.walk.cycles"] / 10
    assert huge["roi.tlb.dtlb.misses"] < private["roi.tlb.dtlb.misses"] / 10
