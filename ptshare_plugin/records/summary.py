"""``ptshare summary``: run folders as one table, for people and for other programs."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ptshare_plugin.common import files, units
from ptshare_plugin.common.errors import EXIT_USAGE, UserError
from ptshare_plugin.metrics import registry as metrics
from ptshare_plugin.records import dataset, frames
from ptshare_plugin.show import terminal

if TYPE_CHECKING:
    import pandas as pd

FORMATS = ("table", "csv", "json", "parquet", "markdown", "dataset")
_SHOWN = 10  # warnings of one kind, before they are only counted

# What a reader sees first; the other formats hold every metric.
KEY_METRICS = (
    "pt.bytes",
    "pt.region.pte_tables",
    "fault.total",
    "fault.link",
    "tlb.dtlb.misses",
    "walk.count",
    "walk.cycles",
    "cycles.total",
    "cycles.per_instruction",
    "fault.minor",
    "vm.pte_bytes.end",
)
# The engine only where they differ.
_KEY_COLUMNS = ("run", "engine", "program", "policy", "procs", "region_bytes")


def summarise(paths: Sequence[str], form: str, patterns: Sequence[str], output: str | None) -> None:
    """Print, or write to ``output``, the wide frame of all runs at or below ``paths``.

    As a dataset, append what is new to ``output``.

    :param form: one of ``FORMATS``.
    :param patterns: globs of metric names.
    """
    if form not in FORMATS:
        raise UserError(f"--format {form}: must be one of {', '.join(FORMATS)}", EXIT_USAGE)
    if form == "parquet" and output is None:
        raise UserError("--format parquet needs -o FILE", EXIT_USAGE)
    for path in paths:
        if dataset.is_dataset(path):
            raise UserError(f"{path}: a dataset, no run folders; ptshare_plugin.load reads it")
    if form == "dataset":
        _gather(paths, patterns, output)
        return
    for_people = form in ("table", "markdown")
    metrics.select(patterns)  # a wrong name is refused before thousands of folders are read
    runs = [frames.read(folder) for path in paths for folder in frames.find(path)]
    frame = frames.wide(runs, patterns or (KEY_METRICS if for_people else ()))
    if for_people:
        shown = [name for name in frame.columns if name in metrics.registry()]
        columns = [
            name for name in _KEY_COLUMNS if name != "engine" or frame["engine"].nunique() > 1
        ]
        frame = frame[[*columns, *(shown if patterns else sorted(shown, key=KEY_METRICS.index))]]
    _warn_of_failures([run.name for run in runs if run.record.get("failed")])
    if output is None:
        _print(frame, form)
    else:
        _write(frame, form, Path(output))


def _gather(paths: Sequence[str], patterns: Sequence[str], output: str | None) -> None:
    if output is None:
        raise UserError("--format dataset needs -o DIR", EXIT_USAGE)
    if patterns:
        raise UserError("--metrics: a dataset holds every metric; leave it out", EXIT_USAGE)
    done = dataset.gather(paths, Path(output))
    for reason in done.skipped[:_SHOWN]:
        sys.stderr.write(f"ptshare: warning: {reason}; skipped\n")
    if len(done.skipped) > _SHOWN:
        sys.stderr.write(f"ptshare: warning: {len(done.skipped) - _SHOWN} more are skipped\n")
    _warn_of_failures(done.failed)
    sys.stdout.write(
        f"{output}: {done.total:,} runs, {done.added - done.replaced:,} of them new, "
        f"{done.replaced:,} read again, {len(done.skipped):,} skipped\n"
    )


def _warn_of_failures(failed: Sequence[str]) -> None:
    """Figures of a program that failed look like any others: say so beside them."""
    if failed:
        others = f" and {len(failed) - 1} more" if len(failed) > 1 else ""
        sys.stderr.write(f"ptshare: warning: {failed[0]}{others}: the program failed\n")


def records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Rows as JSON holds them: what does not exist is null, whole numbers are whole."""
    rows = frame.astype(object).where(frame.notna(), None).to_dict("records")
    return [{str(name): _plain(value) for name, value in row.items()} for row in rows]


def _plain(value: Any) -> Any:
    return value.item() if hasattr(value, "item") else value


def _print(frame: pd.DataFrame, form: str) -> None:
    if form == "table":
        heading, lines = _cells(frame)
        terminal.print_blocks(terminal.console(), heading, lines, fixed=1)
    else:
        sys.stdout.write(_text(frame, form))


def _text(frame: pd.DataFrame, form: str) -> str:
    if form == "csv":
        return str(frame.to_csv(index=False))
    if form == "json":
        return json.dumps(records(frame), indent=1) + "\n"
    heading, lines = _cells(frame)
    rows = [heading, ["---", *["---:"] * (len(heading) - 1)], *lines]
    return "".join(
        "| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |\n" for row in rows
    )


def _cells(frame: pd.DataFrame) -> tuple[list[str], list[list[str]]]:
    known = metrics.registry()
    heading = ["region" if name == "region_bytes" else str(name) for name in frame.columns]
    lines = []
    for row in records(frame):
        line = []
        for name, value in row.items():
            if name == "region_bytes":
                line.append(units.exact_size(int(value)))
            elif name in known:
                line.append(units.short_value(value, known[name].unit))
            else:
                line.append("-" if value is None else str(value))
        lines.append(line)
    return heading, lines


def _write(frame: pd.DataFrame, form: str, path: Path) -> None:
    path = Path(os.path.realpath(path))  # a link stays one
    if path.exists() and not path.is_file():
        raise UserError(f"-o {path}: there is something else than a file; leave -o out to print")
    with files.replacing(path) as partial:
        if form == "parquet":
            frame.to_parquet(partial, index=False)
        elif form == "table":
            heading, lines = _cells(frame)
            with partial.open("w", encoding="utf-8") as file:
                terminal.print_blocks(terminal.console(file), heading, lines, fixed=1)
        else:
            partial.write_text(_text(frame, form), encoding="utf-8")
