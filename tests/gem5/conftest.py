"""Runs of a real gem5.opt; skipped, with one line that says why, where there is none."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from gem5_runs import SCRIPT, Gem5Run

from ptshare_plugin.engines.gem5.engine import Gem5Engine
from ptshare_plugin.spec import workloads

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    lack = Gem5Engine().missing()
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.gem5)
            if lack is not None:
                item.add_marker(pytest.mark.skip(reason=lack))


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """How many tests of gem5 ran, so that a log shows whether any did."""
    counts = {
        outcome: sum(
            1
            for report in terminalreporter.stats.get(outcome, [])
            if "gem5" in getattr(report, "keywords", {})
        )
        for outcome in ("passed", "failed", "skipped")
    }
    if any(counts.values()):
        told = ", ".join(f"{count} {outcome}" for outcome, count in counts.items())
        terminalreporter.write_line(f"tests that need gem5: {told}")


@pytest.fixture
def gem5(tmp_path: Path) -> Callable[..., Gem5Run]:
    """Run ``gem5_configs/ptshare.py`` with options, which may change those given here."""

    def run(*options: str | Path) -> Gem5Run:
        folder = tmp_path / f"m5out{len(list(tmp_path.iterdir()))}"
        done = subprocess.run(
            [
                "gem5.opt",
                "-q",
                "-d",
                str(folder),
                str(SCRIPT),
                "--workloads",
                str(workloads.folder()),
                *("--preset", "gem5-x86", "--policy", "private"),
                *options,
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=900,
        )
        return Gem5Run(folder, done.returncode, done.stdout)

    return run
