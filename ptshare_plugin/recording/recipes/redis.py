"""Redis that forks snapshots while clients write: a scratch server, which alone is recorded."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, cast

from ptshare_plugin.common.errors import EXIT_USAGE, UserError, os_reason
from ptshare_plugin.common.units import parse_size
from ptshare_plugin.recording.folder import BEGIN, END, Work
from ptshare_plugin.recording.recipes import Option
from ptshare_plugin.recording.record import Recording, say

NAME = "redis"
DESCRIPTION = "Redis's server under redis-benchmark, forking snapshots of itself meanwhile"
OPTIONS = (
    Option("clients", int, 8, "N", "Clients at once.  [default: 8]"),
    Option("requests", int, 30_000, "N", "Requests of redis, all together.  [default: 30000]"),
    Option("data", str, "100MiB", "SIZE", "What redis holds, in values.  [default: 100MiB]"),
    Option("value", str, "4KiB", "SIZE", "Each value of redis.  [default: 4KiB]"),
    Option("snapshots", int, 2, "N", "Snapshots of redis (BGSAVE).  [default: 2]"),
)

_READY_SECONDS = 120.0
_PERIOD = 0.2
_OPTIONS = (
    *("--port", "0", "--save", "", "--appendonly", "no"),
    # The snapshot's own computing is most of its time under Valgrind, and no matter of tables.
    *("--rdbcompression", "no", "--rdbchecksum", "no"),
)


def record(
    output: Path, force: bool, roi_after: float | None, given: Mapping[str, Any]
) -> Recording:
    """Set up, record, take down. The region of interest: from the first snapshot to the end."""
    count = _check(given)
    found = _programs()
    output = Path(os.path.abspath(output))
    folder = Path(tempfile.mkdtemp(prefix="ptshare-redis-"))
    place = folder / "socket"
    command = [found["redis-server"], *_OPTIONS, "--dir", str(folder), "--unixsocket", str(place)]
    try:
        recording = Recording(
            command, output, force=force, roi_after=roi_after, said=folder / "log"
        )
        say(f"filling a scratch server with {count:,} values")
        _fill(command, place, count, parse_size(given["value"]))
        with recording:
            _wait_until_ready(recording, place, folder / "log")
            say(f"redis-benchmark: {given['clients']} clients, {given['requests']} requests")
            begin = time.monotonic_ns()
            words = _load(found["redis-benchmark"], place, count, given)
            _run_beside(recording, words, place, folder / "said", given["snapshots"])
            if roi_after is None:
                recording.mark(BEGIN, begin)
                recording.mark(END, time.monotonic_ns())
            inside = given["requests"] if roi_after is None else 0
            recording.manifest.work = Work("request", given["requests"], inside, "*redis-server*")
            recording.stop(signal.SIGTERM)  # Redis's shutdown
        return recording
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _check(given: Mapping[str, Any]) -> int:
    """Values that there are to be."""
    for name in ("clients", "requests"):
        if not 1 <= given[name] <= 100_000_000:
            raise UserError("must be at least 1", EXIT_USAGE, option=name, value=given[name])
    if not 0 <= given["snapshots"] <= 1000:
        raise UserError(
            "must be 0 to 1000", EXIT_USAGE, option="snapshots", value=given["snapshots"]
        )
    data, value = parse_size(given["data"]), parse_size(given["value"])
    if not 1 <= value <= data:
        raise UserError("must be 1 to --data", EXIT_USAGE, option="value", value=given["value"])
    return data // value


def _programs() -> dict[str, str]:
    found = {}
    for name in ("redis-server", "redis-benchmark"):
        path = shutil.which(name)
        if path is None:
            raise UserError(f"no {name}: install Debian's or Ubuntu's redis-server")
        found[name] = path
    return found


def _load(program: str, place: Path, count: int, given: Mapping[str, Any]) -> list[str]:
    """One GET for each SET, of random keys of those that are there."""
    size = str(parse_size(given["value"]))
    words = [program, "-s", str(place), "-c", str(given["clients"]), "-d", size, "-r", str(count)]
    # Half of them each: redis-benchmark makes as many of each kind as -n says.
    return [*words, "-n", str(-(-given["requests"] // 2)), "-q", "-t", "set,get"]


def _fill(command: Sequence[str], place: Path, count: int, size: int) -> None:
    """Run the server natively, give it the keys of redis-benchmark, have it save them."""
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as server:
        try:
            end = time.monotonic() + _READY_SECONDS
            while not _answers(place):
                if server.poll() is not None or time.monotonic() > end:
                    raise UserError("redis-server does not come up")
                time.sleep(0.05)
            with _connected(place) as talk:
                for first in range(0, count, 1000):
                    keys = range(first, min(first + 1000, count))
                    sets = b"".join(_command(b"SET", _key(k), b"x" * size) for k in keys)
                    _answer(talk, sets, len(keys))
                _answer(talk, _command(b"SHUTDOWN", b"SAVE"))
            server.wait(_READY_SECONDS)
        finally:
            server.kill()


def _run_beside(
    recording: Recording, words: Sequence[str], place: Path, said: Path, snapshots: int
) -> None:
    """Run redis-benchmark natively, and snapshots meanwhile; one begins when another has ended."""
    left, due = snapshots, time.monotonic()

    def snapshot() -> None:
        nonlocal left, due
        if left and time.monotonic() > due:
            left -= _told(recording, place, b"BGSAVE").startswith(b"+")
            due = time.monotonic() + _PERIOD

    status = recording.wait_for(recording.spawn(words, os.environ, output=said), snapshot)
    if status:
        raise UserError(f"redis-benchmark failed with exit status {status}")
    while b"in_progress:1" in _told(recording, place, b"INFO", b"persistence"):
        recording.pause()
    if left and recording.interrupted is None:
        say(f"{snapshots - left} of {snapshots} snapshots: the clients were done; more --requests")


def _wait_until_ready(recording: Recording, place: Path, log: Path) -> None:
    end = time.monotonic() + _READY_SECONDS
    while recording.status(recording.pid) is None and time.monotonic() < end:
        if recording.interrupted is not None or _answers(place):
            return
        recording.pause()
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines() if log.exists() else []
    raise UserError(f"the recorded server does not come up: {lines[-1] if lines else 'no reason'}")


def _told(recording: Recording, place: Path, *words: bytes) -> bytes:
    """What the recorded server answers; nothing once all is to end."""
    try:
        return b"" if recording.interrupted else _ask(place, *words)
    except UserError:
        recording.pause()  # what ended it may be a signal that comes to this process, too
        if recording.interrupted is None:
            raise
        return b""


def _key(number: int) -> bytes:
    return b"key:%012d" % number  # as redis-benchmark writes them


def _command(*words: bytes) -> bytes:
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(w), w) for w in words)


def _answers(place: Path) -> bool:
    """Whether it is there, and has its data."""
    try:
        return _ask(place, b"PING").startswith(b"+PONG")
    except UserError:
        return False


def _ask(place: Path, *words: bytes) -> bytes:
    with _connected(place) as talk:
        return _answer(talk, _command(*words))


def _answer(talk: BinaryIO, commands: bytes, times: int = 1) -> bytes:
    """What comes for the last one of ``times`` commands."""
    line = b""
    try:
        talk.write(commands)
        talk.flush()
        for _ in range(times):
            line = talk.readline()
            if line.startswith(b"$"):  # a text of so many bytes, and the end of its line
                line += talk.read(int(line[1:]) + 2)
    except OSError as error:
        raise UserError(f"redis-server does not answer: {os_reason(error)}") from error
    return line


@contextmanager
def _connected(place: Path) -> Iterator[BinaryIO]:
    with socket.socket(socket.AF_UNIX) as talk:
        talk.settimeout(60)
        try:
            talk.connect(str(place))
        except OSError as error:
            raise UserError(f"redis-server does not answer: {os_reason(error)}") from error
        with talk.makefile("rwb") as file:
            yield cast(BinaryIO, file)
