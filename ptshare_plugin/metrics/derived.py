"""Every metric that is computed from others: unit, meaning and formula.

A quotient by zero does not exist in a run.
"""

from __future__ import annotations

from ptshare_plugin.metrics.metric import Metric, derived
from ptshare_plugin.metrics.vocabulary import (
    CACHES,
    COUNTED_CACHES,
    CYCLE_STACK,
    FATAL_FAULTS,
    MINOR_FAULTS,
    PLACE_NAMES,
    PLACES,
    PTE_LEVELS,
    REFUSALS,
    TLBS,
)


def _sum(prefix: str, parts: tuple[str, ...]) -> str:
    return " + ".join(f"{prefix}.{part}" for part in parts)


# Of each process, and of all together: the formula over the sums.
DERIVED: list[Metric] = [
    derived("access.data", "count", "core", "Data accesses", "access.reads + access.writes"),
    *(
        derived(
            f"tlb.{tlb}.miss_rate",
            "ratio",
            tlb,
            "Share of look-ups that missed",
            f"tlb.{tlb}.misses / tlb.{tlb}.accesses",
        )
        for tlb in TLBS
    ),
    derived("walk.count", "count", "walker", "Page walks", "walk.data + walk.fetch"),
    derived(
        "walk.cycles_per_walk",
        "cycles",
        "walker",
        "Mean time of a walk, dirty assists included",
        "walk.cycles / (walk.count + walk.dirty_assists)",
    ),
    *(
        derived(
            f"walk.reads.{level}",
            "count",
            "walker",
            f"{level.upper()} entries read by walks",
            _sum(f"walk.reads.{level}", PLACES),
        )
        for level in PTE_LEVELS
    ),
    *(
        derived(
            f"walk.reads.{place}",
            "count",
            "walker",
            f"Walk reads served by {PLACE_NAMES[place]}",
            " + ".join(f"walk.reads.{level}.{place}" for level in PTE_LEVELS),
        )
        for place in PLACES
    ),
    derived(
        "walk.reads", "count", "walker", "Entries read by walks", _sum("walk.reads", PTE_LEVELS)
    ),
    *(
        derived(
            f"walk.reads.{level}.other",
            "count",
            "walker",
            f"{level.upper()} entries read from caches that another process had brought in",
            " + ".join(f"walk.reads.{level}.{place}.other" for place in CACHES),
        )
        for level in PTE_LEVELS
    ),
    derived(
        "walk.reads.other",
        "count",
        "walker",
        "Entries read from caches that another process had brought in",
        " + ".join(f"walk.reads.{level}.other" for level in PTE_LEVELS),
    ),
    derived(
        "walk.reads_per_walk",
        "count",
        "walker",
        "Mean entries read, dirty assists included",
        "walk.reads / (walk.count + walk.dirty_assists)",
    ),
    derived(
        "walk.per_1000_instructions",
        "count",
        "walker",
        "Page walks for 1,000 instructions",
        "1000 * walk.count / instructions",
    ),
    *(
        derived(
            f"cache.{cache}.miss_rate",
            "ratio",
            cache,
            "Share of accesses not served there",
            f"cache.{cache}.misses / cache.{cache}.accesses",
        )
        for cache in COUNTED_CACHES
    ),
    derived(
        "fault.minor",
        "count",
        "kernel",
        "Faults that a process survives without input or output",
        _sum("fault", MINOR_FAULTS),
    ),
    derived(
        "fault.total",
        "count",
        "kernel",
        "Page faults",
        "fault.minor + " + _sum("fault", FATAL_FAULTS),
    ),
    derived(
        "cycles.total",
        "cycles",
        "core",
        "Time of processes: the sum of the stack",
        _sum("cycles", CYCLE_STACK),
    ),
    derived(
        "cycles.per_instruction",
        "cycles",
        "core",
        "CPI, kernel time included",
        "cycles.total / instructions",
    ),
]

# Of the machine.
DERIVED_MACHINE: list[Metric] = [
    derived(
        "pt.tables",
        "tables",
        "page_tables",
        "Page-table pages at the peak",
        _sum("pt.tables", PTE_LEVELS),
        scope="machine",
    ),
    derived(
        "share.refused",
        "count",
        "kernel",
        "MAP_SHARED_PT requests refused",
        _sum("share.refused", REFUSALS),
        scope="machine",
    ),
]
