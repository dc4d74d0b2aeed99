"""``ptshare report``: reads, computes, writes."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from ptshare_plugin.common import files
from ptshare_plugin.common.errors import EXIT_USAGE, UserError, os_reason
from ptshare_plugin.report import draw, groups, inputs, page

_SHOWN = 10  # warnings, before they are only counted


def report(paths: Sequence[str], output: str, plots: str | None, force: bool) -> None:
    """Write the page of all runs and files of ``paths`` to ``output``.

    :param plots: a new folder for each figure as PDF and SVG.
    :param force: replace ``output``, and figures of the same names in ``plots``.
    """
    target = Path(output)
    if target.suffix not in (".html", ".htm"):
        raise UserError(
            "must end with .html",
            EXIT_USAGE,
            option="output",
            value=output,
        )
    files.refuse(target, force)
    folder = None if plots is None else _folder(Path(plots), force)
    read = inputs.read(paths)
    for reason in read.skipped[:_SHOWN]:
        sys.stderr.write(f"ptshare: warning: {reason}; skipped\n")
    if len(read.skipped) > _SHOWN:
        sys.stderr.write(f"ptshare: warning: {len(read.skipped) - _SHOWN} more are skipped\n")
    content = page.compute(paths, read)
    if folder is not None:
        for figure in content.figures:
            draw.save(figure, folder)
    text = page.render(content)
    with files.replacing(target) as partial:
        partial.write_text(text, encoding="utf-8")
    runs = 0 if read.runs is None else len(read.runs)
    figures = groups.count(len(content.figures), "figure")
    sys.stdout.write(f"{output}: {groups.count(runs, 'run')}, {figures}\n")
    if folder is not None:
        sys.stdout.write(f"{folder}: each figure as .pdf and .svg\n")


def _folder(path: Path, force: bool) -> Path:
    """Make the folder for figures, before long work; refuse what is there without ``force``."""
    try:
        path.mkdir(parents=True, exist_ok=True)
        if any(path.iterdir()) and not force:
            raise UserError(
                "is not empty; choose another folder, or --force to replace "
                "figures of the same names",
                option="figures",
                value=path,
            )
        tempfile.TemporaryFile(dir=path).close()
    except FileExistsError as error:
        raise UserError(
            "there is something else than a folder",
            option="figures",
            value=path,
        ) from error
    except OSError as error:
        raise UserError(
            f"cannot be written: {os_reason(error)}",
            option="figures",
            value=path,
        ) from error
    return path
