"""``python tied.py PID COMMAND...``: become COMMAND, to be killed when its parent, PID, ends.

A program, since ``preexec_fn`` may deadlock in a process that has threads. Standard library only.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from pathlib import Path

_PR_SET_PDEATHSIG = 1
# Loaded before any fork.
_prctl = ctypes.CDLL(None, use_errno=True).prctl


def tie(parent: int) -> None:
    """Have this process killed when ``parent``, which has started it, ends; if it has, exit."""
    if _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
        sys.exit(f"prctl: {os.strerror(ctypes.get_errno())}")
    if os.getppid() != parent:  # it ended before
        sys.exit(1)


def tied(command: list[str]) -> list[str]:
    """What to start in place of ``command``, so that it is tied to the thread that starts it."""
    own = [sys.executable, "-I", "-S", str(Path(__file__).resolve())]
    return [*own, str(os.getpid()), *command]


def main() -> None:
    """Become the command."""
    tie(int(sys.argv[1]))
    command = sys.argv[2:]
    try:
        os.execvp(command[0], command)
    except OSError as error:
        sys.exit(f"{command[0]}: {error.strerror}")


if __name__ == "__main__":
    main()
