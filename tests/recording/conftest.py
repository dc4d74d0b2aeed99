"""The recorder's tool, which tests of recordings need."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from compiler import compiled
from recordings import PROGRAM, record

from ptshare_plugin.engines.native import machine_parameters
from ptshare_plugin.recording import tool
from ptshare_plugin.runs.options import Options


@pytest.fixture(scope="session")
def valgrind() -> Path:
    """Folder of the built tool; the test skips where the machine lacks what that needs."""
    lack = tool.missing()
    if lack is not None:
        pytest.skip(lack)
    return tool.build()[1]


@pytest.fixture(scope="session")
def folder(valgrind: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recording of ``recordings.PROGRAM``."""
    place = tmp_path_factory.mktemp("replay")
    done = record(place / "recording", compiled(place, PROGRAM))
    assert done.returncode == 0, done.stderr
    return place / "recording"


@pytest.fixture(scope="session")
def parameters() -> dict[str, Any]:
    """A machine's, as the extension module takes them."""
    return machine_parameters(Options.of({"program": "scan"}).spec())
