"""The outcome of ``ptshare validate`` as one HTML file that opens offline, and as Markdown."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ptshare_plugin import __version__
from ptshare_plugin.files import replacing
from ptshare_plugin.metrics import registry

if TYPE_CHECKING:
    from ptshare_plugin.validate import Outcome, Validation

_TEMPLATES = Path(__file__).parent / "templates"
_PLOTS = (
    ("vm.pte_bytes.end", "Page tables at the end mark (VmPTE, KiB, sum over processes)", 1024),
    ("roi.fault.minor", "Minor faults in the region of interest", 1),
)


def _render(template: str, result: Validation, escape: bool, plots: Sequence[str]) -> str:
    import jinja2

    from ptshare_plugin.validate import GROWTH, MARKS, METRICS, PTE_MARKS, summary

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES),
        autoescape=escape,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    known = registry()
    meanings = {name: known[name].meaning for name in (*METRICS, GROWTH)}
    return environment.get_template(template).render(
        result=result,
        summary=summary(result),
        version=__version__,
        plots=plots,
        meanings=meanings,
        columns=("vm.pte_bytes.end", "roi.fault.minor", PTE_MARKS, MARKS),
    )


def write_markdown(result: Validation, path: Path) -> None:
    """Write the table with what it is about."""
    with replacing(path) as partial:
        partial.write_text(_render("validation.md.j2", result, False, ()), encoding="utf-8")


def write_html(result: Validation, path: Path) -> None:
    """Write the page with its plots inside."""
    plots = [_plot(result.outcomes, *plot) for plot in _PLOTS]
    with replacing(path) as partial:
        partial.write_text(_render("validation.html.j2", result, True, plots), encoding="utf-8")


def _plot(outcomes: Sequence[Outcome], metric: str, title: str, unit: int) -> str:
    """Measured against modelled as SVG text; a point that is not on the line differs."""
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot

    found = [
        (outcome.metrics[metric], bool(outcome.cause))
        for outcome in outcomes
        if metric in outcome.metrics
    ]
    figure, axes = pyplot.subplots(figsize=(5, 4.4))
    for explained, colour, marker, label in (
        (False, "#2a6fb0", "o", "equal"),
        (True, "#d0662a", "x", "differs for a documented cause, or is wrong"),
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
    axes.plot([smallest, largest], [smallest, largest], linewidth=0.8, color="#888888")
    axes.set(xscale="log", yscale="log", xlabel="Linux", ylabel="model", title=title)
    axes.title.set_fontsize(9)
    axes.legend(fontsize=7, frameon=False)
    axes.grid(linewidth=0.3)
    text = io.StringIO()
    with pyplot.rc_context({"svg.hashsalt": "ptshare", "svg.fonttype": "none"}):
        figure.savefig(text, format="svg", bbox_inches="tight", metadata={"Date": None})
    pyplot.close(figure)
    return text.getvalue().partition("<svg")[2].join(["<svg", ""])
