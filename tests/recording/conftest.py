"""The recorder's tool, which tests of recordings need."""

from __future__ import annotations

from pathlib import Path

import pytest

from ptshare_plugin.recording import tool


@pytest.fixture(scope="session")
def valgrind() -> Path:
    """Folder of the built tool; the test skips where the machine lacks what that needs."""
    lack = tool.missing()
    if lack is not None:
        pytest.skip(lack)
    return tool.build()[1]
