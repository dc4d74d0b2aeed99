"""Figures drawn by Matplotlib: inside a page, and as files."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ptshare_plugin.common import units
from ptshare_plugin.report.model import Bars, Figure, Lines, Part, Series
from ptshare_plugin.show import plots

if TYPE_CHECKING:
    import matplotlib.figure

_SPREAD = 20  # times between the least and the greatest value, from which an axis is logarithmic
_WIDTH = 9.2  # inches


def inline(figure: Figure) -> str:
    """The figure as an ``svg`` element."""
    with _drawn(figure) as drawn:
        return plots.inline(drawn, figure.name, figure.described)


def save(figure: Figure, folder: Path) -> None:
    """The figure as ``NAME.pdf`` and ``NAME.svg``."""
    with _drawn(figure) as drawn:
        for suffix in (".pdf", ".svg"):
            plots.save(drawn, folder / f"{figure.name}{suffix}")


@contextmanager
def _drawn(figure: Figure) -> Iterator[matplotlib.figure.Figure]:
    import matplotlib

    with matplotlib.rc_context(plots.settings(figure.name)):
        if figure.lines:
            yield _lines(figure.lines)
        elif figure.bars:
            yield _bars(figure)
        else:
            yield _steps(figure)


def _grid(
    rows: int, columns: int, height: float, width: float = _WIDTH, **more: Any
) -> tuple[matplotlib.figure.Figure, Any]:
    from matplotlib.figure import Figure as Canvas

    canvas = Canvas(figsize=(width, height * rows), layout="constrained")
    return canvas, canvas.subplots(rows, columns, squeeze=False, **more)


# Series against processes -----------------------------------------------------------------------


def _lines(panels: Sequence[Lines]) -> matplotlib.figure.Figure:
    across = 1 if len(panels) == 1 else 2
    down = math.ceil(len(panels) / across)
    width = 6.8 if across == 1 else _WIDTH
    canvas, axes = _grid(down, across, 3.0, width)
    flat = list(axes.flat)
    for panel, ax in zip(panels, flat, strict=False):
        single = len({point.x for series in panel.series for point in series.points}) < 2
        (_one_number if single else _against)(ax, panel)
        if len(panels) > 1:
            ax.set_title(panel.title, loc="left")
    for ax in flat[len(panels) :]:
        ax.set_visible(False)
    handles: dict[str, Any] = {}
    for ax in flat:
        for handle, label in zip(*ax.get_legend_handles_labels(), strict=True):
            handles.setdefault(label, handle)
    if handles:
        _legend(canvas, list(handles.values()), list(handles), handlelength=2.4)
    return canvas


def _legend(canvas: Any, handles: Sequence[Any], labels: Sequence[str], **more: Any) -> None:
    """Above the panels; so many columns as the longest label leaves room for."""
    inches = 0.5 + 0.085 * max(map(len, labels))
    columns = max(1, min(len(labels), int(canvas.get_figwidth() / inches)))
    canvas.legend(
        handles, labels, loc="outside upper left", ncols=columns, columnspacing=1.4, **more
    )


def _against(ax: Any, panel: Lines) -> None:
    values = []
    for series in panel.series:
        xs = [point.x for point in series.points]
        ys = [point.value for point in series.points]
        values += ys
        ax.plot(
            xs,
            ys,
            color=series.colour,
            marker=plots.MARKERS[series.marker % len(plots.MARKERS)],
            linestyle="--" if series.dashed else "-",
            markerfacecolor=plots.light(plots.PAPER) if series.dashed else series.colour,
            label=series.label,
        )
        _intervals(ax, series)
    counts = sorted({point.x for series in panel.series for point in series.points})
    _processes_axis(ax, counts)
    _value_axis(ax.yaxis, panel.unit, values)
    ax.set_ylabel(panel.quantity)
    ax.grid(axis="y")


def _intervals(ax: Any, series: Series) -> None:
    known = [point for point in series.points if point.low is not None and point.high is not None]
    if known:
        ax.errorbar(
            [point.x for point in known],
            [point.value for point in known],
            yerr=[
                [point.value - (point.low or 0) for point in known],
                [(point.high or 0) - point.value for point in known],
            ],
            fmt="none",
            ecolor=series.colour,
            elinewidth=1,
            capsize=3,
        )


def _one_number(ax: Any, panel: Lines) -> None:
    """With one number of processes there is nothing to connect: a bar a series."""
    drawn = [(series, point) for series in panel.series for point in series.points]
    for row, (series, point) in enumerate(drawn):
        known = point.low is not None and point.high is not None
        error = (
            [[point.value - (point.low or 0)], [(point.high or 0) - point.value]] if known else None
        )
        ax.barh(
            row,
            point.value,
            xerr=error,
            height=0.65,
            color=plots.light(plots.PAPER) if series.dashed else series.colour,
            edgecolor=series.colour,
            ecolor=plots.light(plots.INK),
            capsize=3,
            hatch="////" if series.dashed else None,
        )
        ax.annotate(
            units.short_value(point.value, panel.unit),
            (point.value, row),
            xytext=(5, 0),
            textcoords="offset points",
            va="center",
            fontsize=8.5,
        )
    ax.set_yticks(range(len(drawn)), [series.label for series, _ in drawn])
    ax.set_ylim(len(drawn) - 0.4, -0.6)
    ax.tick_params(axis="y", length=0)
    ax.margins(x=0.18)
    _value_axis(ax.xaxis, panel.unit, [0.0])
    ax.set_xlabel(f"{panel.quantity}, {_words(drawn[0][1].x)}" if drawn else panel.quantity)
    ax.grid(axis="x")


def _words(count: int) -> str:
    return "1 process" if count == 1 else f"{count:,} processes"


def _processes_axis(ax: Any, counts: Sequence[int]) -> None:
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

    ax.set_xscale("log", base=2)
    far: list[int] = []
    for count in counts:  # labels need room
        if not far or math.log2(count / far[-1]) > math.log2(counts[-1] / counts[0]) / 12:
            far.append(count)
    ax.xaxis.set_major_locator(FixedLocator(far))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    ax.set_xlabel("processes")


def _value_axis(axis: Any, unit: str, values: Sequence[float]) -> None:
    from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter

    positive = [value for value in values if value > 0]
    ax = axis.axes
    if len(positive) == len(values) and positive and max(positive) > _SPREAD * min(positive):
        ax.set_yscale("log", base=2 if unit == "bytes" else 10)
        axis.set_minor_formatter(NullFormatter())
    else:
        if axis is ax.yaxis:
            ax.set_ylim(bottom=0)
        else:
            ax.set_xlim(left=0)
        if unit == "bytes":
            # So that ticks are round in KiB, MiB, ...
            axis.set_major_locator(_binary_locator())
        else:
            axis.set_major_locator(MaxNLocator(6, steps=[1, 2, 2.5, 5, 10]))
    axis.set_major_formatter(FuncFormatter(lambda value, _: short(value, unit)))


def _binary_locator() -> Any:
    from matplotlib.ticker import Locator

    class Binary(Locator):
        def __call__(self) -> Any:
            axis: Any = self.axis
            return self.tick_values(*sorted(axis.get_view_interval()))

        def tick_values(self, vmin: float, vmax: float) -> Any:
            step = 2.0 ** math.ceil(math.log2(max(vmax - vmin, 1) / 6))
            return [step * i for i in range(math.ceil(vmin / step), int(vmax / step) + 1)]

    return Binary()


def short(value: float, unit: str) -> str:
    """A tick's label: ``64 KiB``, ``1.5M``, ``20 %``."""
    if unit == "bytes":
        text = units.short_size(value)
        return text.replace(".0 ", " ")
    if unit == "ratio":
        return f"{100 * value:g} %"
    for scale, letter in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= scale:
            return f"{value / scale:g}{letter}"
    return f"{value:g}"


