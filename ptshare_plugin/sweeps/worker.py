"""What a Dask worker does for a run: has it forked, watches its limits, says how it ended."""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import json
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import ptshare_plugin
from ptshare_plugin.common import units
from ptshare_plugin.common.errors import UserError, os_reason
from ptshare_plugin.engines import registry as engines
from ptshare_plugin.runs.options import Options
from ptshare_plugin.sweeps import child, store
from ptshare_plugin.sweeps.child import EXIT_NO_SPACE
from ptshare_plugin.sweeps.file import Limits
from ptshare_plugin.sweeps.server import FOLDER, LOG

_LOOK_SECONDS = 0.1
TRIES = 4
"""Times that a run is begun when what starts it is killed; as often as Dask tries other workers."""
_PAGE = os.sysconf("SC_PAGE_SIZE")
_local = threading.local()


@dataclass(frozen=True, slots=True)
class Setting:
    """What is the same for all runs of a sweep.

    :param version: of ptshare, where the sweep was begun.
    :param m5out: keep gem5's own files.
    """

    out: Path
    limits: Limits
    m5out: bool
    version: str = ptshare_plugin.__version__


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a run ended.

    :param reason: what went wrong; None when its folder is there.
    :param fatal: whether other runs would end so, too: the disk is full, or an engine not there.
    """

    run: str
    reason: str | None = None
    fatal: bool = False


def lack(setting: Setting, names: Iterable[str]) -> str | None:
    """What this worker lacks to run the engines ``names``, in one line; None when nothing."""
    if (version := ptshare_plugin.__version__) != setting.version:
        return f"has ptshare {version}, where the sweep was begun it is {setting.version}"
    for name in names:
        if (missing := engines.by_name(name).missing()) is not None:
            return f"engine {name}: {missing}"
    if not (setting.out / store.TMP).is_dir():
        return f"does not see {setting.out}"
    return None


def perform(run: str, options: Options, setting: Setting) -> Outcome:
    """Make a run, unless it is there; that it failed is kept at once."""
    out = setting.out
    target = out / store.RUNS / run
    if target.is_dir():  # made before its worker died
        return Outcome(run)
    if (lacking := lack(setting, [options.engine])) is not None:  # it came later than the others
        from distributed import get_worker

        return Outcome(run, f"worker {get_worker().address}: {lacking}", fatal=True)
    start = time.monotonic()
    # Hidden: no reader of run folders takes it for one.
    name = f".{run}.{socket.gethostname()}.{os.getpid()}.{threading.get_ident()}"
    place = out / store.TMP / name
    try:
        place.mkdir()
        with (place / LOG).open("w") as log:
            fcntl.flock(log, fcntl.LOCK_EX)  # see remove_stale
            job: dict[str, object] = {
                "run": run,
                "options": dataclasses.asdict(options),
                "place": str(place),
                "target": str(target),
                "m5out": setting.m5out,
            }
            reason, fatal = _try(job, setting.limits)
            if reason is not None and not fatal:
                lines = child.tail(place / LOG)
                store.record_failure(out, run, options, reason, time.monotonic() - start, lines)
    except UserError as error:
        return Outcome(run, str(error), fatal=True)
    except OSError as error:
        return Outcome(run, f"{error.filename or out}: {os_reason(error)}", fatal=True)
    finally:
        shutil.rmtree(place, ignore_errors=True)
    return Outcome(run, reason, fatal)


def remove_stale(out: Path) -> None:
    """Remove what runs that were killed left behind; those that go on elsewhere hold a lock."""
    for place in (out / store.TMP).iterdir():
        with contextlib.suppress(FileNotFoundError), (place / LOG).open() as log:
            try:
                fcntl.flock(log, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
        shutil.rmtree(place, ignore_errors=True)


def _try(job: dict[str, object], limits: Limits) -> tuple[str | None, bool]:
    """What went wrong, or None; and whether it would for other runs."""
    for _ in range(TRIES):
        try:
            return _run(job, limits)
        except _ServerKilled:  # by whom, nobody knows: the run may have no part in it
            if Path(str(job["target"])).is_dir():
                return None, False
            shutil.rmtree(Path(str(job["place"]), FOLDER), ignore_errors=True)
    return f"the process that starts runs was killed {TRIES} times", False


class _ServerKilled(Exception):
    """The process that forks runs has ended, and its run with it."""


def _run(job: dict[str, object], limits: Limits) -> tuple[str | None, bool]:
    server = _server()
    start = time.monotonic()
    why: str | None = None
    pid = 0
    try:
        server.ask(job)
        pid = int(server.answer(None) or 0)
        while (status := server.answer(_LOOK_SECONDS)) is None:
            why = why or _beyond(pid, limits, time.monotonic() - start)
            if why is not None:
                _kill(pid)
    except (EOFError, BrokenPipeError):
        _local.server = None
        if pid:  # it dies with its parent, but not what it has started
            _kill(pid)
        raise _ServerKilled from None
    except BaseException:  # the task is given up
        server.end()
        _local.server = None
        raise
    code = os.waitstatus_to_exitcode(int(status))
    if code == 0:
        return None, False
    if code == EXIT_NO_SPACE:  # which may have left no room to say so
        return f"{Path(str(job['target'])).parent}: no space left on device", True
    if why is None and code < 0:
        why = f"killed by {signal.Signals(-code).name}"
    place = Path(str(job["place"]))
    told = [line for line in child.tail(place / LOG) if line.startswith("ptshare: error: ")]
    why = why or (told[-1].removeprefix("ptshare: error: ") if told else f"exit status {code}")
    return why, False


def _beyond(pid: int, limits: Limits, seconds: float) -> str | None:
    if limits.seconds is not None and seconds > limits.seconds:
        return f"took longer than limits.seconds = {limits.seconds:g}"
    if limits.memory is not None and (found := _resident(pid)) > limits.memory:
        limit = units.exact_size(limits.memory)
        return f"had {units.short_size(found)} resident, more than limits.memory = {limit}"
    return None


def _resident(pid: int) -> int:
    """Resident bytes of a process and its descendants.

    RLIMIT_AS would count what is only reserved, which is much in a simulator.
    """
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
        threads = Path(f"/proc/{pid}/task").iterdir()
        below = [each for task in threads for each in (task / "children").read_text().split()]
    except (OSError, IndexError):  # it has ended
        return 0
    return pages * _PAGE + sum(_resident(int(each)) for each in below)


def _kill(pid: int) -> None:
    for kill in (os.killpg, os.kill):
        with contextlib.suppress(ProcessLookupError):
            kill(pid, signal.SIGKILL)


class _Server:
    """A process of ``server.py``, which ends with this one."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "ptshare_plugin.sweeps.server"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,  # Ctrl-C is the client's
            # Threads would not survive the forks.
            env={**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"},
        )
        assert self._process.stdin is not None and self._process.stdout is not None
        self._requests, self._answers = self._process.stdin, self._process.stdout.fileno()
        self._rest = b""

    def ask(self, job: dict[str, object]) -> None:
        self._requests.write(json.dumps(job).encode() + b"\n")
        self._requests.flush()

    def answer(self, seconds: float | None) -> str | None:
        """Second word of the next line; None when there is none in time."""
        while b"\n" not in self._rest:
            if not select.select([self._answers], [], [], seconds)[0]:
                return None
            data = os.read(self._answers, 4096)
            if not data:
                self.end()
                raise EOFError
            self._rest += data
        line, _, self._rest = self._rest.partition(b"\n")
        return line.split()[1].decode()

    def end(self) -> None:
        """End it and what it runs."""
        with contextlib.suppress(OSError):
            self._requests.close()
        self._process.wait()


def _server() -> _Server:
    if getattr(_local, "server", None) is None:
        _local.server = _Server()
    server = _local.server
    assert isinstance(server, _Server)
    return server
