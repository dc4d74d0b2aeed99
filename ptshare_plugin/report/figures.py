"""The figures of one group of runs."""

from __future__ import annotations

from collections.abc import Callable

from ptshare_plugin import policies
from ptshare_plugin.common import units
from ptshare_plugin.metrics import registry as metrics
from ptshare_plugin.metrics.vocabulary import CACHES, CYCLE_STACK, MINOR_FAULTS, PLACES, PTE_LEVELS
from ptshare_plugin.report import groups, values
from ptshare_plugin.report.groups import Group
from ptshare_plugin.report.model import (
    Bars,
    Figure,
    Lines,
    Part,
    Steps,
    mean_text,
)
from ptshare_plugin.show import plots

LATENCY = "walk.latency.from_"
MOST_PROCS = 3
"""Numbers of processes of which the distribution of latencies is shown."""


def of(group: Group) -> tuple[list[Figure], list[str]]:
    """All figures that ``group`` has data for, and a sentence for each that it has none for."""
    made: list[Figure] = []
    missing: list[str] = []
    for make in (memory, faults, cycles, walks, reads, latency):
        found = make(group)
        if isinstance(found, Figure):
            made.append(found)
        else:
            missing.append(found)
    return made, missing


Maker = Callable[[Group], Figure | str]


def memory(group: Group) -> Figure | str:
    """Page-table memory, and what of it is shared."""
    name = "pt.bytes"
    quantity = "page tables at their peak"
    if not values.has(group, name):
        name, quantity = "vm.pte_bytes.end", "page tables at the end mark, as VmPTE counts"
    if not values.has(group, name):
        return (
            "Page-table memory: no figure, these runs have neither pt.bytes nor vm.pte_bytes.end."
        )
    notes = [f"Sum over all processes ({name})."]
    whole = values.series(group, name)
    shown = []
    shared = {}
    if name == "pt.bytes" and values.has(group, "pt.bytes.host"):
        shared = {
            each.label: each
            for each in values.series(group, "pt.bytes.host", dashed=True, suffix=", shared")
            if any(point.value for point in each.points)
        }
    for each in whole:
        shown.append(each)
        if (part := shared.get(f"{each.label}, shared")) is not None:
            shown.append(part)
    if shared:
        mark = "Dashed" if len(group.procs) > 1 else "Hatched"
        notes.append(f"{mark}: what of it is in host mms, shared (pt.bytes.host).")
    elif name == "pt.bytes":
        notes.append("None of it is in host mms (pt.bytes.host).")
    panel = Lines("Page-table memory", quantity, "bytes", tuple(shown))
    return Figure(
        name=f"{group.id}-memory",
        title="Page-table memory",
        notes=notes + values.repeats(group, intervals=True),
        lines=[panel],
    )


def faults(group: Group) -> Figure | str:
    """Faults by kind, for each process."""
    kinds = [*(f"fault.{kind}" for kind in MINOR_FAULTS), "fault.segv", "fault.bus"]
    if not any(values.has(group, name) for name in kinds):
        kinds = ["fault.minor", "fault.major"]  # all that Linux tells
    found = values.stack(group, [name for name in kinds if values.has(group, name)])
    if found is None:
        return "Faults by kind: no figure, these runs have no fault.* or none but zeros."
    parts, bars = found
    return Figure(
        name=f"{group.id}-faults",
        title="Page faults by kind",
        notes=["Mean of a process, whole run.", *values.repeats(group)],
        meanings=values.meanings(parts),
        unit="count",
        quantity="faults per process",
        bars=bars,
        parts=[
            Part(name.removeprefix("fault."), plots.part(kinds.index(name) + 1)) for name in parts
        ],
    )


def cycles(group: Group) -> Figure | str:
    """The cycle stack, for each process."""
    prefix, scope = values.scope(group)
    names = [f"{prefix}cycles.{part}" for part in CYCLE_STACK]
    found = values.stack(group, [name for name in names if values.has(group, name)])
    if found is None:
        return "Cycle stack: no figure, these runs have no cycles.*."
    parts, bars = found
    notes = [f"Mean of a process, {scope}."]
    if values.has(group, f"{prefix}cycles.total"):
        notes.append("The parts sum to cycles.total.")
    else:
        notes.append("This engine counts these parts only; they are not all of the time.")
    return Figure(
        name=f"{group.id}-cycles",
        title="Where the cycles went",
        notes=notes + values.repeats(group),
        meanings=values.meanings(parts),
        unit="cycles",
        quantity="cycles per process",
        bars=bars,
        parts=[Part(name.rpartition(".")[2], plots.part(names.index(name))) for name in parts],
    )


def walks(group: Group) -> Figure | str:
    """Cycles of page walks: their sum, and of one."""
    prefix, scope = values.scope(group)
    panels = [
        Lines(title, quantity, "cycles", tuple(values.series(group, prefix + name)))
        for name, title, quantity in (
            ("walk.cycles", "All walks", "walk cycles, all processes"),
            ("walk.cycles_per_walk", "One walk", "cycles per walk"),
        )
        if values.has(group, prefix + name)
    ]
    if not panels:
        return "Walk cycles: no figure, these runs have no walk.cycles."
    return Figure(
        name=f"{group.id}-walks",
        title="Cycles of page walks",
        notes=[
            f"walk.cycles and walk.cycles_per_walk, {scope}.",
            *values.repeats(group, intervals=True),
        ],
        lines=panels,
    )


