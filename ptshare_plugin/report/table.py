"""The table of all runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ptshare_plugin import policies
from ptshare_plugin.common import units
from ptshare_plugin.machine.schema import KEYS
from ptshare_plugin.metrics import registry as metrics
from ptshare_plugin.records import analysis
from ptshare_plugin.records.summary import KEY_METRICS
from ptshare_plugin.report import groups
from ptshare_plugin.report.inputs import VERSIONS

if TYPE_CHECKING:
    import pandas as pd

_FIRST = ("program", "args", "region_bytes", "engine", "policy", "procs", "cores", "seed")
_ALWAYS = ("program", "policy", "procs")
MOST_KEYS = 8
"""Columns of machine keys that vary; beyond, they are in the list of differences alone."""


@dataclass(frozen=True, slots=True)
class Cell:
    """One figure or word.

    :param sort: what its column is sorted by: a number, or words.
    :param saving: change against private, in words.
    """

    text: str
    sort: str
    saving: str = ""
    number: bool = False


@dataclass(frozen=True, slots=True)
class Table:
    """Cells by row, ``failed`` for each row, and how many varying keys have no column."""

    heading: list[tuple[str, str]]
    rows: list[list[Cell]]
    failed: list[bool]
    hidden: int


def of(frame: pd.DataFrame) -> Table:
    """A row a run, in the order of ``frame``: what varies, key metrics, change against private."""
    varying = [name for name in (*analysis.axes(frame), "preset") if frame[name].nunique() > 1]
    varying += [
        name for name in VERSIONS if name in frame and frame[name].nunique(dropna=False) > 1
    ]
    shown = [name for name in _FIRST if name in _ALWAYS or name in varying]
    others = [name for name in varying if name not in shown]
    keys = [name for name in others if name in KEYS]
    shown += [name for name in others if name not in KEYS] + keys[:MOST_KEYS]
    figures = [name for name in KEY_METRICS if name in frame and frame[name].notna().any()]
    savings = {name: _savings(frame, name) for name in figures}
    known = metrics.registry()
    heading = [("run", "folder of the run")]
    heading += [(_short(name), KEYS[name].meaning if name in KEYS else "") for name in shown]
    heading += [(name, f"{known[name].meaning} ({known[name].unit})") for name in figures]
    rows = []
    for label, row in zip(frame.index, frame.to_dict("records"), strict=True):
        cells = [Cell(str(row["run"]), str(row["run"]))]
        cells += [_word(name, row[name]) for name in shown]
        cells += [_figure(name, row[name], savings[name].get(label)) for name in figures]
        rows.append(cells)
    failed = frame["failed"].fillna(0) > 0 if "failed" in frame else [False] * len(frame)
    return Table(heading, rows, [bool(flag) for flag in failed], len(keys[MOST_KEYS:]))


def _short(name: str) -> str:
    return {"region_bytes": "region", "program_sha256": "program's hash"}.get(name, name)


def _word(name: str, value: Any) -> Cell:
    text = groups.shown(name, value)
    number = isinstance(value, int | float) and not isinstance(value, bool) and value == value
    return Cell(text, f"{value}" if number else text, number=number)


def _figure(name: str, value: Any, saving: float | None) -> Cell:
    import pandas as pd

    known = None if pd.isna(value) else float(value)
    change = "" if saving is None else f"{-100 * saving:+.1f} %"
    return Cell(
        units.short_value(known, metrics.get(name).unit),
        "" if known is None else repr(known),
        change.replace("-", "\u2212"),
        number=True,
    )


def _savings(frame: pd.DataFrame, name: str) -> dict[Any, float]:
    """Saving of each run against the baseline, where there is such a run; by the frame's index."""
    versions = [column for column in VERSIONS if column in frame]
    same: Sequence[str] = [
        *(column for column in analysis.parameters(frame) if column != "policy"),
        *versions,
    ]
    marks = frame.groupby(list(same), dropna=False, sort=False).ngroup()
    good = frame[name].notna()
    if "failed" in frame:
        good &= ~(frame["failed"].fillna(0) > 0).astype(bool)
    base = (frame["policy"] == policies.BASELINE) & good
    values = frame[name].astype("Float64")
    means = values[base].groupby(marks[base]).mean()
    found = {}
    for label in frame.index[good & (frame["policy"] != policies.BASELINE)]:
        against = means.get(marks[label])
        if against is not None and against != 0:
            found[label] = float(1 - values[label] / against)
    return found
