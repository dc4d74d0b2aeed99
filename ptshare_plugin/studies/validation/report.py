"""The outcome of ``ptshare validate`` as one HTML file that opens offline, and as Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ptshare_plugin.common.files import replacing
from ptshare_plugin.metrics.registry import registry
from ptshare_plugin.show import pages, plots
from ptshare_plugin.studies.validation.outcome import (
    GROWTH,
    MARKS,
    METRICS,
    PTE_MARKS,
    Outcome,
    Validation,
    summary,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure


_PLOTS = (
    ("vm.pte_bytes.end", "Page tables at the end mark (VmPTE, KiB, sum over processes)", 1024),
    ("roi.fault.minor", "Minor faults in the region of interest", 1),
)


def _render(template: str, result: Validation, escape: bool, drawn: Sequence[str]) -> str:
    known = registry()
    meanings = {name: known[name].meaning for name in (*METRICS, GROWTH)}
    return pages.render(
        template,
        escape,
        result=result,
        summary=summary(result),
        plots=drawn,
        meanings=meanings,
        columns=("vm.pte_bytes.end", "roi.fault.minor", PTE_MARKS, MARKS),
    )


def write_markdown(result: Validation, path: Path) -> None:
    """Write the table with what it is about."""
    with replacing(path) as partial:
        partial.write_text(_render("validation.md.j2", result, False, ()), encoding="utf-8")


def write_recording(result: Validation, metrics: Sequence[str], command: str, path: Path) -> None:
    """The same of a recording's programs, for which ``metrics`` are compared."""
    causes = {outcome.cause for outcome in result.outcomes if outcome.ok and outcome.cause}
    with replacing(path) as partial:
        page = pages.render(
            "validation-recording.md.j2",
            False,
            result=result,
            summary=summary(result),
            columns=metrics,
            causes=sorted(causes),
            command=command,
        )
        partial.write_text(page, encoding="utf-8")


def write_html(result: Validation, path: Path) -> None:
    """Write the page with its plots inside."""
    drawn = [_plot(result.outcomes, *plot) for plot in _PLOTS]
    with replacing(path) as partial:
        partial.write_text(_render("validation.html.j2", result, True, drawn), encoding="utf-8")


def _plot(outcomes: Sequence[Outcome], metric: str, title: str, unit: int) -> str:
    """Measured against modelled as SVG text; a point that is not on the line differs."""
    import matplotlib

    with matplotlib.rc_context(plots.settings(metric)):
        return plots.inline(_scatter(outcomes, metric, title, unit), metric, title)


def _scatter(outcomes: Sequence[Outcome], metric: str, title: str, unit: int) -> Figure:
    from matplotlib.figure import Figure as Canvas

    found = [
        (outcome.metrics[metric], bool(outcome.cause))
        for outcome in outcomes
        if metric in outcome.metrics
    ]
    figure = Canvas(figsize=(5, 4.4), layout="constrained")
    axes = figure.subplots()
    for explained, colour, marker, label in (
        (False, plots.policy("ptshare"), "o", "equal"),
        (True, plots.policy("rfc-v2"), "x", "differs for a documented cause, or is wrong"),
    ):
        pairs = [pair for pair, differs in found if differs == explained]
        axes.scatter(
            [pair.measured / unit for pair in pairs],
            [pair.modelled / unit for pair in pairs],
            s=22,
            c=colour,
            marker=marker,
            label=f"{label} ({len(pairs)})",
        )
    largest = max((pair.measured / unit for pair, _ in found), default=1)
    smallest = min((pair.measured / unit for pair, _ in found if pair.measured), default=1)
    line = plots.light(plots.MUTED)
    axes.plot([smallest, largest], [smallest, largest], linewidth=0.8, color=line)
    axes.set(xscale="log", yscale="log", xlabel="Linux", ylabel="model", title=title)
    axes.title.set_fontsize(9)
    axes.legend()
    axes.grid()
    return figure
