"""How errors reach whoever uses the command line."""

from __future__ import annotations

import sys


def complain(message: str) -> None:
    """Write one line to standard error."""
    sys.stderr.write(f"ptshare: error: {message}\n")
