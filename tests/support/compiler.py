"""Small static programs, compiled where a test needs one."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest


def compiled(folder: Path, source: str, suffix: str = ".c", *flags: str) -> Path:
    """A static program of C or assembly, in ``folder``; the test skips without a compiler."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler: install gcc")
    text, binary = folder / f"program{suffix}", folder / "program"
    text.write_text(source)
    subprocess.run([compiler, "-static", "-no-pie", "-O1", *flags, "-o", binary, text], check=True)
    return binary
