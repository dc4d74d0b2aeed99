"""Runs divided into groups that figures may be drawn of.

In a group the policy, the number of processes and the seed vary, and nothing else but the number of
cores where it follows that of processes. Whatever else differs makes another group.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ptshare_plugin import policies
from ptshare_plugin.common import units
from ptshare_plugin.machine.schema import KEYS
from ptshare_plugin.metrics.registry import ROI
from ptshare_plugin.records import analysis
from ptshare_plugin.report.inputs import VERSIONS

if TYPE_CHECKING:
    import pandas as pd

_INSIDE = ("policy", "procs", "seed")
_TITLE = ("program", "args", "region_bytes", "engine", "preset")


@dataclass(frozen=True, slots=True)
class Group:
    """Runs of which every difference is shown in the group's figures.

    :param id: unique, fit for an anchor and a file's name.
    :param differs: what tells it from other groups of the same title, by parameter.
    :param frame: its runs, those that failed left out; may be empty.
    :param cores: "4 cores", or how cores follow processes.
    :param by: parameters of a point of its figures.
    """

    id: str
    title: str
    differs: dict[str, str]
    frame: pd.DataFrame
    cores: str
    by: tuple[str, ...]
    policies: tuple[str, ...]
    procs: tuple[int, ...]
    seeds: int
    failed: int

    @property
    def heading(self) -> str:
        """Title, with what differs."""
        return ", ".join([self.title, *(f"{name} {text}" for name, text in self.differs.items())])

    @property
    def roi(self) -> bool:
        """Whether all its programs mark a region of interest."""
        marked = [name for name in self.frame.columns if name.startswith(ROI)]
        inside = self.frame[marked].astype("Float64").max(axis=1)
        return bool(marked) and bool((inside > 0).fillna(False).all()) and len(self.frame) > 0


def divide(frame: pd.DataFrame) -> list[Group]:
    """Groups of all runs, those with a common title next to each other."""
    keys = separating(frame)
    core_keys, following = _follow(frame, keys)
    whole = frame.assign(_cores=core_keys)
    marks = whole.groupby([*keys, "_cores"], dropna=False, sort=False).ngroup()
    parts = [whole[marks == mark] for mark in range(int(marks.max()) + 1)]
    titles = [tuple(str(part.iloc[0][name]) for name in _TITLE) for part in parts]
    order = sorted(range(len(parts)), key=lambda i: _sort_key(parts[i].iloc[0], keys))
    groups: list[Group] = []
    for i in order:
        beside = [part for part, title in zip(parts, titles, strict=True) if title == titles[i]]
        names = [*keys, "_cores"]
        differing = [
            name
            for name in names
            if name not in _TITLE and len({_text(part.iloc[0][name]) for part in beside}) > 1
        ]
        groups.append(_group(len(groups), parts[i], differing, following))
    return groups


def separating(frame: pd.DataFrame) -> list[str]:
    """Columns in which runs of one group are all equal; cores are treated by themselves."""
    names = [*analysis.parameters(frame), "preset"]
    names += [name for name in VERSIONS if name in frame.columns]
    return [name for name in names if name not in (*_INSIDE, "cores")]


def _follow(frame: pd.DataFrame, keys: Sequence[str]) -> tuple[pd.Series, str]:
    """For each run its cores, or one word where they follow the processes in all such runs."""
    word = "with processes"
    marks = frame.groupby(list(keys), dropna=False, sort=False).ngroup()
    found = frame["cores"].astype(str)
    for mark in range(int(marks.max()) + 1):
        rows = frame[marks == mark]
        one_each = rows.groupby("procs")["cores"].nunique().max() == 1
        if one_each and rows["cores"].nunique() > 1:
            found[marks == mark] = word
    return found, word


def _group(number: int, runs: pd.DataFrame, differing: Sequence[str], following: str) -> Group:
    first = runs.iloc[0]
    differs = {
        _label(name): shown(name.removeprefix("_"), first[name])
        for name in differing
        if not (name == "_cores" and first[name] == following)
    }
    follows = first["_cores"] == following
    failed = runs["failed"].fillna(0) > 0 if "failed" in runs else runs["procs"] < 0
    good = runs[~failed.astype(bool)].drop(columns="_cores")
    return Group(
        id=f"g{number + 1}",
        title=_title(first),
        differs=differs,
        frame=good,
        cores=_cores(runs) if follows else count(int(first["cores"]), "core"),
        by=("policy", "procs", "cores") if follows else ("policy", "procs"),
        policies=tuple(sorted_policies(good["policy"].unique())),
        procs=tuple(sorted(int(count) for count in good["procs"].unique())),
        seeds=int(good["seed"].nunique()),
        failed=int(failed.sum()),
    )


def sorted_policies(names: Sequence[str]) -> list[str]:
    """Policies in the order in which all tables of ptshare have them."""
    return sorted(names, key=lambda name: (policies.place(name), name))


def _title(first: pd.Series) -> str:
    words = [f"{first['program']} {first['args']}".strip()]
    words.append(f"region {units.exact_size(int(first['region_bytes']))}")
    words.append(f"engine {first['engine']}")
    words.append(f"preset {first['preset']}")
    return ", ".join(words)


def _cores(runs: pd.DataFrame) -> str:
    pairs = sorted({(int(p), int(c)) for p, c in zip(runs["procs"], runs["cores"], strict=True)})
    most = pairs[-1][1]
    if all(cores == min(procs, most) for procs, cores in pairs):
        same = "as many cores as processes"
        return same if most == pairs[-1][0] else f"{same}, at most {most}"
    each = ", ".join(f"{cores} for {procs}" for procs, cores in pairs)
    return f"cores by processes: {each}"


def count(number: int, noun: str) -> str:
    """A number of things in words."""
    plural = "es" if noun.endswith("s") else "s"
    return f"{number:,} {noun}" + (plural if number != 1 else "")


def _label(name: str) -> str:
    return {
        "program_sha256": "program's hash",
        "region_bytes": "region",
        "share": "MAP_SHARED_PT asked for:",
        "_cores": "cores",
    }.get(name, name)


def shown(name: str, value: Any) -> str:
    """A parameter's value as people read it."""
    if _text(value) == "":
        return {"work": "default", "ptshare": "unknown", "gem5": "none"}.get(name, "none")
    if name == "region_bytes" or (name in KEYS and KEYS[name].unit == "bytes"):
        return units.exact_size(int(value))
    if name == "program_sha256":
        return str(value)[:12]
    if isinstance(value, bool) or type(value).__name__ == "bool":
        return "yes" if value else "no"
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)


