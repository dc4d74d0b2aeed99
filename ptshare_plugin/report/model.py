"""What a figure shows, as numbers: computed from runs, then drawn and written as a table."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field

from ptshare_plugin.common import units


@dataclass(frozen=True, slots=True)
class Point:
    """One value at ``x`` processes.

    :param low, high: ends of the 95 % interval; None for fewer than two repeats.
    """

    x: int
    value: float
    low: float | None = None
    high: float | None = None
    n: int = 1


@dataclass(frozen=True, slots=True)
class Series:
    """Values of one policy, or of one way or strategy.

    :param colour: of ``plots``, as a hex number.
    :param dashed: it is a part of the series before it.
    """

    label: str
    points: tuple[Point, ...]
    colour: str
    marker: int = 0
    dashed: bool = False


@dataclass(frozen=True, slots=True)
class Lines:
    """A panel of series against the number of processes."""

    title: str
    quantity: str
    unit: str
    series: tuple[Series, ...]


@dataclass(frozen=True, slots=True)
class Part:
    """One part of every bar of a figure. ``hatched``: it is a share of the part before it."""

    label: str
    colour: str
    hatched: bool = False


@dataclass(frozen=True, slots=True)
class Bars:
    """A panel of bars, one a number of processes, each a stack of a figure's parts.

    :param values: for each bar its parts' values, in their order.
    """

    title: str
    colour: str
    row: str
    bars: tuple[int, ...]
    values: tuple[tuple[float, ...], ...]


@dataclass(frozen=True, slots=True)
class Steps:
    """A panel of distributions over common bins, in shares of one.

    :param edges: lower bounds of the bins; the last bin is open.
    """

    title: str
    edges: tuple[int, ...]
    series: tuple[tuple[str, str, tuple[float, ...]], ...]


@dataclass(slots=True)
class Figure:
    """One figure with the panels of one kind.

    :param name: unique, fit for a file's name.
    :param notes: sentences about what is shown, what not and why.
    :param parts: of panels of bars.
    :param meanings: what each metric of the parts is.
    :param command: what measures it again, if that is no run.
    """

    name: str
    title: str
    notes: list[str]
    unit: str = ""
    quantity: str = ""
    lines: list[Lines] = field(default_factory=list)
    bars: list[Bars] = field(default_factory=list)
    steps: list[Steps] = field(default_factory=list)
    parts: list[Part] = field(default_factory=list)
    meanings: dict[str, str] = field(default_factory=dict)
    command: str = ""

    def table(self) -> tuple[list[str], list[list[str]]]:
        """Heading and rows of all that is drawn."""
        if self.lines:
            return _lines_table(self.lines)
        if self.bars:
            return _bars_table(self)
        return _steps_table(self.steps)

    @property
    def described(self) -> str:
        """What it is, for those who do not see it."""
        panels = [panel.title for panel in self.lines]
        panels += [panel.title for panel in self.bars] + [panel.title for panel in self.steps]
        return f"{self.title}. Panels: {'; '.join(dict.fromkeys(panels))}. The numbers are below."


def _lines_table(panels: Sequence[Lines]) -> tuple[list[str], list[list[str]]]:
    several = len(panels) > 1
    heading = [*(["panel"] if several else []), "series", "processes", "mean", "95 % interval", "n"]
    rows = []
    for panel in panels:
        for series in panel.series:
            for point in series.points:
                ends = [point.low, point.high]
                rows.append(
                    [
                        *([panel.title] if several else []),
                        series.label,
                        f"{point.x:,}",
                        mean_text(point.value, panel.unit),
                        " to ".join(mean_text(end, panel.unit) for end in ends)
                        if None not in ends
                        else "-",
                        f"{point.n:,}",
                    ]
                )
    return heading, rows


def _bars_table(figure: Figure) -> tuple[list[str], list[list[str]]]:
    rowed = len({panel.row for panel in figure.bars}) > 1
    heading = ["policy", *(["level"] if rowed else []), "processes"]
    heading += [part.label for part in figure.parts] + ["sum"]
    rows = [
        [
            panel.title,
            *([panel.row] if rowed else []),
            f"{bar:,}",
            *(mean_text(value, figure.unit) for value in values),
            mean_text(sum(values), figure.unit),
        ]
        for panel in figure.bars
        for bar, values in zip(panel.bars, panel.values, strict=True)
    ]
    return heading, rows


def _steps_table(panels: Sequence[Steps]) -> tuple[list[str], list[list[str]]]:
    edges = panels[0].edges
    heading = ["processes", "policy", *bin_names(edges)]
    rows = [
        [panel.title, label, *(units.short_value(value, "ratio") for value in values)]
        for panel in panels
        for label, _, values in panel.series
    ]
    return heading, rows


def bin_names(edges: Sequence[int]) -> list[str]:
    """``0 to 7``, ``8 to 15``, ..., ``2,048 and more``."""
    closed = [f"{low:,} to {high - 1:,}" for low, high in itertools.pairwise(edges)]
    return [*closed, f"{edges[-1]:,} and more"]


def mean_text(value: float | None, unit: str) -> str:
    """A mean for people: whole from 100 on, as ``units.short_value`` has it below."""
    far = value is not None and unit not in ("bytes", "ratio") and abs(value) >= 100
    return units.short_value(round(value) if far and value is not None else value, unit)
