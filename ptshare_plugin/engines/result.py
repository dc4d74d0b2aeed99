"""What came of a run: one vocabulary for all engines."""

from __future__ import annotations

import signal
from collections.abc import Iterable
from dataclasses import dataclass, field

Statistic = tuple[int, str, int | float]
"""Process index (or -1: machine, or sum), metric, value."""


@dataclass(frozen=True, slots=True)
class ProcessResult:
    """How one process ended: ``exit`` its code, ``signal`` the one that killed it, or 0.

    :param note: why, for a fatal signal: ``write to page 0x... at ip 0x...``.
    """

    pid: int
    exit: int
    signal: int
    stdout: bytes
    stderr: bytes
    note: str

    @property
    def status(self) -> int:
        """Exit code, or minus the signal number, as Python's subprocess has it."""
        return -self.signal if self.signal else self.exit

    @property
    def how(self) -> str:
        """How it ended, in words."""
        if not self.signal:
            return f"exited with status {self.exit}"
        try:
            name = signal.Signals(self.signal).name
        except ValueError:
            name = f"signal {self.signal}"
        return f"was killed by {name}" + (f" ({self.note})" if self.note else "")

    @property
    def said(self) -> list[str]:
        """The last line that it wrote to standard error, if any."""
        return self.stderr.decode("utf-8", "backslashreplace").splitlines()[-1:]

    @property
    def followed(self) -> bool:
        """Whether it failed only because another process had: the engine or a workload says so."""
        return self.note.startswith("ended because") or b"another rank failed" in self.stderr


MARK_BEGIN, MARK_END = 1, 2
"""Marks of the region of interest (``accounting/marks.h``)."""


@dataclass(frozen=True, slots=True)
class Sample:
    """What a process had when it made a mark: the same figures from the model and from Linux.

    :param rank: started process that it is, or descends from.
    :param process: 0 for the started one, 1, 2, ... for those it and its children forked.
    :param mark: argument of the mark's system call.
    :param vm_pte_bytes: page tables below the PGD, a shared one for each that links it (VmPTE).
    :param minor_faults: of the thread, since its fork or since its program was loaded.
    """

    rank: int
    process: int
    mark: int
    vm_pte_bytes: int
    rss_anon_bytes: int
    rss_file_bytes: int
    minor_faults: int


def mark_statistics(samples: Iterable[Sample]) -> list[Statistic]:
    """Rows of what each started process had at its first begin mark and its last end mark."""
    first_begin: dict[int, Sample] = {}
    last_end: dict[int, Sample] = {}
    for sample in samples:
        if sample.process == 0 and sample.mark == MARK_BEGIN:
            first_begin.setdefault(sample.rank, sample)
        elif sample.process == 0 and sample.mark == MARK_END:
            last_end[sample.rank] = sample
    rows: list[Statistic] = []
    for mark, found in (("begin", first_begin), ("end", last_end)):
        for rank, sample in found.items():
            rows += [
                (rank, f"vm.pte_bytes.{mark}", sample.vm_pte_bytes),
                (rank, f"vm.rss_anon_bytes.{mark}", sample.rss_anon_bytes),
                (rank, f"vm.rss_file_bytes.{mark}", sample.rss_file_bytes),
            ]
    return rows


@dataclass(frozen=True, slots=True)
class RunResult:
    """What an engine hands back.

    :param processes: in rank order; processes that these forked follow.
    :param peak_rss_bytes: 0 if not known.
    :param versions: of what the engine used.
    :param samples: what processes had at their marks, in the order in which they made them.
    :param remarks: what a user must know of it, a line each.
    :param settings: of the real machine that the figures depend on; empty for a simulated one.
    """

    processes: list[ProcessResult]
    statistics: list[Statistic]
    seconds: float
    peak_rss_bytes: int
    versions: dict[str, str] = field(default_factory=dict)
    samples: list[Sample] = field(default_factory=list)
    settings: dict[str, str | int] = field(default_factory=dict)
    remarks: tuple[str, ...] = ()
