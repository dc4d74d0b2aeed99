"""The recipe of PostgreSQL: its server is recorded, whole; what it shares is seen."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from recordings import COMMAND, look

import ptshare_plugin as pt
from ptshare_plugin.recording.recipes.postgres import Transaction, region
from ptshare_plugin.runs.options import Options

CLIENTS, TRANSACTIONS = 2, 10


@pytest.fixture(scope="module")
def folder(valgrind: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    if not list(Path("/usr/lib/postgresql").glob("*/bin/postgres")) and not shutil.which(
        "postgres"
    ):
        pytest.skip("no PostgreSQL: install postgresql")
    output = tmp_path_factory.mktemp("postgres") / "pg.rec"
    load = ("--clients", str(CLIENTS), "--transactions", str(TRANSACTIONS), "--scale", "1")
    # From when both are connected: on a busy machine one may be done before the other is warm.
    load += ("--warmup", "0", "--buffers", "16MiB", "--prewarm")
    words = [COMMAND, "record", "postgres", *load, "-o", str(output)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "tps" in done.stderr
    return output


@pytest.fixture(scope="module")
def seen(folder: Path) -> Any:
    return look(folder)


def test_every_process_is_recorded_to_its_end(seen: Any) -> None:
    assert seen["partial"] is None
    assert {stream["end"] for stream in seen["streams"]} == {"exit"}
    titles = [stream["title"] for stream in seen["streams"]]
    # Two connections more: pg_prewarm's, and pgbench's to look at its tables before it begins.
    backends = [title for title in titles if " ptshare [local]" in title]
    assert len(backends) == CLIENTS + 2
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


def test_transactions_are_counted_and_start_up_is_of_no_interest(folder: Path, seen: Any) -> None:
    work, all_of_them = seen["work"], CLIENTS * TRANSACTIONS
    assert (work["unit"], work["total"], work["roi"]) == ("transaction", all_of_them, all_of_them)
    done = pt.run(recording=folder, policy="private")
    assert 0 < done.metrics["roi.instructions"] < 0.5 * done.metrics["instructions"]
    reads = [process.get("roi.access.reads", 0) for process in done.by_process.values()]
    # The clients' backends at least: the one that warmed the buffers has ended.
    assert CLIENTS <= sum(read > 10_000 for read in reads) < len(reads) - 1


def test_copies_are_of_the_clients_alone(folder: Path, seen: Any) -> None:
    options = Options.of({"recording": str(folder), "procs": "x3"})
    assert options.spec().procs == len(seen["streams"]) + 2 * CLIENTS


def test_the_region_begins_when_the_slowest_is_warm() -> None:
    done = [Transaction(0, 1, 5, 10), Transaction(0, 2, 10, 20), Transaction(1, 1, 6, 30)]
    done.append(Transaction(1, 2, 30, 41))
    assert region(done, 0) == (5, 41)
    assert region(done, 1) == (30, 41)
