"""Runs a command under the recorder's tool, takes what it sends, and ends it when asked to."""

from __future__ import annotations

import ctypes
import os
import select
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Self

from ptshare_plugin import __version__
from ptshare_plugin.common.errors import EXIT_USAGE, UserError, os_reason
from ptshare_plugin.recording import folder, tool
from ptshare_plugin.recording.checks import check_output, check_program
from ptshare_plugin.recording.folder import Manifest, Stream
from ptshare_plugin.recording.host import describe
from ptshare_plugin.recording.streams import Streams, settle_execs

_WATCHED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD)
_TICK = 0.1
_PR_SET_CHILD_SUBREAPER = 36
_ESCALATION = ((signal.SIGINT, 60.0), (signal.SIGTERM, 20.0), (signal.SIGKILL, 20.0))
"""How a program is ended, and for how long each is given time."""


class Recording:
    """A command being recorded, from ``with`` to the end of the block."""

    def __init__(
        self,
        command: Sequence[str],
        output: Path,
        *,
        force: bool = False,
        user: tuple[int, int] | None = None,
        roi_after: float | None = None,
        environment: Mapping[str, str] | None = None,
        said: Path | None = None,
    ) -> None:
        """Check what can be checked; nothing is started or written.

        :param user: user and group to run it as, where another than this one.
        :param roi_after: seconds after the start at which the region of interest begins.
        :param said: file for what it prints, where that is not for the user.
        """
        self._command = list(command)
        self._environment = dict(os.environ if environment is None else environment)
        check_program(self._command[0], self._environment)
        check_output(output, force)
        self._output, self._user, self._roi_after = output, user, roi_after
        self._said = said
        self._writing = threading.Lock()
        self._valgrind, self._tool = tool.build()
        self._statuses: dict[int, int] = {}
        self._childless = False
        self._ending: list[tuple[signal.Signals, float]] = []
        self._deadline: float | None = None
        self.interrupted: signal.Signals | None = None
        self.asked_to_end = False
        self.pid = 0

    def __enter__(self) -> Self:
        """Make the folder and start the command."""
        self._scratch = Path(tempfile.mkdtemp(prefix="ptshare-record-"))
        try:
            self._make_folder()
            if self._user is not None:
                os.chown(self._scratch, *self._user)
                tool.copy(self._tool, self._scratch / "tool")
                self._tool = self._scratch / "tool"
            self._streams = Streams(
                self._output, self._scratch / "socket", self._scratch, self._changed
            )
        except BaseException:
            shutil.rmtree(self._scratch, ignore_errors=True)
            raise
        # Orphans of the command come to this process, which so knows when the last one has ended.
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        self._mask = signal.pthread_sigmask(signal.SIG_BLOCK, _WATCHED)
        self.pid = self.spawn(self._under_valgrind(), self._environment, self._user, self._said)
        if self._roi_after is not None:
            self.mark(folder.BEGIN, time.monotonic_ns() + round(self._roi_after * 1e9))
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        """End what still runs, and the recording."""
        try:
            if kind is not None:
                self._ending = [_ESCALATION[-1]]
                self._escalate()
            else:
                self.stop()
            while not self._ended():
                self.pause()
            self._streams.close()
            self._finish()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, self._mask)
            shutil.rmtree(self._scratch, ignore_errors=True)

    def run(self, seconds: float | None = None, until_exit: int | None = None) -> None:
        """Wait until the command has ended, with all that it started; or until then."""
        end = None if seconds is None else time.monotonic() + seconds
        watched = None if until_exit is None else os.pidfd_open(until_exit)
        try:
            while not self._ended():
                self.pause()
                late = end is not None and time.monotonic() > end
                if late or (watched is not None and select.select([watched], [], [], 0)[0]):
                    self.asked_to_end = True
                    self.stop()
                    end = watched = None
        finally:
            if watched is not None:
                os.close(watched)

    def mark(self, name: str, stamp: int) -> None:
        """The region of interest begins or ends at that time, of CLOCK_MONOTONIC."""
        self.manifest.marks.append((name, stamp))
        self._changed()

    def spawn(
        self,
        command: Sequence[str],
        environment: Mapping[str, str],
        user: tuple[int, int] | None = None,
        output: Path | None = None,
    ) -> int:
        """Start a command, with the signals as they were; returns its process.

        :param output: file for its standard output and error.
        """
        if user is not None:
            program = shutil.which("setpriv")
            if program is None:
                raise UserError("setpriv is missing, to run as another user: install util-linux")
            ids = (f"--reuid={user[0]}", f"--regid={user[1]}", "--clear-groups")
            command = (program, *ids, "--", *command)
        actions: list[tuple[int, ...] | tuple[int, int, str, int, int]] = []
        if output is not None:
            flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
            actions = [(os.POSIX_SPAWN_OPEN, 1, str(output), flags, 0o644)]
            actions.append((os.POSIX_SPAWN_DUP2, 1, 2))
        ignored = (signal.SIGPIPE, signal.SIGXFSZ)  # as Python has them
        try:
            return os.posix_spawnp(
                command[0],
                list(command),
                dict(environment),
                setsigmask=(),
                setsigdef=ignored,
                file_actions=actions,
            )
        except OSError as error:
            raise UserError(f"{command[0]}: cannot be run: {os_reason(error)}") from error

    def status(self, pid: int) -> int | None:
        """Exit status of a process that was spawned, minus its signal; nothing: it runs."""
        return self._statuses.get(pid)

    def wait_for(self, pid: int, meanwhile: Callable[[], None] = lambda: None) -> int | None:
        """Exit status of a process that was spawned, when it has ended; nothing: interrupted.

        :param meanwhile: called now and then.
        """
        while self.status(pid) is None:
            self.pause()
            if self.interrupted is None:
                meanwhile()
            elif self.status(pid) is None:
                os.kill(pid, signal.SIGTERM)
        self.pause()  # what ended it may be a signal that comes to this process, too
        return self.status(pid) if self.interrupted is None else None

    def pause(self) -> None:
        """Wait a moment, looking after signals and processes."""
        info = signal.sigtimedwait(_WATCHED, _TICK)
        if info is not None and info.si_signo != signal.SIGCHLD:
            self._interrupt(signal.Signals(info.si_signo), from_terminal=info.si_code > 0)
        self._reap()
        if self._streams.failure is not None and not self._ending and self._deadline is None:
            self.stop()
        if self._deadline is not None and time.monotonic() > self._deadline:
            self._escalate()

    def stop(self, number: signal.Signals = signal.SIGINT, sent: bool = False) -> None:
        """Ask what is recorded to end: by this signal, later by stronger ones.

        :param sent: it has this signal already, from the terminal.
        """
        if self._deadline is not None:
            return
        rest = [step for step in _ESCALATION if step[0] != number]
        first = next((step for step in _ESCALATION if step[0] == number), (number, 60.0))
        self._ending = [first, *rest]
        if sent:
            self._ending.pop(0)
            self._deadline = time.monotonic() + first[1]
        else:
            self._escalate()

    def _interrupt(self, number: signal.Signals, from_terminal: bool) -> None:
        again = self.interrupted is not None
        self.interrupted = self.interrupted or number
        if again:
            self._escalate()
            return
        self.stop(number, sent=from_terminal)

    def _escalate(self) -> None:
        if not self._ending:
            self._deadline = time.monotonic() + _ESCALATION[-1][1]
            return
        number, seconds = self._ending.pop(0)
        self._deadline = time.monotonic() + seconds
        for pid in self._targets(all_of_them=number == signal.SIGKILL):
            try:
                os.kill(pid, number)
            except ProcessLookupError:
                continue

    def _targets(self, all_of_them: bool) -> list[int]:
        pids = {stream.pid for stream in self._streams.active()}
        if self.pid not in self._statuses:
            pids.add(self.pid)
        if all_of_them:
            return sorted(pids)
        return sorted(pid for pid in pids if _parent_of(pid) not in pids)

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                self._childless = True
                return
            if pid == 0:
                return
            self._statuses[pid] = os.waitstatus_to_exitcode(status)

    def _ended(self) -> bool:
        self._reap()
        return self._childless and not self._streams.active()

    def _under_valgrind(self) -> list[str]:
        self._environment["VALGRIND_LIB"] = str(self._tool)
        return [
            str(self._valgrind.program),
            f"--tool={tool.NAME}",
            "--trace-children=yes",
            "--vgdb=no",
            *tool.OPTIONS,
            f"--log-file={self._scratch}/log.%p",
            f"--socket={self._scratch}/socket",
            "--",
            *self._command,
        ]

    def _make_folder(self) -> None:
        try:
            if self._output.exists():
                shutil.rmtree(self._output)
            self._output.mkdir(parents=True)
            self.manifest = Manifest(
                command=self._command,
                ptshare=__version__,
                valgrind=self._valgrind.version,
                host=describe(),
                begin=_now(),
                recorder=os.getpid(),
            )
            folder.write_manifest(self._output, self.manifest)
        except OSError as error:
            raise UserError(
                f"cannot be written: {os_reason(error)}", option="output", value=self._output
            ) from error

    def _changed(self) -> None:
        try:
            with self._writing:
                self.manifest.streams = list(self._streams.all)
                folder.write_manifest(self._output, self.manifest)
        except OSError as error:
            self._streams.fail(f"{self._output}: {os_reason(error)}")

    def _finish(self) -> None:
        streams = self._streams.all
        if not streams:
            shutil.rmtree(self._output, ignore_errors=True)
            raise UserError(f"{self._command[0]}: does not start under Valgrind{self._told()}")
        settle_execs(streams)
        self.manifest.streams = streams
        self.manifest.end = _now()
        self.manifest.why = self._streams.failure
        self.manifest.exit = self._statuses.get(self.pid)
        try:
            folder.write_manifest(self._output, self.manifest)
        except OSError as error:
            raise UserError(f"{self._output}: {os_reason(error)}") from error

    def _told(self) -> str:
        """What Valgrind said of why it did not."""
        for log in sorted(self._scratch.glob("log.*")):
            lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
            said = [line.partition("== ")[2] for line in lines if "Warning" in line]
            if said:
                return f": {said[0]}"
        status = self._statuses.get(self.pid)
        return "" if status is None else f" (exit status {status})"


