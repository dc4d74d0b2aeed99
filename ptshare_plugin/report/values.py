"""Means over repeats of one group's metrics, in the shapes that figures need."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ptshare_plugin import policies
from ptshare_plugin.metrics import registry as metrics
from ptshare_plugin.metrics.registry import ROI
from ptshare_plugin.records import analysis
from ptshare_plugin.report.groups import Group
from ptshare_plugin.report.model import Bars, Point, Series
from ptshare_plugin.show import plots

if TYPE_CHECKING:
    import pandas as pd


def series(group: Group, name: str, dashed: bool = False, suffix: str = "") -> list[Series]:
    """Mean of a metric against processes, a series a policy, with intervals over seeds."""
    found = analysis.mean_ci(group.frame, name, by=list(group.by))
    found = found[found["n"] > 0]
    made = []
    for policy in group.policies:
        rows = found[found["policy"] == policy]
        if len(rows):
            made.append(
                Series(
                    policy + suffix,
                    points(rows),
                    plots.policy(policy),
                    policies.place(policy),
                    dashed,
                )
            )
    return made


def points(rows: pd.DataFrame) -> tuple[Point, ...]:
    """Points of what ``mean_ci`` gives for one series."""
    return tuple(
        Point(
            int(row["procs"]),
            float(row["mean"]),
            None if row["n"] < 2 else float(row["low"]),
            None if row["n"] < 2 else float(row["high"]),
            int(row["n"]),
        )
        for row in rows.sort_values("procs").to_dict("records")
    )


def means(group: Group, names: Sequence[str], frame: pd.DataFrame | None = None) -> pd.DataFrame:
    """Means over seeds of several metrics at once, by policy and processes."""
    runs = group.frame if frame is None else frame
    analysis.mean_ci(runs, names[0], by=list(group.by))  # refuses what is no repeat
    values = runs[list(names)].astype("Float64")
    keys = [runs[name] for name in group.by]
    return values.groupby(keys, sort=True).mean().reset_index()


def stack(group: Group, names: Sequence[str]) -> tuple[list[str], list[Bars]] | None:
    """Those of ``names`` that are not 0 everywhere, and a panel a policy; None without any."""
    if not names:
        return None
    found = means(group, names)
    used = [name for name in names if (found[name].fillna(0) != 0).any()]
    return (used, bars(group, found, used)) if used else None


def bars(group: Group, found: pd.DataFrame, columns: Sequence[str], row: str = "") -> list[Bars]:
    """A panel a policy of means of a process."""
    made = []
    for policy in group.policies:
        rows = found[found["policy"] == policy].sort_values("procs")
        each = rows[list(columns)].astype("Float64").fillna(0).div(rows["procs"], axis=0)
        made.append(
            Bars(
                policy,
                plots.policy(policy),
                row,
                tuple(int(count) for count in rows["procs"]),
                tuple(tuple(float(value) for value in line) for line in each.to_numpy(dtype=float)),
            )
        )
    return made


def chosen(values: Sequence[int], most: int) -> tuple[int, ...]:
    """At most ``most`` of ascending values: both ends and what is between at even distances."""
    if len(values) <= most:
        return tuple(values)
    return tuple(values[round(i * (len(values) - 1) / (most - 1))] for i in range(most))


def has(group: Group, name: str) -> bool:
    """Whether some run of the group has the metric."""
    return name in group.frame.columns and bool(group.frame[name].notna().any())


def scope(group: Group) -> tuple[str, str]:
    """Prefix of the metrics to show, and in words what they cover."""
    return (ROI, "inside the region of interest") if group.roi else ("", "whole run")


def repeats(group: Group, intervals: bool = False) -> list[str]:
    """A sentence on means over seeds, if there are several."""
    if group.seeds < 2:
        return []
    drawn = "; bars at points are 95 % intervals" if intervals else ""
    return [f"Means over {group.seeds} seeds{drawn}."]


def meanings(names: Sequence[str]) -> dict[str, str]:
    """What each metric means."""
    return {name: metrics.get(name).meaning for name in names}
