"""A kernel question: the TLBs that a flush of shared tables must reach, and what each way costs.

One process changes the protection of a region that 16 processes use on 4 cores. Flushing the
caller's TLBs alone, as the RFC's patches do, leaves others with stale translations.
"""

from __future__ import annotations

import ptshare_plugin as pt

STRATEGIES = ["caller-only", "all-cpus", "sharers", "lazy"]
RUNS = pt.compare(
    "protect",
    policy="ptshare",
    procs=16,
    cores=4,
    region="2MiB",
    vary={"shootdown.strategy": STRATEGIES},
)

print(f"{'strategy':<12} {'stale hits':>10} {'IPIs':>8} {'cycles of shootdowns':>21}")
for strategy, run in zip(STRATEGIES, RUNS, strict=True):
    stale, sent = run.metrics["tlb.stale_hits"], run.metrics["shootdown.ipis"]
    print(f"{strategy:<12} {stale:>10,} {sent:>8,} {run.metrics['cycles.shootdown']:>21,}")