def _parent_of(pid: int) -> int:
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return 0
    return int(text.rpartition(")")[2].split()[1])


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def mark(output: Path, name: str) -> int:
    """Mark a recording that is being made, now; returns the time."""
    if name not in (folder.BEGIN, folder.END):
        raise UserError(
            f"must be {folder.BEGIN} or {folder.END}, not {name!r}", EXIT_USAGE, option="mark"
        )
    manifest = folder.read_manifest(output)
    if manifest.end is not None or not Path(f"/proc/{manifest.recorder}").exists():
        raise UserError(f"{output}: is not being recorded now")
    stamp = time.monotonic_ns()
    try:
        folder.add_mark(output, name, stamp)
    except OSError as error:
        raise UserError(f"{output}: cannot be marked: {os_reason(error)}") from error
    return stamp


def exit_status(recording: Recording) -> int:
    """What ``ptshare record`` ends with: the program's, or that of what interrupted it."""
    if recording.interrupted is not None:
        return 128 + recording.interrupted
    status = recording.manifest.exit or 0
    if recording.asked_to_end and status < 0:
        return 0  # by the signal that was to end it
    return 128 - status if status < 0 else status


def summary(manifest: Manifest, output: Path) -> str:
    """One line on what was recorded."""
    streams: list[Stream] = manifest.streams
    accesses = sum(stream.accesses for stream in streams)
    size = sum(stream.bytes for stream in streams)
    each = f", {size / accesses:.2f} an access" if accesses else ""
    pids = len({stream.pid for stream in streams})
    return (
        f"{pids} process{'' if pids == 1 else 'es'},"
        f" {sum(s.instructions for s in streams):,} instructions,"
        f" {accesses:,} accesses; {size:,} bytes{each} written to {output}"
    )


def say(line: str) -> None:
    """To standard error: standard output is the program's."""
    sys.stderr.write(f"ptshare: {line}\n")
