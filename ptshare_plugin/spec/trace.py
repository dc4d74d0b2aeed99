"""Traces of real programs: checked, replayed on the embedded machine, converted."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ptshare_plugin.common import progress
from ptshare_plugin.common.errors import EXIT_USAGE, UserError, os_reason
from ptshare_plugin.common.files import refuse, replacing
from ptshare_plugin.common.units import PAGE_BYTES, PMD_BYTES
from ptshare_plugin.engines.registry import (
    STEP,
    Progress,
    RunResult,
    machine_parameters,
    require_core,
    simulate,
)
from ptshare_plugin.spec.program import Program

if TYPE_CHECKING:
    from ptshare_plugin._core import Run
    from ptshare_plugin.spec.run import RunSpec

STDIN = "-"
"""As the file to be converted: standard input."""

_SHARE = "--trace-share"
_RANGE = re.compile(r"0x([0-9a-fA-F]{1,16})-0x([0-9a-fA-F]{1,16})")
_LOWEST = 64 * 1024
_HIGHEST = (1 << 47) - PAGE_BYTES


@dataclass(frozen=True, slots=True)
class Trace:
    """A trace that was read once and found whole.

    :param ranges: what it touches outside ``share``, as pairs of first address and the one behind.
    :param share: what the processes are to share, likewise; ``(0, 0)``: nothing.
    :param records: fetches, loads, stores and modifies.
    """

    path: str
    share: tuple[int, int]
    ranges: tuple[tuple[int, int], ...]
    records: int
    sha256: str

    @property
    def args(self) -> tuple[str, ...]:
        """What of the command line decides the result beside the file."""
        first, end = self.share
        return (_SHARE, f"{first:#x}-{end:#x}") if end else ()

    def program(self) -> Program:
        """The trace in a program's place in a RunSpec; it has no image."""
        return Program(
            name=Path(self.path).name,
            path=self.path,
            image=b"",
            segments=(),
            entry=0,
            phdr=0,
            phentsize=0,
            phnum=0,
            sha256=self.sha256,
        )


def parse_share(text: str) -> tuple[int, int]:
    """First address of ``0xSTART-0xEND`` and the one behind the last, whole 2 MiB of user space."""
    match = _RANGE.fullmatch(text)
    if match is None:
        raise UserError(
            f"{_SHARE} {text}: write it as 0xSTART-0xEND, like 0x40000000-0x40200000", EXIT_USAGE
        )
    first, end = (int(part, 16) for part in match.groups())
    if first % PMD_BYTES or end % PMD_BYTES:
        raise UserError(
            f"{_SHARE} {text}: MAP_SHARED_PT needs multiples of 2MiB, like "
            f"{first // PMD_BYTES * PMD_BYTES:#x}-{-(-end // PMD_BYTES) * PMD_BYTES:#x}",
            EXIT_USAGE,
        )
    if not _LOWEST <= first < end <= _HIGHEST:
        raise UserError(
            f"{_SHARE} {text}: START must be less than END, both from {_LOWEST:#x} to "
            f"{_HIGHEST:#x}",
            EXIT_USAGE,
        )
    return first, end


def load(path: str, share: str | None) -> Trace:
    """Read the trace at ``path`` once, with progress on stderr; a UserError names what is wrong.

    :param share: ``--trace-share``'s value, if given.
    """
    require_core()
    from ptshare_plugin import _core

    place = (0, 0) if share is None else parse_share(share)
    if path == STDIN:
        raise UserError(
            "--trace -: a trace is read once for each process; convert it to a file first: "
            "ptshare trace convert - FILE",
            EXIT_USAGE,
        )
    with _own_errors(), progress.show(f"{Path(path).name}, what it touches") as report:
        survey = _core.TraceSurvey(path, place)
        while not survey.step(STEP):
            report(0, 0)
    if not survey.records:
        raise UserError(f"{path}: no access in it; is it a trace of valgrind --tool=lackey?")
    if share is not None and not survey.shared:
        raise UserError(f"{_SHARE} {share}: no access of {path} lies there", EXIT_USAGE)
    return Trace(path, place, tuple(survey.ranges()), survey.records, _sha256(path))


def replay(spec: RunSpec, trace: Trace, report: Progress) -> RunResult:
    """Replay ``trace`` in each of ``spec``'s processes, in this process."""
    require_core()
    from ptshare_plugin import _core

    def made() -> Run:
        return _core.Replay(
            machine_parameters(spec),
            spec.policy,
            spec.cores,
            trace.path,
            list(trace.ranges),
            trace.share,
            spec.share,
            spec.procs,
        )

    return simulate(f"trace {trace.path}", made, report)


def convert(source: str, target: str, force: bool) -> tuple[int, int]:
    """Write lackey's text ``source`` (``-``: standard input) to ``target`` in the binary form.

    Returns the number of records and of bytes written.
    """
    require_core()
    from ptshare_plugin import _core

    place = Path(target)
    refuse(place, force, "FILE")
    if place.exists() and source != STDIN and Path(source).exists() and place.samefile(source):
        raise UserError(f"FILE {target}: is the trace itself", EXIT_USAGE)
    with (
        _own_errors(),
        replacing(place) as partial,
        progress.show(f"{Path(source).name}, converted") as report,
    ):
        conversion = _core.TraceConversion(source, str(partial))
        while not conversion.step(STEP):
            report(0, 0)
        if not conversion.records:
            name = "standard input" if source == STDIN else source
            raise UserError(f"{name}: no access in it; is it a trace of valgrind --tool=lackey?")
    return conversion.records, place.stat().st_size


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
