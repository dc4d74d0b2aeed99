"""Tests on real processes of this machine's kernel: skipped, with the reason, where it lacks it."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path

import compiler
import pytest

from ptshare_plugin.engines.linux.engine import LinuxEngine

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    lack = LinuxEngine().missing()
    for item in items:
        if HERE in item.path.parents and lack is not None:
            item.add_marker(pytest.mark.skip(reason=lack))


@pytest.fixture
def compiled(tmp_path: Path) -> Callable[..., Path]:
    """Compile C or assembly into a static program."""
    return functools.partial(compiler.compiled, tmp_path)
