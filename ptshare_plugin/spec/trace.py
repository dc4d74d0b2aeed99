"""A trace of a real program, in a program's place."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from ptshare_plugin.common.errors import EXIT_USAGE, UserError
from ptshare_plugin.common.units import PAGE_BYTES, PMD_BYTES
from ptshare_plugin.spec.program import Program, named

TOGETHER, ALONE = "together", "alone"
"""When a process that has replayed its trace exits: with the others, or at once."""
CUT_OFF = "{}: valgrind's last lines are missing: was the trace cut off?"
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
    :param cut_off: valgrind's last lines are missing, though it said something before.
    :param ends_together: a process that is done waits for the others before it exits.
    """

    path: str
    share: tuple[int, int]
    ranges: tuple[tuple[int, int], ...]
    records: int
    sha256: str
    cut_off: bool = False
    ends_together: bool = True

    @property
    def args(self) -> tuple[str, ...]:
        """What of the command line decides the result beside the file."""
        first, end = self.share
        share = (_SHARE, f"{first:#x}-{end:#x}") if end else ()
        return share if self.ends_together else (*share, "--trace-end", ALONE)

    def warning(self) -> str | None:
        """What a user must know of it, in one line."""
        return CUT_OFF.format(self.path) if self.cut_off else None

    def program(self) -> Program:
        """The trace in a program's place in a RunSpec; it has no image."""
        return named(Path(self.path).name, self.path, self.sha256)


def parse_share(text: str) -> tuple[int, int]:
    """First address of ``0xSTART-0xEND`` and the one behind the last, whole 2 MiB of user space."""
    match = _RANGE.fullmatch(text)
    if match is None:
        raise _wrong(text, "write it as 0xSTART-0xEND, like 0x40000000-0x40200000")
    first, end = (int(part, 16) for part in match.groups())
    if first % PMD_BYTES or end % PMD_BYTES:
        # Not from 0, which no process maps.
        low = max(first // PMD_BYTES, 1)
        high = max(-(-end // PMD_BYTES), low + 1)
        raise _wrong(
            text,
            "MAP_SHARED_PT needs multiples of 2MiB, like "
            f"{low * PMD_BYTES:#x}-{high * PMD_BYTES:#x}",
        )
    if not _LOWEST <= first < end <= _HIGHEST:
        raise _wrong(
            text,
            f"START must be less than END, both from {_LOWEST:#x} to {_HIGHEST:#x}",
        )
    return first, end


def _wrong(text: str, why: str) -> UserError:
    return UserError(why, EXIT_USAGE, option="trace_share", value=text)