def reads(group: Group) -> Figure | str:
    """Entries that walks read: level, place, and whether another process had brought the line."""
    prefix, scope = values.scope(group)
    parts: list[Part] = []
    panels: list[Bars] = []
    for level in PTE_LEVELS:
        names = [f"{prefix}walk.reads.{level}.{place}" for place in PLACES]
        if not all(values.has(group, name) for name in names):
            continue
        others = [f"{prefix}walk.reads.{level}.{place}.other" for place in CACHES]
        known = all(values.has(group, name) for name in others)
        found = values.means(group, [*names, *(others if known else [])])
        if not found[names].to_numpy(dtype=float).any():
            continue
        for place, name in zip(PLACES, names, strict=True):
            if known and place in CACHES:
                found[name] = found[name] - found[f"{name}.other"]
        order = [
            (name, place, other)
            for name, place in zip(names, PLACES, strict=True)
            for other in ([False, True] if known and place in CACHES else [False])
        ]
        columns = [f"{name}.other" if other else name for name, _, other in order]
        parts = [
            Part(
                _place(place) + (", another's line" if other else ""),
                plots.place(PLACES.index(place)),
                other,
            )
            for _, place, other in order
        ]
        panels += values.bars(group, found, columns, level.upper())
    if not panels:
        return "Entries read by walks: no figure, these runs have no walk.reads.*."
    notes = [f"Mean of a process, {scope}; each row of panels has its own scale."]
    if any(part.hatched for part in parts):
        notes.append(
            "Hatched: from a line that another process had brought in from memory (.other)."
        )
    return Figure(
        name=f"{group.id}-reads",
        title="Page-table entries read by walks: level, and where served",
        notes=notes + values.repeats(group),
        unit="count",
        quantity="reads per process",
        bars=panels,
        parts=parts,
    )


def latency(group: Group) -> Figure | str:
    """Distribution of the time of walks."""
    prefix, scope = values.scope(group)
    names = sorted(
        (name for name in metrics.registry() if name.startswith(prefix + LATENCY)),
        key=lambda name: int(name.removeprefix(prefix + LATENCY)),
    )
    if not names or not all(values.has(group, name) for name in names):
        return (
            "Walk latency: no figure, these runs have no walk.latency.*; they were made by an "
            "engine or a version that does not count it."
        )
    complete = group.frame[names].notna().all(axis=1)
    found = values.means(group, names, group.frame[complete])
    procs = values.chosen(group.procs, MOST_PROCS)
    panels = []
    edges = tuple(int(name.removeprefix(prefix + LATENCY)) for name in names)
    for count in procs:
        rows = found[found["procs"] == count].set_index("policy")[names].astype(float)
        shares = rows.div(rows.sum(axis=1), axis=0)[rows.sum(axis=1) > 0]
        drawn = tuple(
            (name, plots.policy(name), tuple(float(share) for share in shares.loc[name]))
            for name in group.policies
            if name in shares.index
        )
        if drawn:
            panels.append(Steps(groups.count(count, "process"), edges, drawn))
    if not panels:
        return "Walk latency: no figure, no run has a walk."
    notes = [f"Shares of all walks by the cycles that they took, {scope}."]
    if len(procs) < len(group.procs):
        left = ", ".join(str(count) for count in group.procs if count not in procs)
        notes.append(f"Left out for room: {left} processes.")
    if not complete.all():
        notes.append(f"{int((~complete).sum())} runs do not have it and are left out.")
    return Figure(
        name=f"{group.id}-latency",
        title="How long page walks took",
        notes=notes + values.repeats(group),
        unit="ratio",
        quantity="share of walks",
        steps=panels,
    )


def _place(place: str) -> str:
    return "memory" if place == "dram" else place.upper()


def headline(group: Group) -> tuple[str, list[str], list[list[tuple[str, str]]]] | None:
    """A table of the group at its most processes: a row a policy, change against private.

    :return: caption, heading, rows of figure and change; None without any run.
    """
    if not group.procs:
        return None
    most = group.procs[-1]
    prefix, _ = values.scope(group)
    names = [
        name
        for name in (
            *("pt.bytes", "vm.pte_bytes.end", "fault.total", "fault.minor"),
            *(f"{prefix}{name}" for name in ("walk.count", "walk.cycles", "cycles.total")),
        )
        if values.has(group, name)
    ]
    for better, other in (("pt.bytes", "vm.pte_bytes.end"), ("fault.total", "fault.minor")):
        if better in names and other in names:
            names.remove(other)
    if not names:
        return None
    found = values.means(group, names)
    found = found[found["procs"] == most].set_index("policy")
    base = found.loc[policies.BASELINE] if policies.BASELINE in found.index else None
    rows = []
    for policy in group.policies:
        if policy not in found.index:
            continue
        row = [(policy, "")]
        for name in names:
            value = _number(found.loc[policy, name])
            change = (
                ""
                if base is None or policy == policies.BASELINE
                else units.change(_number(base[name]), value)
            )
            row.append((mean_text(value, metrics.get(name).unit), change))
        rows.append(row)
    return f"With {groups.count(most, 'process')}", ["policy", *names], rows


def _number(value: object) -> float | None:
    import pandas as pd

    return None if pd.isna(value) else float(value)  # type: ignore[arg-type]
