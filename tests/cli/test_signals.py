"""Ctrl-C and SIGTERM end whatever runs, at once."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

COMMAND = Path(sys.executable).with_name("ptshare")
# Each takes minutes.
LONG = {
    "run": ("random", "--procs", "4", "--region", "256MiB", "--work", "50000000"),
    "compare": ("random", "--engine", "stream", "--procs", "4", "--work", "500000000"),
    "plan": ("--procs", "20000", "--region", "1TiB", "--memory", "2TiB", "--policy", "private"),
    "protect-ways": ("--procs", "2000", "--region", "1GiB", "--piece", "1GiB"),
}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("name", LONG)
def test_a_signal_ends_a_long_command_at_once(name: str, number: signal.Signals) -> None:
    with subprocess.Popen(
        [COMMAND, name, *LONG[name]],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as running:
        time.sleep(2)
        assert running.poll() is None
        running.send_signal(number)
        # Within two seconds where nothing else runs; that is not measured here.
        _, told = running.communicate(timeout=60)
    assert running.returncode == 128 + number
    assert told == ("ptshare: error: interrupted\n" if number == signal.SIGINT else "")
