"""The page: everything that was computed and drawn, by one template."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ptshare_plugin.report import commands, draw, figures, flips, groups, table, ways
from ptshare_plugin.report.commands import Commands
from ptshare_plugin.report.groups import Group
from ptshare_plugin.report.inputs import VERSIONS, Inputs
from ptshare_plugin.report.model import Figure
from ptshare_plugin.show import pages

if TYPE_CHECKING:
    import pandas as pd

MOST_GROUPS = 12
"""Groups with figures. The others are in the table of runs, and are named."""


@dataclass(slots=True)
class Section:
    """One group of runs with its figures."""

    group: Group
    figures: list[Figure]
    missing: list[str]
    headline: Any
    commands: Commands | None


@dataclass(slots=True)
class Content:
    """All that a page says.

    :param inputs: paths as the user gave them.
    :param left_out: headings of groups without figures.
    """

    inputs: Sequence[str]
    read: Inputs
    sections: list[Section] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    flips: list[Figure] = field(default_factory=list)
    no_flips: str = "no runs"
    flip_commands: Commands | None = None
    ways: list[Figure] = field(default_factory=list)
    runs: table.Table | None = None
    varying: dict[str, list[tuple[str, int]]] = field(default_factory=dict)
    common: dict[str, str] = field(default_factory=dict)

    @property
    def figures(self) -> list[Figure]:
        """All of them, in the order of the page."""
        return [
            *(figure for section in self.sections for figure in section.figures),
            *self.flips,
            *self.ways,
        ]


def compute(inputs: Sequence[str], read: Inputs) -> Content:
    """Numbers of the whole page."""
    content = Content(inputs, read)
    for number, file in enumerate(read.ways):
        content.ways += ways.of(file, number + 1)
    if read.runs is None:
        return content
    frame = read.runs
    divided = groups.divide(frame)
    shown = choose(divided)
    for group in divided:
        if group not in shown:
            content.left_out.append(group.heading)
            continue
        made, missing = figures.of(group) if group.procs else ([], ["All its runs failed."])
        content.sections.append(
            Section(group, made, missing, figures.headline(group), _commands(group.frame))
        )
    good = frame[~(frame["failed"].fillna(0) > 0).astype(bool)] if "failed" in frame else frame
    content.flips, content.no_flips = flips.of(good)
    if content.flips:
        content.flip_commands = _commands(good[good["program"] == flips.PROGRAM])
    content.runs = table.of(frame)
    content.varying, content.common = groups.differences(frame)
    return content


def choose(divided: Sequence[Group]) -> list[Group]:
    """At most ``MOST_GROUPS``: of each title the largest, then the second ones, and so on."""
    if len(divided) <= MOST_GROUPS:
        return list(divided)
    by_title: dict[str, list[Group]] = {}
    for group in divided:
        by_title.setdefault(group.title, []).append(group)
    for beside in by_title.values():
        beside.sort(key=lambda group: -len(group.frame))
    rounds = max(map(len, by_title.values()))
    order = [b[i] for i in range(rounds) for b in by_title.values() if i < len(b)]
    return order[:MOST_GROUPS]


def _commands(frame: pd.DataFrame) -> Commands | None:
    return commands.compress(frame["command"]) if "command" in frame.columns else None


def render(content: Content) -> str:
    """The page as HTML text."""
    read = content.read
    failed: list[str] = []
    if content.runs is not None:
        pairs = zip(content.runs.rows, content.runs.failed, strict=True)
        failed = [row[0].text for row, flag in pairs if flag]
    return pages.render(
        "report.html.j2",
        content=content,
        read=read,
        failed=failed,
        facts=_facts(read),
        versions=_versions(read),
        plots={figure.name: draw.inline(figure) for figure in content.figures},
        again=shlex.join(["ptshare", "report", *content.inputs, "-o", "report.html"]),
    )


def _facts(read: Inputs) -> list[str]:
    """What the report is of, in few words each."""
    facts = []
    if (frame := read.runs) is not None:
        facts.append(groups.count(len(frame), "run"))
        facts.append(_listed("program", [str(name) for name in frame["program"].unique()]))
        names = groups.sorted_policies(frame["policy"].unique())
        facts.append(_listed("policy" if len(names) == 1 else "policies", names))
        facts.append(_listed("engine", [str(name) for name in frame["engine"].unique()]))
        low, high = int(frame["procs"].min()), int(frame["procs"].max())
        same = low == high
        facts.append(groups.count(low, "process") if same else f"{low:,} to {high:,} processes")
    if read.ways:
        facts.append(groups.count(len(read.ways), "file") + " of protect-ways")
    return facts


def _listed(noun: str, names: Sequence[str], most: int = 6) -> str:
    words = sorted(names) if not noun.startswith("polic") else list(names)
    more = f" and {len(words) - most} more" if len(words) > most else ""
    if noun in ("program", "engine") and len(words) > 1:
        noun += "s"
    return f"{noun} {', '.join(words[:most])}{more}"


def _versions(read: Inputs) -> dict[str, str]:
    found = {}
    if read.runs is not None:
        for name in VERSIONS:
            if name in read.runs and read.runs[name].notna().any():
                values = sorted({str(value) for value in read.runs[name].dropna()})
                found[name] = ", ".join(values)
    return found
