"""An architecture question: whether shared page tables save TLB misses, or make walks cheaper.

TLB entries are tagged by process, so shared tables alone save no misses; walks find entries that
another process has brought in. With shared tags (BabelFish, ISCA 2020) misses go, too.
"""

from __future__ import annotations

import ptshare_plugin as pt

RUNS = pt.compare(
    "random",
    policy=["private", "ptshare"],
    procs=8,
    cores=2,
    region="4MiB",
    set={"sched.quantum_cycles": 10**9},  # else the faster one is preempted at other places
    vary={"mmu.shared_tags": [False, True]},
)

print(f"{'policy':<10} {'tags':<9} {'misses':>10} {'walk cycles':>12} {'read for another':>17}")
for run in RUNS:
    tags = "shared" if run.spec.config.mmu.shared_tags else "own"
    # A walk that ends in a fault is repeated: such misses are of faults, not of the TLB.
    misses = run.metrics["roi.tlb.stlb.misses"] - run.metrics["roi.walk.faulted"]
    other = run.metrics["roi.walk.reads.pte.other"] / run.metrics["roi.walk.reads.pte"]
    walked = run.metrics["roi.walk.cycles"]
    print(f"{run.spec.policy:<10} {tags:<9} {misses:>10,} {walked:>12,} {other:>17.1%}")
