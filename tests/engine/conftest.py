"""A compiler for small programs."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path

import compiler
import pytest


@pytest.fixture
def compiled(tmp_path: Path) -> Callable[..., Path]:
    """Compile C or assembly into a static program."""
    return functools.partial(compiler.compiled, tmp_path)
