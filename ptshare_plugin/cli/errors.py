"""How errors reach whoever uses the command line."""

from __future__ import annotations

import sys


def warn(message: str) -> None:
    """Write one line to standard error about what may be wrong."""
    sys.stderr.write(f"ptshare: warning: {message}\n")


def complain(message: str) -> None:
    """Write one line to standard error."""
    sys.stderr.write(f"ptshare: error: {message}\n")
