"""Runs the ranks of a program as real processes and watches them: starts, marks, ends."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import subprocess
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ptshare_plugin.common.errors import UserError
from ptshare_plugin.engines.linux import perf, proc, ptrace
from ptshare_plugin.engines.result import MARK_BEGIN, MARK_END, Sample


@dataclass(slots=True)
class Rank:
    """One started process, and what it leaves behind."""

    process: subprocess.Popen[bytes]
    output: Path
    errors: Path
    status: int | None = None
    """As Popen's returncode; None while it lives."""
    note: str = ""
    usage: resource.struct_rusage | None = None
    faults_before: tuple[int, int] = (0, 0)
    """Minor and major faults until the program was in place."""
    forked: int = 0
    """Processes that it and its children have forked."""
    counters: perf.Counters | None = None

    @property
    def pid(self) -> int:
        """Process id."""
        return self.process.pid


@dataclass(slots=True)
class _Thread:
    rank: int
    process: int
    """Of the rank: 0 the started one, then those that were forked, in order."""
    faults_before: int = 0
    held_at: int | None = None
    """The mark at which it waits for the other ranks."""


@dataclass(slots=True)
class Tracer:
    """The processes of one run. ``run`` once; leaving the ``with`` block ends whatever is left.

    :param gather: ranks wait at the marks of the region of interest until all that live are there,
        so that they go on together and can be read at one moment. Only for programs that all make
        the same marks, and hold nobody up while one waits there. They also end together when one
        is killed, as they wait for each other elsewhere too.
    :param may_die: ranks whose being killed ends nobody else.
    """

    launch: Path
    folder: Path
    gather: bool
    cpus: Sequence[int]
    may_die: Collection[int] = ()
    ranks: list[Rank] = field(default_factory=list)
    samples: list[Sample] = field(default_factory=list)
    page_tables: dict[int, int] = field(default_factory=dict)
    """PageTables of the machine, in bytes, when all ranks were gathered at a mark."""
    peak_rss: int = 0
    """Largest resident memory that a process had had at a mark, in bytes."""
    seconds: float = 0.0
    _threads: dict[int, _Thread] = field(default_factory=dict)
    _early: set[int] = field(default_factory=set)
    """Threads that were known before their maker's event told of them, which is still to come."""
    _last_gone: _Thread = field(default_factory=lambda: _Thread(0, 0))
    _over: bool = False
    """All are gone: the number of their group may be another's by now."""

    def __enter__(self) -> Tracer:
        return self

    def __exit__(self, *_: object) -> None:
        self._end()

    def start(self, program: str, argv: Sequence[str], env: Sequence[str]) -> None:
        """Start the next rank; it stands still until ``run``."""
        index = len(self.ranks)
        output, errors = self.folder / f"{index}.out", self.folder / f"{index}.err"
        cpu = self.cpus[index % len(self.cpus)]
        with output.open("wb") as out, errors.open("wb") as err:
            process = subprocess.Popen(
                [self.launch, str(cpu), program, *argv],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                env=dict(item.split("=", 1) for item in env),
                process_group=self.ranks[0].pid if self.ranks else 0,
            )
        rank = Rank(process, output, errors)
        self.ranks.append(rank)
        self._threads[rank.pid] = _Thread(index, 0)
        self._expect_stop(rank)
        ptrace.set_options(rank.pid)
        ptrace.resume(rank.pid)
        # It does not run the program before the others are there: it stops in its exec.
        self._expect_stop(rank)
        self._note_exec(rank.pid)

    def run(self, progress: Callable[[], None]) -> None:
        """Let all go, to their ends."""
        for rank in self.ranks:
            rank.counters = perf.open_counters(rank.pid)
        begin = time.perf_counter()
        for rank in self.ranks:
            ptrace.resume(rank.pid)
        with contextlib.suppress(ChildProcessError):  # when all are gone
            while True:
                tid, status, usage = os.wait4(-self.ranks[0].pid, ptrace.WALL)
                if os.WIFSTOPPED(status):
                    self._stopped(tid, status)
                else:
                    self._gone(tid, status, usage)
                progress()
        self._over = True
        self.seconds = time.perf_counter() - begin

    # ---- Start

    def _expect_stop(self, rank: Rank) -> None:
        _, status = os.waitpid(rank.pid, ptrace.WALL)
        if os.WIFSTOPPED(status):
            return
        rank.status = rank.process.returncode = os.waitstatus_to_exitcode(status)
        said = rank.errors.read_text(encoding="utf-8", errors="replace").strip()
        raise UserError(f"engine linux: a process could not be started: {said or rank.status}")

    def _note_exec(self, tid: int) -> None:
        thread = self._threads[tid]
        faults = proc.thread_faults(tid)
        thread.faults_before = faults[0]
        rank = self.ranks[thread.rank]
        if tid == rank.pid and not rank.forked:
            rank.faults_before = faults

    # ---- What processes do

    def _stopped(self, tid: int, status: int) -> None:
        # What was killed while it stood still cannot be asked any more; wait4 will tell.
        with contextlib.suppress(ProcessLookupError, FileNotFoundError):
            self._attend(tid, status)

    def _attend(self, tid: int, status: int) -> None:
        event, number = status >> 16, os.WSTOPSIG(status)
        if tid not in self._threads:
            # It is here before the event of its maker, which is never seen if that is killed.
            self._join(tid, self._maker(tid))
            self._early.add(tid)
        if event in (ptrace.EVENT_FORK, ptrace.EVENT_VFORK, ptrace.EVENT_CLONE):
            made = ptrace.event_message(tid)
            if made in self._early:  # it may be gone by now
                self._early.remove(made)
            else:
                with contextlib.suppress(ProcessLookupError, FileNotFoundError):  # gone already
                    self._join(made, self._threads[tid])
        elif event == ptrace.EVENT_EXEC:
            former = ptrace.event_message(tid)
            if former != tid:  # a thread has become its process: that number is free
                self._threads.pop(former, None)
                self._threads[tid].held_at = None
            self._note_exec(tid)
        elif event == ptrace.EVENT_SECCOMP:
            self._marked(tid)
            return
        elif event == 0:
            told = ptrace.pending(tid)
            if told is not None and number in ptrace.CRASHES:
                code, address = told
                at_fault = number in ptrace.FAULTS and 0 < code < ptrace.SI_KERNEL
                note = f"at address 0x{address:x}" if at_fault else ""
                self.ranks[self._threads[tid].rank].note = note
            # A new thread's first stop, and a stop of the whole group, are not to be delivered.
            if told is not None and number != signal.SIGSTOP:
                ptrace.resume(tid, number)
                return
        ptrace.resume(tid)

    def _maker(self, made: int) -> _Thread:
        """A thread of the process that made ``made``, as far as the kernel still knows."""
        group, parent = proc.family(made)
        return self._threads.get(parent if group == made else group, self._last_gone)

    def _join(self, made: int, maker: _Thread) -> None:
        process = maker.process
        if proc.family(made)[0] == made:
            rank = self.ranks[maker.rank]
            rank.forked += 1
            process = rank.forked
        self._threads[made] = _Thread(maker.rank, process)

    def _marked(self, tid: int) -> None:
        thread = self._threads[tid]
        mark = ptrace.first_argument(tid)
        leader = tid == self.ranks[thread.rank].pid
        if self.gather and leader and mark in (MARK_BEGIN, MARK_END):
            thread.held_at = mark
            self._release()
            return
        self._sample(tid, mark)
        ptrace.resume(tid)

    def _sample(self, tid: int, mark: int) -> None:
        thread = self._threads[tid]
        rank = self.ranks[thread.rank]
        if rank.counters is not None and tid == rank.pid and mark in (MARK_BEGIN, MARK_END):
            rank.counters.mark(begin=mark == MARK_BEGIN)
        try:
            memory = proc.memory(tid)
            faults = proc.thread_faults(tid)[0] - thread.faults_before
        except (OSError, KeyError):
            return  # killed while it stood still: there is nothing to read
        self.peak_rss = max(self.peak_rss, memory.peak_rss)
        self.samples.append(
            Sample(
                rank=thread.rank,
                process=thread.process,
                mark=mark,
                vm_pte_bytes=memory.page_tables,
                rss_anon_bytes=memory.rss_anon,
                rss_file_bytes=memory.rss_file,
                minor_faults=faults,
            )
        )

    def _release(self) -> None:
        """Read all ranks and let them go on once every one that lives has come to its mark."""
        living = [rank for rank in self.ranks if rank.status is None]
        marks = [self._threads[rank.pid].held_at for rank in living]
        if not living or None in marks:
            return
        for rank, mark in zip(living, marks, strict=True):
            assert mark is not None
            self._sample(rank.pid, mark)
        assert marks[0] is not None
        self.page_tables[marks[0]] = proc.page_tables()
        for rank in living:
            self._threads[rank.pid].held_at = None
            ptrace.resume(rank.pid)

    # ---- Ends

    def _gone(self, tid: int, status: int, usage: resource.struct_rusage) -> None:
        thread = self._threads.pop(tid, None)
        if thread is None:
            return
        self._last_gone = thread
        if self.ranks[thread.rank].pid != tid:
            return
        rank = self.ranks[thread.rank]
        rank.status = rank.process.returncode = os.waitstatus_to_exitcode(status)
        rank.usage = usage
        if rank.status < 0 and -rank.status in ptrace.CRASHES:
            self._follow(thread.rank, "crashed")
        elif rank.status < 0 and self.gather and thread.rank not in self.may_die:
            self._follow(thread.rank, "was killed")
        self._release()

    def _follow(self, ended: int, how: str) -> None:
        """The others may wait for a process that has crashed, for ever: they end with it."""
        for rank in self.ranks:
            if rank.status is None and not rank.note.startswith("ended because"):
                rank.note = f"ended because process {ended} {how}"
        self._kill()

    def _kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.ranks[0].pid, signal.SIGKILL)

    def _end(self) -> None:
        if self.ranks and not self._over:
            self._kill()
            with contextlib.suppress(ChildProcessError):
                while True:
                    os.waitpid(-self.ranks[0].pid, ptrace.WALL)
        for rank in self.ranks:
            if rank.process.returncode is None:
                rank.process.returncode = -signal.SIGKILL
            if rank.counters is not None:
                rank.counters.close()
