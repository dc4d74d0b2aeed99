"""The recipe of Redis: snapshots are forked while clients write, which then copy pages."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
from recordings import COMMAND, look

import ptshare_plugin as pt

REQUESTS, VALUES, SNAPSHOTS = 1000, 512, 2


@pytest.fixture(scope="module")
def folder(valgrind: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    if not shutil.which("redis-server"):
        pytest.skip("no redis-server: install it")
    output = tmp_path_factory.mktemp("redis") / "redis.rec"
    load = ("--clients", "2", "--requests", str(REQUESTS), "--snapshots", str(SNAPSHOTS))
    sizes = ("--data", f"{VALUES * 4}KiB", "--value", "4KiB")
    words = [COMMAND, "record", "redis", *load, *sizes, "-o", str(output)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return output


@pytest.fixture(scope="module")
def seen(folder: Path) -> Any:
    return look(folder)


def test_the_server_and_its_snapshots_are_recorded(seen: Any) -> None:
    assert seen["partial"] is None
    server, *snapshots = seen["streams"]
    assert server["end"] == "exit" and server["status"] == 0
    assert 1 <= len(snapshots) <= SNAPSHOTS
    for snapshot in snapshots:
        assert (snapshot["end"], snapshot["status"]) == ("exit", 0)
        assert snapshot["forked"] and snapshot["title"].startswith("redis-rdb-bgsave")
        assert snapshot["present_pages"] >= VALUES


def test_requests_are_counted_and_of_interest(seen: Any) -> None:
    work = seen["work"]
    assert (work["unit"], work["total"], work["roi"]) == ("request", REQUESTS, REQUESTS)
    assert [name for name, _ in seen["marks"]] == ["begin", "end"]


def test_a_snapshot_makes_writers_copy(folder: Path) -> None:
    done = pt.run(recording=folder, policy="private")
    server = done.by_process[0]
    # A server that is warm has nothing else to copy.
    assert server["roi.fault.cow"] > 20
    # MADV_FREE: Redis tries at its start whether the kernel has a bug of it.
    assert all(said.startswith("madvise 8 is left out: once") for said in done.run.result.remarks)


def test_ctrl_c_ends_it_all(valgrind: Path, tmp_path: Path) -> None:
    if not shutil.which("redis-server"):
        pytest.skip("no redis-server: install it")
    command = [COMMAND, "record", "redis", "--requests", "10000000", "--data", "2MiB"]
    with subprocess.Popen(
        [*command, "-o", tmp_path / "out"],
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as running:
        assert running.stderr is not None
        for line in running.stderr:
            if "redis-benchmark" in line:
                break
        time.sleep(1)
        os.killpg(running.pid, signal.SIGINT)  # as a terminal does: to the clients, too
        rest = running.stderr.read()
    assert running.returncode == 128 + signal.SIGINT
    assert "Traceback" not in rest and "processes" in rest
