"""``ptshare sweep`` as a user starts it, and as a machine kills it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from compiler import compiled
from sweeps import (
    COMMAND,
    below,
    failures,
    made,
    parent,
    report,
    runs_as,
    servers,
    started,
    sweep,
    until,
)

from ptshare_plugin.sweeps import plan

SMALL = """\
[base]
workload = "scan"
engine = "stream"
region = "2MiB"
work = 1
[axes]
policy = ["private", "ptshare"]
procs = [1, 2]
[repeat]
seeds = 2
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "sweep.toml"
    path.write_text(SMALL)
    return path


@pytest.fixture
def slow(tmp_path: Path) -> Path:
    """Runs of about half a second."""
    path = tmp_path / "slow.toml"
    text = SMALL.replace("work = 1", "work = 100").replace('"2MiB"', '"16MiB"')
    path.write_text(text)
    return path


@pytest.fixture
def out(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path / "out"
    shutil.rmtree(tmp_path / "out", ignore_errors=True)


def test_a_sweep_is_made_once(file: Path, out: Path) -> None:
    listed = json.loads(sweep(file, out, "--dry-run", "--json").stdout)
    assert not out.exists()
    assert [row["state"] for row in listed] == ["to do"] * 8
    assert (found := report(file, out))["made"] == found["total"] == 8
    first = made(out)
    assert first.keys() == {row["run"] for row in listed}
    assert list((out / "tmp").iterdir()) == []
    assert (again := report(file, out))["made"] == 0
    assert again["before"] == 8
    assert made(out) == first
    file.write_text(SMALL.replace("[1, 2]", "[1, 2, 3]"))
    assert report(file, out)["made"] == 4
    assert made(out).items() > first.items()
    shown = sweep(file, out, "--dry-run").stdout
    assert shown.splitlines()[-1] == "12 runs"
    assert shown.count("made") == 12


def test_a_run_is_that_of_its_command(file: Path, out: Path, tmp_path: Path) -> None:
    report(file, out)
    folder = sorted((out / "runs").iterdir())[0]
    record = json.loads((folder / "run.json").read_text())
    assert record["run"] == folder.name
    words = record["command"]
    subprocess.run([COMMAND, *words[1:], "-o", tmp_path / "one"], check=True, capture_output=True)
    same = json.loads((tmp_path / "one" / "run.json").read_text())
    left_out = ("command", "started", "seconds")
    assert {key: value for key, value in same.items() if key not in left_out} == {
        key: value for key, value in record.items() if key not in left_out
    }


def test_a_killed_client_loses_and_repeats_nothing(slow: Path, out: Path) -> None:
    client = started(slow, out, "--workers", "2")
    until(lambda: (out / "runs").is_dir() and len(made(out)) >= 2)
    client.kill()
    client.communicate()
    first = made(out)
    assert 2 <= len(first) < 8
    found = report(slow, out)
    assert found["before"] + found["made"] == 8
    assert len(made(out)) == 8
    assert made(out).items() >= first.items()
    assert list((out / "tmp").iterdir()) == []


@pytest.mark.parametrize("who", ["worker", "server"])
def test_a_killed_worker_is_replaced(who: str, slow: Path, out: Path) -> None:
    client = started(slow, out, "--workers", "2")
    until(lambda: (out / "runs").is_dir() and len(made(out)) >= 1)
    first = made(out)
    started_by = servers(client.pid)[0]
    os.kill(parent(started_by) if who == "worker" else started_by, signal.SIGKILL)
    _, complaints = client.communicate(timeout=120)
    assert client.returncode == 0, complaints
    assert len(made(out)) == 8
    assert made(out).items() >= first.items()


@pytest.mark.parametrize("times", [1, 4])
def test_ctrl_c_ends_everything(times: int, slow: Path, out: Path) -> None:
    client = started(slow, out, "--workers", "2")
    until(lambda: (out / "runs").is_dir() and len(made(out)) >= 1)
    others = below(client.pid)
    for _ in range(times):
        os.killpg(client.pid, signal.SIGINT)  # as a terminal does
        time.sleep(0.05)
    _, complaints = client.communicate(timeout=60)
    assert client.returncode == 130
    assert complaints == "ptshare: error: interrupted\n"
    until(lambda: not any(runs_as(pid, b"ptshare") for pid in others), 10)
    first = made(out)
    assert report(slow, out)["before"] == len(first)
    assert made(out).items() >= first.items()


def test_two_sweeps_into_one_folder(slow: Path, file: Path, out: Path) -> None:
    client = started(slow, out)
    until(lambda: (out / "lock").exists() and list((out / "tmp").iterdir()))
    done = sweep(file, out)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"ptshare: error: -o {out}: another sweep is writing to it\n"
    client.communicate(timeout=120)
    assert client.returncode == 0
    assert len(made(out)) == 8


def test_a_failing_run_does_not_stop_the_others(tmp_path: Path, out: Path) -> None:
    compiled(
        tmp_path,
        "#include <stdio.h>\n#include <stdlib.h>\nint main(int n, char **v) {\n"
        'fprintf(stderr, "number %s\\n", v[1]); return atoi(v[1]); }\n',
    )
    file = tmp_path / "sweep.toml"
    file.write_text(
        "[base]\nprogram = './program'\nprocs = 1\n[axes]\nargs = [['0'], ['3'], ['00']]\n"
    )
    done = sweep(file, out)
    assert done.returncode == 1
    assert "3 runs: 2 made" in done.stdout
    assert done.stderr.splitlines()[-1] == f"ptshare: error: 1 runs failed: {out / 'failed'}"
    assert "Traceback" not in done.stderr
    assert len(made(out)) == 2
    (kept,) = (out / "failed").iterdir()
    record = json.loads(kept.read_text())
    assert record["reason"] == "program under ptshare: rank 0 exited with status 3"
    assert "rank 0: number 3" in record["output"]
    again = sweep(file, out)
    assert again.returncode == 1
    assert "0 made" in again.stdout
    assert "1 had failed before" in again.stdout
    written = kept.stat().st_mtime_ns
    assert "1 failed" in sweep(file, out, "--retry-failed").stdout
    assert kept.stat().st_mtime_ns > written


@pytest.mark.parametrize(
    ("limit", "reason"),
    [("seconds = 0.5", "took longer than"), ('memory = "20MiB"', "more than limits.memory")],
)
def test_limits(file: Path, out: Path, limit: str, reason: str) -> None:
    text = SMALL.replace("work = 1", "work = 100000000").replace("[1, 2]", "[1]")
    file.write_text(text.replace("seeds = 2", "seeds = 1") + f"[limits]\n{limit}\n")
    done = sweep(file, out)
    assert done.returncode == 1
    assert made(out) == {}
    records = failures(out)
    assert len(records) == 2
    assert all(reason in record["reason"] for record in records)


def test_a_scheduler_that_is_there(file: Path, out: Path) -> None:
    from distributed import LocalCluster

    with LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address=None) as cluster:
        address = cluster.scheduler_address
        assert report(file, out, "--dask", address)["made"] == 8
    assert len(made(out)) == 8
    shutil.rmtree(out / "runs")
    done = sweep(file, out, "--dask", address)
    assert done.stderr == f"ptshare: error: --dask {address}: no scheduler answers there\n"


