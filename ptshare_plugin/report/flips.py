"""Runs of workload ``protect``: what a change of protection costs under each shootdown strategy."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ptshare_plugin.records import analysis
from ptshare_plugin.report import groups, values
from ptshare_plugin.report.groups import Group
from ptshare_plugin.report.model import Figure, Lines, Series
from ptshare_plugin.show import plots

if TYPE_CHECKING:
    import pandas as pd

PROGRAM = "protect"
HOW = ("shootdown.strategy", "shootdown.batch", "shootdown.broadcast")
COST = "cycles per change"
MOST = 6
"""Figures; a report with more says which were left out."""

_CYCLES, _REQUESTS = "roi.cycles.shootdown", "roi.shootdown.requests"
_LABEL = "_label"


def of(frame: pd.DataFrame) -> tuple[list[Figure], str]:
    """Figures of the runs of ``protect`` in ``frame`` (failed ones left out).

    :return: the figures, and why there are none.
    """
    runs = frame[frame["program"] == PROGRAM]
    if runs.empty:
        return [], "no runs of workload protect"
    lacking = [name for name in (*HOW, _CYCLES, _REQUESTS) if name not in runs.columns]
    if lacking:
        return [], f"the runs of workload protect have no {lacking[0]}"
    ways = runs[list(HOW)].drop_duplicates()
    if len(ways) < 2:
        return [], "the shootdown strategy does not vary among the runs of workload protect"
    requests = runs[_REQUESTS].astype("Float64")
    runs = runs.assign(**{COST: runs[_CYCLES].astype("Float64") / requests.mask(requests == 0)})
    runs = runs.assign(**{_LABEL: runs.apply(lambda row: _label(row, ways), axis=1)})
    order = sorted(runs[_LABEL].unique())
    made: list[Figure] = []
    # The labels say it: groups that differ in nothing else are one figure.
    for group in groups.divide(runs.assign(**dict.fromkeys(HOW, "varies"))):
        if group.frame[_LABEL].nunique() > 1:
            made.append(_figure(f"shootdowns-{len(made) + 1}", group, order))
    reason = "" if made else "no two runs of workload protect differ in the strategy alone"
    for figure in made[MOST:]:
        made[MOST - 1].notes.append(f"Left out for room: {figure.title}.")
    return made[:MOST], reason


def _figure(name: str, group: Group, order: list[str]) -> Figure:
    frame = group.frame
    panels = []
    for policy in group.policies:
        drawn = []
        for label in order:
            rows = frame[(frame[_LABEL] == label) & (frame["policy"] == policy)]
            if rows[COST].notna().any():
                found = analysis.mean_ci(rows, COST, by=list(group.by))
                points = values.points(found[found["n"] > 0])
                # The first part is a light grey, for bars.
                number = order.index(label)
                drawn.append(Series(label, points, plots.part(1 + number), number))
        if drawn:
            panels.append(Lines(policy, COST, "cycles", tuple(drawn)))
    return Figure(
        name=name,
        title=f"Cycles of TLB shootdowns for each mprotect: {group.heading}",
        notes=[
            f"{_CYCLES} / {_REQUESTS}: those of all CPUs, for each flush that is asked for; in the "
            "region of interest each mprotect asks for one.",
            f"{group.cores[:1].upper()}{group.cores[1:]}.",
        ],
        lines=panels,
    )


def _label(row: pd.Series, ways: pd.DataFrame) -> str:
    strategy = str(row[HOW[0]])
    words = ["the policy's own" if strategy == "policy" else strategy]
    if ways[HOW[1]].nunique() > 1 and not row[HOW[1]]:
        words.append("not batched")
    if ways[HOW[2]].nunique() > 1 and row[HOW[2]]:
        words.append("broadcast")
    return ", ".join(words)
