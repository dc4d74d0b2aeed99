"""Files of ``ptshare protect-ways``: costs of each way, and where they cross."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from ptshare_plugin.common import units
from ptshare_plugin.report.groups import sorted_policies
from ptshare_plugin.report.inputs import Ways
from ptshare_plugin.report.model import Figure, Lines, Point, Series
from ptshare_plugin.show import plots
from ptshare_plugin.studies.protect_ways import DIRECTIONS, WAYS

if TYPE_CHECKING:
    import pandas as pd

_FIGURES = {
    "work_us": ("work of all cores", "work of all cores, us"),
    "hold_us": ("time until all have it", "time until all have it, us"),
}
_SETTING = ["cores", "region_bytes", "piece_bytes"]


def of(file: Ways, number: int) -> list[Figure]:
    """A figure for each setting (cores, region, piece) of one file, the ``number``-th."""
    made: list[Figure] = []
    for setting, frame in file.frame.groupby(_SETTING, sort=True):
        cores, region, piece = (int(value) for value in setting)
        name = f"ways-{number}" + (f"-{len(made) + 1}" if made else "")
        panels = [
            panel
            for direction in _directions(frame)
            for column in _FIGURES
            if (panel := _panel(frame[frame["direction"] == direction], direction, column)).series
        ]
        made.append(
            Figure(
                name=name,
                title=f"Changing the protection of {units.exact_size(piece)} of "
                f"{units.exact_size(region)} on {cores} cores",
                notes=[
                    f"From {file.name}, which does not say on which machine.",
                    *_sentences(frame),
                ],
                lines=panels,
                command=_command(frame),
            )
        )
    return made


def _command(frame: pd.DataFrame) -> str:
    """What measures all rows of one setting again; the machine it does not know."""
    first = frame.iloc[0]
    ways, policies = zip(*_pairs(frame), strict=True)
    options = {
        "--procs": ",".join(str(count) for count in sorted(frame["procs"].unique())),
        "--cores": str(first["cores"]),
        "--region": units.exact_size(int(first["region_bytes"])),
        "--piece": units.exact_size(int(first["piece_bytes"])),
        "--ways": ",".join(dict.fromkeys(ways)),
        "--policy": ",".join(dict.fromkeys(policies)),
    }
    words = [word for option in options.items() for word in option]
    return shlex.join(["ptshare", "protect-ways", *words, "-o", "ways.csv"])


def _directions(frame: pd.DataFrame) -> list[str]:
    found = list(frame["direction"].unique())
    return [*(each for each in DIRECTIONS if each in found), *sorted(set(found) - {*DIRECTIONS})]


def _pairs(frame: pd.DataFrame) -> list[tuple[str, str]]:
    """Ways with their policies, in the order of ``WAYS``."""
    found = {
        (str(way), str(policy)) for way, policy in zip(frame["way"], frame["policy"], strict=True)
    }
    policies = sorted_policies(sorted({policy for _, policy in found}))
    ways = [*WAYS, *sorted({way for way, _ in found} - {*WAYS})]
    return sorted(found, key=lambda pair: (ways.index(pair[0]), policies.index(pair[1])))


def _panel(rows: pd.DataFrame, direction: str, column: str) -> Lines:
    what, quantity = _FIGURES[column]
    drawn = []
    for number, (way, policy) in enumerate(_pairs(rows)):
        points = _rows(rows, way, policy)
        # A change that some never get has no cost to compare.
        points = points[points["hold_us"].notna()]
        if len(points):
            drawn.append(
                Series(
                    f"{way}, {policy}",
                    tuple(
                        Point(int(procs), float(value))
                        for procs, value in zip(points["procs"], points[column], strict=True)
                    ),
                    plots.part((*WAYS, way).index(way) * 2 + 2),
                    number,
                )
            )
    return Lines(f"To {direction}: {what}", quantity, "us", tuple(drawn))


def _rows(frame: pd.DataFrame, way: str, policy: str) -> pd.DataFrame:
    chosen = frame[(frame["way"] == way) & (frame["policy"] == policy)]
    return chosen.sort_values("procs")


def _sentences(frame: pd.DataFrame) -> list[str]:
    """In words where the shared call begins to cost less than each other way."""
    said = []
    for direction in _directions(frame):
        rows = frame[frame["direction"] == direction]
        pairs = _pairs(rows)
        for _, ours in (pair for pair in pairs if pair[0] == "shared"):
            for way, policy in (pair for pair in pairs if pair[0] != "shared"):
                left, right = _rows(rows, "shared", ours), _rows(rows, way, policy)
                said += _compared(direction, f"shared ({ours})", left, f"{way} ({policy})", right)
    return said


def _compared(
    direction: str, ours: str, left: pd.DataFrame, other: str, right: pd.DataFrame
) -> list[str]:
    both = left.merge(right, on="procs", suffixes=("", "_other"))
    if both.empty:
        return [f"To {direction}: {ours} and {other} have no number of processes in common."]
    last = both.iloc[-1]
    for name, suffix in ((ours, ""), (other, "_other")):
        if last[f"hold_us{suffix}"] != last[f"hold_us{suffix}"]:
            missed = last[f"adopted{suffix}"] < last["procs"]
            why = "does not reach all processes" if missed else "leaves stale translations"
            return [f"To {direction}: {ours} and {other} cannot be compared, {name} {why}."]
    found = []
    for column, (what, _) in _FIGURES.items():
        procs = [int(count) for count in both["procs"]]
        less = [bool(flag) for flag in both[column] < both[f"{column}_other"]]
        found.append(f"To {direction}, {what}: {crossing(procs, less, ours, other)}.")
    return found


def crossing(procs: list[int], less: list[bool], ours: str, other: str) -> str:
    """From which of the measured numbers on, up to the largest, ``ours`` costs less.

    :param procs: ascending. :param less: whether it does at each of them.
    """
    if not less[-1]:
        return f"{ours} does not beat {other} at {procs[-1]:,} processes"
    first = len(less) - 1
    while first and less[first - 1]:
        first -= 1
    if first == 0:
        return f"{ours} beats {other} at every measured number, from {procs[0]:,} processes on"
    before, after = procs[first - 1], procs[first]
    if after == before + 1:
        return f"{ours} beats {other} from {after:,} processes on"
    return (
        f"{ours} begins to beat {other} between {before:,} (not yet) and {after:,} processes "
        "(the numbers measured)"
    )
