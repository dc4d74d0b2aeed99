"""A compiler for small programs."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest


@pytest.fixture
def compiled(tmp_path: Path) -> Callable[..., Path]:
    """Compile C or assembly into a static program."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler: install gcc")

    def build(source: str, suffix: str = ".c", *flags: str) -> Path:
        text = tmp_path / f"program{suffix}"
        text.write_text(source)
        binary = tmp_path / "program"
        subprocess.run(
            [compiler, "-static", "-no-pie", "-O1", *flags, "-o", binary, text], check=True
        )
        return binary

    return build