# Stacks -----------------------------------------------------------------------------------------


def _bars(figure: Figure) -> matplotlib.figure.Figure:
    rows = list(dict.fromkeys(panel.row for panel in figure.bars))
    policies = list(dict.fromkeys(panel.title for panel in figure.bars))
    most = max(len(panel.bars) for panel in figure.bars)
    share = min(_WIDTH, max(len(policies) * (0.9 + 0.28 * most) + 1.2, 4.6))
    height = 3.1 if len(rows) == 1 else 1.7
    canvas, axes = _grid(len(rows), len(policies), height, share, sharey="row", sharex="col")
    for panel in figure.bars:
        row, column = rows.index(panel.row), policies.index(panel.title)
        ax = axes[row][column]
        _stack(ax, panel, figure.parts)
        if row == 0:
            ax.set_title(panel.title, loc="left", color=panel.colour)
        if column == 0:
            name = f"{panel.row} " if panel.row else ""
            ax.set_ylabel(f"{name}{figure.quantity}")
    for ax in axes[-1]:
        ax.set_xlabel("processes")
    for line in axes:
        _value_axis(line[0].yaxis, figure.unit, [0.0])
    _legend(canvas, *_part_handles(figure.parts), handlelength=1.2)
    return canvas


def _stack(ax: Any, panel: Bars, parts: Sequence[Part]) -> None:
    places = range(len(panel.bars))
    below = [0.0] * len(panel.bars)
    for number, part in enumerate(parts):
        heights = [values[number] for values in panel.values]
        ax.bar(
            places,
            heights,
            bottom=below,
            width=0.72,
            color=part.colour,
            edgecolor=plots.light(plots.PAPER),
            linewidth=0.5,
            hatch="/////" if part.hatched else None,
        )
        below = [low + height for low, height in zip(below, heights, strict=True)]
    ax.set_xticks(list(places), [f"{count:,}" for count in panel.bars])
    if len(panel.bars) > 6:
        ax.tick_params(axis="x", labelrotation=90)
    ax.tick_params(axis="x", length=0)
    ax.grid(axis="y")