def _text(value: Any) -> str:
    """What is equal for equal values; nothing for a missing one."""
    missing = value is None or (isinstance(value, float) and math.isnan(value))
    return "" if missing or type(value).__name__ == "NAType" else str(value)


def _sort_key(first: pd.Series, keys: Sequence[str]) -> tuple[tuple[bool, float, str], ...]:
    names = [*_TITLE, *(name for name in keys if name not in _TITLE), "_cores"]
    return tuple(_natural(first[name]) for name in names)


def _natural(value: Any) -> tuple[bool, float, str]:
    text = _text(value)
    try:
        return (False, float(text), "")
    except ValueError:
        return (True, 0.0, text)


def differences(frame: pd.DataFrame) -> tuple[dict[str, list[tuple[str, int]]], dict[str, str]]:
    """Parameters that vary with their values and numbers of runs; and those that do not."""
    names = [*analysis.parameters(frame), "preset"]
    names += [name for name in VERSIONS if name in frame.columns]
    varying: dict[str, list[tuple[str, int]]] = {}
    common: dict[str, str] = {}
    for name in names:
        texts = frame[name].map(_text)
        values = {text: value for text, value in zip(texts, frame[name], strict=True)}
        counts = texts.value_counts()
        order = sorted(values, key=_natural)
        if len(order) > 1:
            varying[name] = [(shown(name, values[text]), int(counts[text])) for text in order]
        else:
            common[name] = shown(name, values[order[0]])
    return varying, common
