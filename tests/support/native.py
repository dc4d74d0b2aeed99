"""Runs a workload's processes on this machine's kernel."""

from __future__ import annotations

import contextlib
import mmap
import struct
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from ptshare_plugin.spec import workloads

LIMIT_SECONDS = 120


@dataclass(frozen=True)
class Native:
    """What the ranks left, in rank order."""

    lines: list[str]
    errors: list[str]
    statuses: list[int]


def command(
    name: str,
    rank: int,
    procs: int,
    region: int,
    share: bool,
    folder: Path,
    seed: int = 1,
    work: int | None = None,
    extra: tuple[str, ...] = (),
) -> list[str]:
    """Command line of one rank, with the region's file in ``folder``."""
    arguments = workloads.arguments(
        region=region,
        share=share,
        rank=rank,
        procs=procs,
        seed=seed,
        work=work,
        file=str(folder / "region"),
    )
    return [str(workloads.path(name)), *arguments, *extra]


@contextlib.contextmanager
def shared_folder() -> Iterator[Path]:
    """A folder in memory, gone afterwards."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as name:
        yield Path(name)


def start(arguments: list[str], preexec: Callable[[], None] | None = None) -> subprocess.Popen[str]:
    """One rank, with its output in pipes."""
    return subprocess.Popen(
        arguments,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=preexec,
    )


def finish(ranks: list[subprocess.Popen[str]]) -> Native:
    """Wait for all; statuses as subprocess gives them."""
    deadline = time.monotonic() + LIMIT_SECONDS
    try:
        texts = [rank.communicate(timeout=deadline - time.monotonic()) for rank in ranks]
    finally:
        for rank in ranks:
            rank.kill()
    return Native(
        lines=[line for out, _ in texts for line in out.splitlines()],
        errors=[line for _, err in texts for line in err.splitlines()],
        statuses=[rank.returncode for rank in ranks],
    )


def run_in(
    folder: Path,
    name: str,
    procs: int,
    region: int,
    share: bool = True,
    seed: int = 1,
    work: int | None = None,
    extra: tuple[str, ...] = (),
    preexec: Callable[[], None] | None = None,
) -> Native:
    """All ranks at once, with their files in ``folder``."""
    return finish(
        [
            start(command(name, rank, procs, region, share, folder, seed, work, extra), preexec)
            for rank in range(procs)
        ]
    )


def run_natively(
    name: str,
    procs: int,
    region: int,
    share: bool,
    seed: int = 1,
    work: int | None = None,
    extra: tuple[str, ...] = (),
) -> Native:
    """All ranks at once, in a folder of their own."""
    with shared_folder() as folder:
        return run_in(folder, name, procs, region, share, seed, work, extra)


def mix(x: int) -> int:
    """splitmix64, as in se_workloads/runtime/runtime.h."""
    mask = (1 << 64) - 1
    x = (x + 0x9E3779B97F4A7C15) & mask
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & mask
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & mask
    return x ^ (x >> 31)


def datum(seed: int, place: int, when: int) -> int:
    """What a place of the region holds after a round."""
    return mix(seed ^ mix(place ^ mix(when)))


class Puppet:
    """Rank 1 of 2, played by the test: it meets rank 0 at each barrier and lets it go on.

    It writes nothing, so it fits a region of one page, which is rank 0's.
    """

    # struct in se_workloads/runtime/syscalls.c: arrived, generation, failed, joined, count
    _PAGE = struct.Struct("<5Q")

    def __init__(self, folder: Path, rank0: subprocess.Popen[str]) -> None:
        self._path = folder / "region.sync"
        self._rank0 = rank0
        self._passed = 0

    def wait(self) -> None:
        """Until rank 0 waits in the next barrier."""
        deadline = time.monotonic() + LIMIT_SECONDS
        while not self.waits():
            assert self._rank0.poll() is None, self._rank0.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.001)

    def waits(self) -> bool:
        """Whether rank 0 waits in the next barrier."""
        return self._state()[:2] == (1, self._passed)

    def release(self) -> None:
        """Complete the barrier in which rank 0 waits."""
        self._passed += 1
        self._store(0, 0)
        self._store(1, self._passed)

    def fail(self) -> None:
        """Tell rank 0 that rank 1 has failed."""
        self._store(2, 1 + 1)

    def _state(self) -> tuple[int, ...]:
        data = self._path.read_bytes() if self._path.exists() else b""
        return self._PAGE.unpack_from(data) if data else (0,) * 5

    def _store(self, index: int, value: int) -> None:
        with self._path.open("r+b") as file, mmap.mmap(file.fileno(), 4096) as page:
            page[8 * index : 8 * index + 8] = struct.pack("<Q", value)