def _part_handles(parts: Sequence[Part]) -> tuple[list[Any], list[str]]:
    from matplotlib.patches import Patch

    handles = [
        Patch(
            facecolor=part.colour,
            edgecolor=plots.light(plots.PAPER),
            linewidth=0.5,
            hatch="/////" if part.hatched else None,
        )
        for part in parts
    ]
    return handles, [part.label for part in parts]


# Distributions ----------------------------------------------------------------------------------


def _steps(figure: Figure) -> matplotlib.figure.Figure:
    from matplotlib.ticker import FuncFormatter

    canvas, axes = _grid(1, len(figure.steps), 3.0, sharey="row")
    for panel, ax in zip(figure.steps, axes[0], strict=True):
        places = list(range(len(panel.edges) + 1))
        for number, (label, colour, shares) in enumerate(panel.series):
            ax.stairs(
                shares,
                places,
                color=colour,
                linewidth=1.8,
                linestyle=("-", "--", "-.", ":")[number % 4],
                label=label,
            )
        ax.set_xticks(places, [*(f"{edge:,}" for edge in panel.edges), "\u221e"])
        ax.tick_params(axis="x", labelrotation=90 if len(figure.steps) > 1 else 0)
        ax.set_title(panel.title, loc="left")
        ax.set_xlabel("cycles of a walk")
        ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: short(value, "ratio")))
        ax.set_ylim(bottom=0)
        ax.grid(axis="y")
    axes[0][0].set_ylabel(figure.quantity)
    handles: dict[str, Any] = {}
    for ax in axes[0]:
        for handle, label in zip(*ax.get_legend_handles_labels(), strict=True):
            handles.setdefault(label, handle)
    _legend(canvas, list(handles.values()), list(handles), handlelength=2.4)
    return canvas
