"""How plots look, in pages and in files: colours, Matplotlib's settings, saving.

Colours are stated once for light and once for dark. A plot is drawn in the light ones; inside a
page each becomes a CSS variable, so that the plot follows the reader's colour scheme.
"""

from __future__ import annotations

import functools
import io
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ptshare_plugin import policies
from ptshare_plugin.common import files

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Colour = tuple[str, str]

INK, MUTED, GRID, PAPER = "ink", "muted", "grid", "panel"

# Okabe and Ito's colours, which people with any common colour blindness tell apart, for the
# policies in their order: the baseline, which comes first, is grey. Dark: the same hues, lighter.
_POLICIES: tuple[Colour, ...] = (
    ("#6e6e6e", "#b4b4b4"),
    ("#0072b2", "#5ab4e8"),
    ("#d55e00", "#f58b4c"),
    ("#009e73", "#33c79b"),
    ("#cc79a7", "#e3a1c8"),
    ("#e69f00", "#f2c14e"),
    ("#56b4e9", "#a9dcf8"),
)
# Paul Tol's muted scheme.
_PARTS: tuple[Colour, ...] = (
    ("#c9c9c4", "#5c5e60"),
    ("#88ccee", "#88ccee"),
    ("#332288", "#8d82e0"),
    ("#cc6677", "#e0808f"),
    ("#ddcc77", "#ddcc77"),
    ("#117733", "#4fb36f"),
    ("#882255", "#c45c90"),
    ("#44aa99", "#5fc7b6"),
    ("#999933", "#bcbc5c"),
)
# From near to far.
_PLACES: tuple[Colour, ...] = (
    ("#b5dcc3", "#2f5b5e"),
    ("#63b5ab", "#3f8b90"),
    ("#2e8bb8", "#62b9d6"),
    ("#0b3c73", "#d2effb"),
)
_FIXED: dict[str, Colour] = {
    INK: ("#1d1f21", "#e7e7e3"),
    MUTED: ("#5d6166", "#a3a6aa"),
    GRID: ("#e3e3df", "#34373a"),
    PAPER: ("#fffffe", "#1d1f22"),
}
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "*")


def _of_policies() -> dict[str, Colour]:
    return dict(zip(policies.names(), _POLICIES, strict=False))


@functools.cache
def colours() -> dict[str, Colour]:
    """Every colour by the name of its CSS variable."""
    found = dict(_FIXED)
    found |= {f"policy-{name}": colour for name, colour in _of_policies().items()}
    found |= {f"part-{i}": colour for i, colour in enumerate(_PARTS)}
    found |= {f"place-{i}": colour for i, colour in enumerate(_PLACES)}
    return found


def light(name: str) -> str:
    """The colour called ``name``, as plots are drawn."""
    return colours()[name][0]


def policy(name: str) -> str:
    """Colour of a policy, the same everywhere; muted for one that has none of its own."""
    return light(f"policy-{name}" if name in _of_policies() else MUTED)


def part(number: int) -> str:
    """Colour of the part ``number`` of a stack, or of a series that is no policy."""
    return light(f"part-{number % len(_PARTS)}")


def place(number: int) -> str:
    """Colour of one of ``vocabulary.PLACES``."""
    return light(f"place-{number}")


def css(dark: bool) -> str:
    """Declarations of all colours."""
    return " ".join(f"--{name}: {pair[dark]};" for name, pair in colours().items())


def settings(salt: str) -> Any:
    """Matplotlib's settings, for ``rc_context``.

    :param salt: of ids; plots of one page need different ones.
    """
    return {
        "svg.hashsalt": salt,
        "svg.fonttype": "none",
        "pdf.fonttype": 42,
        "font.family": "sans-serif",
        "font.sans-serif": ["DejaVu Sans"],
        "font.size": 9,
        "axes.titlesize": 9.5,
        "axes.titleweight": "bold",
        "axes.labelsize": 9,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.edgecolor": light(MUTED),
        "axes.labelcolor": light(INK),
        "axes.titlecolor": light(INK),
        "axes.facecolor": "none",
        "axes.axisbelow": True,
        "axes.linewidth": 0.8,
        "figure.facecolor": "none",
        "grid.color": light(GRID),
        "grid.linewidth": 0.8,
        "hatch.linewidth": 0.8,
        "legend.frameon": False,
        "legend.fontsize": 8.5,
        "lines.linewidth": 1.7,
        "lines.markersize": 5,
        "text.color": light(INK),
        "xtick.color": light(MUTED),
        "ytick.color": light(MUTED),
        "xtick.labelcolor": light(INK),
        "ytick.labelcolor": light(INK),
        "xtick.labelsize": 8.5,
        "ytick.labelsize": 8.5,
    }


def save(figure: Figure, path: Path) -> None:
    """Write a plot as ``.svg`` or ``.pdf``, whole or not at all, without the date."""
    stamp = {"Date" if path.suffix == ".svg" else "CreationDate": None}
    with files.replacing(path) as partial:
        figure.savefig(partial, format=path.suffix[1:], metadata=stamp)


def inline(figure: Figure, prefix: str, title: str) -> str:
    """A plot as an ``svg`` element for a page: colours are variables, ids begin with ``prefix``."""
    text = io.StringIO()
    figure.savefig(text, format="svg", metadata={"Date": None})
    body = text.getvalue().partition("<svg")[2]
    body = re.sub(r"<metadata>.*?</metadata>\s*", "", body, flags=re.DOTALL)
    head, _, rest = body.partition(">")
    box = re.search(r'viewBox="([^"]*)"', head)
    assert box is not None
    rest = _prefixed(_variable(rest), prefix)
    width = float(box[1].split()[2])
    return (
        f'<svg viewBox="{box[1]}" role="img" aria-label="{_quoted(title)}"'
        f' style="--natural: {width:.0f}pt">{rest.rstrip()}'
    )


def _variable(text: str) -> str:
    names = {pair[0]: name for name, pair in colours().items()}

    def swap(match: re.Match[str]) -> str:
        name = names.get(match[0])
        return match[0] if name is None else f"var(--{name})"

    return re.sub(r"#[0-9a-f]{6}\b", swap, text)


def _prefixed(text: str, prefix: str) -> str:
    text = re.sub(r'(\sid=")', rf"\1{prefix}-", text)
    text = re.sub(r"(url\(#)", rf"\1{prefix}-", text)
    return re.sub(r'(xlink:href="#)', rf"\1{prefix}-", text)


def _quoted(text: str) -> str:
    marks: Mapping[str, str] = {"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;"}
    return "".join(marks.get(mark, mark) for mark in text)
