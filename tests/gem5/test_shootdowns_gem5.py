"""Flush strategies under gem5: who is told, and what those use who are not."""

from __future__ import annotations

import pytest
from gem5_runs import Gem5, Gem5Run

LARGE_TLB = ("--set", "mmu.dtlb.entries=1024")  # so that a page is met again in it
PROCS = 2


def protect(gem5: Gem5, *options: str) -> Gem5Run:
    return gem5(
        *("--workload", "protect", "--work", "4", "--region", "2MiB", "--procs", str(PROCS)),
        *(*LARGE_TLB, *options),
    )


def total(done: Gem5Run, name: str) -> float:
    return sum(
        part[f"system.kernel.process{process}.{name}"]
        for part in done.dumps()
        for process in range(PROCS)
    )


@pytest.mark.parametrize("cpu", ["atomic", "timing", "o3"])
@pytest.mark.parametrize(
    ("policy", "strategy", "told"),
    [
        ("rfc-v2", "policy", False),
        ("ptshare", "caller-only", False),
        ("ptshare", "lazy", True),
        ("mshare", "policy", True),
    ],
)
def test_who_is_not_told_uses_stale_translations(
    gem5: Gem5, policy: str, strategy: str, told: bool, cpu: str
) -> None:
    done = protect(
        gem5, "--policy", policy, "--set", f"shootdown.strategy={strategy}", "--cpu", cpu
    )
    assert done.returncode == 0, done.output
    assert all(line.startswith("protect: ok") for line in done.lines())
    assert (total(done, "shootdown.ipis") > 0) == told
    assert (total(done, "tlb.stale_hits") == 0) == told
    assert total(done, "walk_cache.stale_hits") == 0


def test_shared_tags_serve_the_other_process(gem5: Gem5) -> None:
    misses = {}
    for tags in ("false", "true"):
        # Two processes on one core, so in one TLB.
        done = gem5(
            *("--workload", "random", "--work", "3000", "--region", "2MiB", "--procs", str(PROCS)),
            *("--cores", "1", "--policy", "ptshare", *LARGE_TLB),
            *("--set", f"mmu.shared_tags={tags}", "--set", "sched.quantum_cycles=20000"),
        )
        assert done.returncode == 0, done.output
        assert total(done, "tlb.stale_hits") == 0
        misses[tags] = total(done, "tlb.dtlb.misses") - total(done, "walk.faulted")
    # 512 pages, once for both instead of once for each.
    assert misses["true"] < 0.75 * misses["false"]
