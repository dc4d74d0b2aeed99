"""Tables for people: terminals of any width, pipes and files."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ptshare_plugin.common import units
from ptshare_plugin.metrics import registry as metrics
from ptshare_plugin.metrics.registry import ROI
from ptshare_plugin.metrics.vocabulary import CACHES, CYCLE_STACK, MINOR_FAULTS, PLACES, PTE_LEVELS

if TYPE_CHECKING:
    from rich.console import Console

WHOLE_RUN, REGION, MARKS = "whole run", "region of interest", "at its marks"

# Title, what it is about (the region of interest only where the program marks one), metrics that
# are always shown, metrics that are shown unless 0 in every run. A section whose first metric
# no run has is left out.
SECTIONS: list[tuple[str, str, tuple[str, ...], tuple[str, ...]]] = [
    (
        "Page-table memory at its peak",
        WHOLE_RUN,
        ("pt.bytes", "pt.bytes.guest", "pt.bytes.host"),
        (
            *(f"pt.tables.{level}" for level in PTE_LEVELS),
            "pt.region.pte_tables",
            "pt.region.bytes",
            "pt.host_mms",
            "pt.end.bytes",
            "share.room_bytes",
            "share.refused",
            "share.fell_back",
            "share.dangling_links",
        ),
    ),
    ("Page faults", WHOLE_RUN, ("fault.major", "fault.minor"), ()),  # as Linux counts them
    (
        "Page tables and resident pages of processes",
        MARKS,
        ("vm.pte_bytes.begin", "vm.pte_bytes.end"),
        (
            "vm.rss_anon_bytes.begin",
            "vm.rss_anon_bytes.end",
            "vm.rss_file_bytes.begin",
            "vm.rss_file_bytes.end",
            "pt.machine_growth",
        ),
    ),
    (
        "Page faults",
        WHOLE_RUN,
        ("fault.total",),
        (
            *(f"fault.{kind}" for kind in MINOR_FAULTS),
            "fault.segv",
            "fault.bus",
            "fault.around_pages",
        ),
    ),
    (
        "TLB accesses and misses",
        REGION,
        ("tlb.dtlb.misses", "tlb.dtlb.accesses", "tlb.dtlb.miss_rate"),
        (
            "tlb.itlb.accesses",
            "tlb.itlb.misses",
            "tlb.stlb.accesses",
            "tlb.stlb.misses",
            "tlb.stlb.miss_rate",
            "tlb.stale_hits",
            "walk_cache.stale_hits",
            "shootdown.requests",
            "shootdown.ipis",
            "shootdown.flushed_entries",
        ),
    ),
    (
        "Page walks",
        REGION,
        ("walk.count", "walk.cycles", "walk.cycles_per_walk"),
        (
            "walk.data",
            "walk.fetch",
            "walk.faulted",
            "walk.dirty_assists",
            "walk.reads",
            "walk.reads_per_walk",
        ),
    ),
    (
        "Entries read by walks: level, and where served",
        REGION,
        (),
        tuple(f"walk.reads.{level}.{place}" for level in PTE_LEVELS for place in PLACES),
    ),
    (
        "Of these, given by another core's cache",
        REGION,
        (),
        tuple(f"walk.reads.{level}.transfers" for level in PTE_LEVELS),
    ),
    (
        "Of these, from lines that another process had brought in",
        REGION,
        (),
        tuple(f"walk.reads.{level}.{place}.other" for level in PTE_LEVELS for place in CACHES),
    ),
    (
        "Cycles and where they went",
        REGION,
        ("cycles.total",),
        (*(f"cycles.{part}" for part in CYCLE_STACK), "cycles.per_instruction"),
    ),
]


def console(file: Any = None) -> Console:
    """Console for results. Not a terminal: no colours, and COLUMNS or 100 columns."""
    from rich.console import Console

    target = sys.stdout if file is None else file
    width = None
    if not target.isatty():
        given = os.environ.get("COLUMNS", "")
        width = int(given) if given.isdecimal() and int(given) > 0 else 100
    return Console(file=target, width=width, highlight=False, markup=False, emoji=False)


def print_sections(
    out: Console, names: Sequence[str], rows: Sequence[Mapping[str, Any]], roi: bool
) -> None:
    """Print every section, a column a run; from the second run on with the change to the first.

    Of more runs than fit beside each other, the sections are printed for as many as do, then for
    the next ones, always with the first run.

    :param names: column headings.
    :param rows: wide rows, as ``Run.wide`` makes them.
    :param roi: whether the program marks a region of interest.
    """
    blocks = _blocks(rows, roi)
    widths = _widths(names, blocks)
    fit = 1
    while fit < len(names) - 1 and _room(out.width, widths[: 2 * fit + 4]) >= min(widths[0], 22):
        fit += 1
    _print_blocks(out, names[: fit + 1], _blocks(rows[: fit + 1], roi))
    for at in range(fit + 1, len(names), fit):
        out.print()
        shown = [0, *range(at, min(at + fit, len(names)))]
        _print_blocks(out, [names[i] for i in shown], _blocks([rows[i] for i in shown], roi))


Block = tuple[str, str, list[list[str]]]  # title, scope, lines


def _blocks(rows: Sequence[Mapping[str, Any]], roi: bool) -> list[Block]:
    return [
        (
            title,
            WHOLE_RUN if scope == REGION and not roi else scope,
            _lines(always, sometimes, rows, scope == REGION and roi),
        )
        for title, scope, always, sometimes in SECTIONS
        # Of a model there is better: whose tables they are, above.
        if scope != MARKS or any("fault.major" in row for row in rows)
    ]


def _widths(names: Sequence[str], blocks: Sequence[Block]) -> list[int]:
    return [
        max(
            *(len(word) for word in heading.split("\n")),
            *(len(line[i]) for _, _, lines in blocks for line in lines),
            0,
        )
        for i, heading in enumerate(_heading(names))
    ]


def _print_blocks(out: Console, names: Sequence[str], blocks: Sequence[Block]) -> None:
    from rich.table import Table
    from rich.text import Text

    heading = _heading(names)
    widths = _widths(names, blocks)
    for number, (title, scope, lines) in enumerate(block for block in blocks if block[2]):
        if number:
            out.print()
        out.print(Text.assemble((title, "bold"), (f" ({scope})", "dim")))
        table = Table(
            box=None,
            pad_edge=False,
            show_header=number == 0,
            header_style="dim",
            padding=(0, 2, 0, 0),
        )
        # The first column gives way on a narrow terminal; figures stay whole.
        table.add_column(
            heading[0], width=min(widths[0], max(12, _room(out.width, widths))), overflow="fold"
        )
        for text, width in zip(heading[1:], widths[1:], strict=True):
            table.add_column(text, justify="right", width=width, no_wrap=True, vertical="bottom")
        for line in lines:
            table.add_row(*line)
        out.print(table)


def _room(width: int, widths: Sequence[int]) -> int:
    return width - sum(item + 2 for item in widths[1:]) - 2


def _heading(names: Sequence[str]) -> list[str]:
    # A word a line, so that a column is as narrow as its figures.
    heading = ["", names[0].replace(" ", "\n")]
    for name in names[1:]:
        heading += [name.replace(" ", "\n"), "change"]
    return heading


def _lines(
    always: tuple[str, ...],
    sometimes: tuple[str, ...],
    rows: Sequence[Mapping[str, Any]],
    region: bool,
) -> list[list[str]]:
    lines: list[list[str]] = []
    if always and all((ROI * region + always[0]) not in row for row in rows):
        return lines
    for name in (*always, *sometimes):
        key = ROI + name if region else name
        values = [row.get(key) for row in rows]
        # An engine without a figure (None) does not have it in any run.
        if not any(values if name in sometimes else (value is not None for value in values)):
            continue
        unit = metrics.get(key).unit
        line = [name, units.short_value(values[0], unit)]
        for value in values[1:]:
            line += [units.short_value(value, unit), units.change(values[0], value)]
        lines.append(line)
    return lines


def print_blocks(
    out: Console, heading: Sequence[str], lines: Sequence[Sequence[str]], fixed: int
) -> None:
    """Print a table in as many blocks, one below the other, as the width needs.

    :param fixed: number of leading columns that every block repeats.
    """
    from rich.table import Table

    headings = [_folded(text) for text in heading]
    widths = [
        max([*(len(part) for part in headings[i].split("\n")), *(len(line[i]) for line in lines)])
        for i in range(len(heading))
    ]
    room = out.width - sum(width + 2 for width in widths[:fixed])
    blocks: list[list[int]] = [[]]
    for i in range(fixed, len(heading)):
        if blocks[-1] and sum(widths[j] + 2 for j in [*blocks[-1], i]) > room:
            blocks.append([])
        blocks[-1].append(i)
    for number, block in enumerate(blocks):
        if number:
            out.print()
        table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
        for i in [*range(fixed), *block]:
            table.add_column(
                headings[i],
                justify="left" if i < fixed else "right",
                no_wrap=i >= fixed,
                overflow="fold",
                vertical="bottom",
            )
        for line in lines:
            table.add_row(*(line[i] for i in [*range(fixed), *block]))
        out.print(table)


def _folded(name: str) -> str:
    # tlb.dtlb.misses -> three short lines, so that a column is as narrow as its figures.
    return name.replace(".", "\n.") if "." in name else name


def print_words(
    out: Console, heading: Sequence[str], lines: Sequence[Sequence[str]], right: Sequence[int] = ()
) -> None:
    """Print a table whose last columns hold sentences, which fold to the width.

    :param right: columns aligned to the right.
    """
    from rich.table import Table

    table = Table(
        box=None,
        pad_edge=False,
        header_style="bold",
        padding=(0, 2, 0, 0),
        show_header=any(heading),
    )
    for i, text in enumerate(heading):
        table.add_column(
            text, justify="right" if i in right else "left", overflow="fold", no_wrap=i == 0
        )
    for line in lines:
        table.add_row(*line)
    out.print(table)
