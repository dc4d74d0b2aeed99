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
    # Whatever started the tests may ignore SIGINT, as a shell does for what it puts aside.
    own = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"
    main = "from ptshare_plugin.cli.main import main; main()"
    with subprocess.Popen(
        [sys.executable, "-c", f"{own}; {main}", name, *LONG[name]],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as running:
        time.sleep(2)
        assert running.poll() is None
        begin = time.monotonic()
        running.send_signal(number)
        _, told = running.communicate(timeout=60)
    # Two seconds on a machine that has nothing else to do.
    assert time.monotonic() - begin < 10
    assert running.returncode == 128 + number
    assert told == ("ptshare: error: interrupted\n" if number == signal.SIGINT else "")
