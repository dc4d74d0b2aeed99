"""Runs of an engine, through the same Python that the command line uses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ptshare_plugin.runs import run
from ptshare_plugin.runs.options import Options


def execute(
    what: str | Path,
    *,
    engine: str = "embedded",
    policy: str = "ptshare",
    procs: int = 1,
    cores: int | None = None,
    region: int = 4 << 20,
    work: int | None = None,
    seed: int = 1,
    share: bool = True,
    args: tuple[str, ...] = (),
    preset: str = "server",
    sets: tuple[str, ...] = (),
) -> run.Run:
    """Run a workload (by name) or a program (by path) under an engine."""
    options = Options.of(
        {
            "program": what,
            "args": args,
            "engine": engine,
            "policy": policy,
            "procs": procs,
            "cores": cores,
            "region": region,
            "preset": preset,
            "set": sets,
            "seed": seed,
            "work": work,
            "share": share,
        }
    )
    return run.execute(options.spec(), options.command())


def totals(done: run.Run) -> dict[str, Any]:
    """Metrics summed over processes, without those of the host."""
    return {name: value for name, value in done.values[-1].items() if not name.startswith("host.")}
