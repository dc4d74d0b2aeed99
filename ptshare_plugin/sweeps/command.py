"""``ptshare sweep``: what it prints."""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path

from ptshare_plugin.show import terminal
from ptshare_plugin.sweeps import plan as plans
from ptshare_plugin.sweeps import store
from ptshare_plugin.sweeps.execute import sweep


def run(
    file: str, out: str, workers: int | None, address: str | None, retry: bool, as_json: bool
) -> None:
    """Make the runs of ``file``; a UserError when some failed."""
    plan = plans.load(Path(file))
    report = sweep(plan, Path(out), workers, address, retry)
    if as_json:
        sys.stdout.write(json.dumps(dataclasses.asdict(report), indent=1) + "\n")
    else:
        sys.stdout.write(report.line() + "\n")
    sys.stdout.flush()
    for name, reason in report.failures[:10]:
        sys.stderr.write(f"{name}: {reason}\n")
    report.raise_failures(Path(out))


def list_runs(file: str, out: str, as_json: bool) -> None:
    """Print the runs of ``file`` and which of them are in ``out``; nothing is run or written."""
    plan = plans.load(Path(file))
    done = store.finished(Path(out), plan.points)
    failed = store.failed(Path(out), plan.points) - done
    states = {
        point.run: "made" if point.run in done else "failed" if point.run in failed else "to do"
        for point in plan.points
    }
    if as_json:
        rows = [
            {"run": point.run, "state": states[point.run], "command": point.options.command()}
            for point in plan.points
        ]
        sys.stdout.write(json.dumps(rows, indent=1) + "\n")
        return
    varying = list(plan.points[0].varying)
    console = terminal.console()
    terminal.print_words(
        console,
        ["run", "state", *varying],
        [
            [point.run, states[point.run], *(_shown(point.varying[name]) for name in varying)]
            for point in plan.points
        ],
    )
    same = plan.combinations - len(plan.points)
    console.print(f"{len(plan.points):,} runs" + (f"; {same:,} more are the same" if same else ""))


def _shown(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return " ".join(map(str, value)) if isinstance(value, tuple) else str(value)