def test_a_scheduler_that_is_killed(slow: Path, out: Path) -> None:
    place = ["--host", "127.0.0.1", "--port", "0", "--no-dashboard"]
    info = out.with_name("scheduler.json")
    dask = COMMAND.with_name("dask")
    scheduler = subprocess.Popen([dask, "scheduler", *place, "--scheduler-file", info])
    try:
        until(info.is_file)
        address = json.loads(info.read_text())["address"]
        one = ["--nthreads", "1", "--no-dashboard", "--death-timeout", "5"]
        with subprocess.Popen([dask, "worker", address, *one]) as worker:
            try:
                client = started(slow, out, "--dask", address)
                until(lambda: (out / "runs").is_dir() and len(made(out)) >= 1)
                scheduler.kill()
                _, complaints = client.communicate(timeout=60)
            finally:
                worker.terminate()
    finally:
        scheduler.kill()
        scheduler.wait()
    assert client.returncode == 1
    assert complaints.startswith("ptshare: error: the scheduler has ended or is out of reach; ")
    assert len(complaints.splitlines()) == 1
    first = made(out)
    assert report(slow, out)["before"] == len(first) >= 1
    assert made(out).items() >= first.items()


def test_damaged_folders_are_named(file: Path, out: Path) -> None:
    report(file, out)
    folders = sorted((out / "runs").iterdir())
    first = made(out)
    (folders[0] / "stats.parquet").unlink()
    (folders[1] / "output.txt").unlink()
    os.truncate(folders[2] / "stats.parquet", 1000)
    os.truncate(folders[3] / "stats.parquet", 0)
    os.truncate(folders[4] / "run.json", 100)
    shutil.copy(folders[6] / "run.json", folders[5] / "run.json")
    done = sweep(file, out)
    assert (done.returncode, done.stdout) == (1, "")
    told = [
        "stats.parquet: missing",
        "output.txt: missing",
        "stats.parquet: damaged: not a whole Parquet file",
        "stats.parquet: damaged: not a whole Parquet file",
        "run.json: damaged: not JSON",
        f"run.json: damaged: not the record of run {folders[5].name}",
    ]
    assert done.stderr.splitlines() == [
        f"ptshare: error: {folder}/{reason}; remove the folder {folder} to have the run made again"
        for folder, reason in zip(folders, told, strict=False)
    ]
    for folder in folders[:6]:
        shutil.rmtree(folder)
    assert report(file, out)["made"] == 6
    assert made(out).items() >= {(name, first[name]) for name in (f.name for f in folders[6:])}


def test_errors_of_a_file_are_lines(tmp_path: Path, out: Path) -> None:
    file = tmp_path / "sweep.toml"
    file.write_text(SMALL + "[limits]\nhours = 1\n[exclude]\nprocs = 7\n")
    done = sweep(file, out)
    assert done.returncode == 2
    assert [line.split(": ")[2] for line in done.stderr.splitlines()] == [
        f"{file}:12",
        f"{file}:13",
    ]
    assert not out.exists()


def test_ids_do_not_depend_on_the_folder(file: Path, tmp_path: Path) -> None:
    other = tmp_path / "elsewhere" / "copy.toml"
    other.parent.mkdir()
    shutil.copy(file, other)
    assert [p.run for p in plan.load(file).points] == [p.run for p in plan.load(other).points]
