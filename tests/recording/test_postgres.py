"""The recipe of PostgreSQL: its server is recorded, whole; what it shares is seen."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from recordings import COMMAND, look

CLIENTS, TRANSACTIONS = 2, 10


@pytest.fixture(scope="module")
def seen(valgrind: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    if not list(Path("/usr/lib/postgresql").glob("*/bin/postgres")) and not shutil.which(
        "postgres"
    ):
        pytest.skip("no PostgreSQL: install postgresql")
    output = tmp_path_factory.mktemp("postgres") / "pg.rec"
    load = ("--clients", str(CLIENTS), "--transactions", str(TRANSACTIONS), "--scale", "1")
    words = [COMMAND, "record", "postgres", *load, "--buffers", "16MiB", "-o", str(output)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "tps" in done.stderr
    return look(output)


def test_every_process_is_recorded_to_its_end(seen: Any) -> None:
    assert seen["partial"] is None
    assert {stream["end"] for stream in seen["streams"]} == {"exit"}
    titles = [stream["title"] for stream in seen["streams"]]
    # One connection more: pgbench looks at its tables before it begins.
    backends = [title for title in titles if " ptshare [local]" in title]
    assert len(backends) == CLIENTS + 1
    assert any("checkpointer" in title for title in titles)


def test_buffers_are_shared_by_all(seen: Any) -> None:
    (buffers,) = [each for each in seen["common"] if each["bytes"] > 16 << 20 and each["shared"]]
    assert buffers["name"] == "anonymous memory"
    assert buffers["processes"] == len(seen["streams"])
    assert buffers["tables"] > buffers["merged"]
    assert len(buffers["addresses"]) == 1


def test_two_bytes_an_access_at_most(seen: Any) -> None:
    accesses = sum(s["loads"] + s["stores"] + s["modifies"] for s in seen["streams"])
    assert accesses > 1_000_000
    assert sum(stream["bytes"] for stream in seen["streams"]) < 2 * accesses
