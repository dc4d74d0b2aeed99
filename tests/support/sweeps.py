"""Sweeps as a user starts them, and what is asked of them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

COMMAND = Path(sys.executable).with_name("ptshare")


def command(file: Path, out: Path, *more: str) -> list[str]:
    return [str(COMMAND), "sweep", str(file), "-o", str(out), *more]


def sweep(file: Path, out: Path, *more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(file, out, *more), text=True, capture_output=True, timeout=300)


def report(file: Path, out: Path, *more: str) -> dict[str, Any]:
    done = sweep(file, out, "--json", *more)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def started(file: Path, out: Path, *more: str) -> subprocess.Popen[str]:
    """A sweep that goes on, in a session of its own."""
    return subprocess.Popen(
        command(file, out, *more),
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )


def made(out: Path) -> dict[str, tuple[int, int]]:
    """Each finished run with what would differ if it were made again."""
    found = {}
    for folder in (out / "runs").iterdir():
        status = (folder / "run.json").stat()
        found[folder.name] = (status.st_ino, status.st_mtime_ns)
    return found


def failures(out: Path) -> list[dict[str, Any]]:
    """What is kept of runs that failed."""
    return [json.loads(path.read_text()) for path in sorted((out / "failed").iterdir())]


def until(condition: Callable[[], Any], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "nothing happened"
        time.sleep(0.02)


def below(pid: int) -> list[int]:
    """Descendants of a process."""
    try:
        threads = Path(f"/proc/{pid}/task").iterdir()
        text = " ".join((task / "children").read_text() for task in threads)
    except OSError:
        return []
    return [each for child in map(int, text.split()) for each in (child, *below(child))]


def runs_as(pid: int, part: bytes) -> bool:
    """Whether there is a process ``pid`` with ``part`` in its command line."""
    try:
        return part in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


def parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def servers(client: int) -> list[int]:
    """The processes that fork runs; the parent of each is a worker."""
    found = [pid for pid in below(client) if runs_as(pid, b"sweeps.server")]
    return [pid for pid in found if parent(pid) not in found]  # what they forked looks like them


def alive(pid: int) -> bool:
    """Whether ``pid`` is a process that has not ended."""
    try:
        os.kill(pid, 0)
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (OSError, IndexError):
        return False
