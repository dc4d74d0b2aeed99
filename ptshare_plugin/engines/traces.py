"""Traces of real programs: surveyed before they are replayed, and converted."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ptshare_plugin.common.errors import EXIT_USAGE, UserError, os_reason
from ptshare_plugin.common.files import refuse, replacing
from ptshare_plugin.common.progress import Progress, silent
from ptshare_plugin.engines.native import STEP, require_core
from ptshare_plugin.spec.trace import CUT_OFF, Trace, parse_share

STDIN = "-"
"""As the file to be converted: standard input."""
_EMPTY = "{}: no access in it; is it a trace of valgrind --tool=lackey?"


def load(path: str, share: str | None, progress: Progress = silent) -> Trace:
    """Read the trace at ``path`` once; a UserError names what is wrong.

    :param share: addresses that the processes are to share, as ``parse_share`` takes them.
    """
    require_core()
    from ptshare_plugin import _core

    place = (0, 0) if share is None else parse_share(share)
    if path == STDIN:
        raise UserError(
            "a trace is read once for each process; convert it to a file first: "
            "ptshare trace convert - FILE",
            EXIT_USAGE,
            option="trace",
            value=path,
        )
    with _own_errors():
        survey = _core.TraceSurvey(path, place)
        while not survey.step(STEP):
            progress(0, 0)
    if not survey.records:
        raise UserError(_EMPTY.format(path))
    if share is not None and not survey.shared:
        raise UserError(
            f"no access of {path} lies there", EXIT_USAGE, option="trace_share", value=share
        )
    return Trace(path, place, tuple(survey.ranges()), survey.records, _sha256(path), survey.cut_off)


def convert(
    source: str, target: str, force: bool, progress: Progress = silent
) -> tuple[int, int, str | None]:
    """Write lackey's text ``source`` (``-``: standard input) to ``target`` in the binary form.

    Returns the number of records and of bytes written, and what a user must know of the source.
    """
    require_core()
    from ptshare_plugin import _core

    place = Path(target)
    refuse(place, force, "file")
    if place.exists() and source != STDIN and Path(source).exists() and place.samefile(source):
        raise UserError("is the trace itself", EXIT_USAGE, option="file", value=target)
    with _own_errors(), replacing(place) as partial:
        conversion = _core.TraceConversion(source, str(partial))
        while not conversion.step(STEP):
            progress(0, 0)
        if not conversion.records:
            raise UserError(_EMPTY.format(_named(source)))
    warning = CUT_OFF.format(_named(source)) if conversion.cut_off else None
    return conversion.records, place.stat().st_size, warning


def _named(source: str) -> str:
    return "standard input" if source == STDIN else source


@contextmanager
def _own_errors() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        raise UserError(str(error)) from error


def _sha256(path: str) -> str:
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {os_reason(error)}") from error
