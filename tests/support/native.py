"""Runs a workload's processes on this machine's kernel."""

from __future__ import annotations

import contextlib
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ptshare_plugin import workloads

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
) -> list[str]:
    """Command line of one rank, with the region's file in ``folder``."""
    arguments = workloads.arguments(
        region=region, share=share, rank=rank, procs=procs, seed=seed, work=work
    )
    arguments[arguments.index("--file") + 1] = str(folder / "region")
    return [str(workloads.path(name)), *arguments]


@contextlib.contextmanager
def shared_folder() -> Iterator[Path]:
    """A folder in memory, gone afterwards."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as name:
        yield Path(name)


def run_natively(
    name: str, procs: int, region: int, share: bool, seed: int = 1, work: int | None = None
) -> Native:
    """All ranks at once; statuses as subprocess gives them."""
    with shared_folder() as folder:
        ranks = [
            subprocess.Popen(
                command(name, rank, procs, region, share, folder, seed, work),
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            for rank in range(procs)
        ]
        try:
            texts = [rank.communicate(timeout=LIMIT_SECONDS) for rank in ranks]
        finally:
            for rank in ranks:
                rank.kill()
    return Native(
        lines=[line for out, _ in texts for line in out.splitlines()],
        errors=[line for _, err in texts for line in err.splitlines()],
        statuses=[rank.returncode for rank in ranks],
    )
