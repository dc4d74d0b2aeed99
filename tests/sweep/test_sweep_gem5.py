"""Runs of gem5 in sweeps: with a stand-in for gem5.opt, and with a real one where there is one."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import fake_gem5
import pytest
from sweeps import (
    COMMAND,
    alive,
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

import ptshare_plugin
from ptshare_plugin.engines.gem5 import stats
from ptshare_plugin.engines.gem5.engine import Gem5Engine
from ptshare_plugin.records import dataset, frames
from ptshare_plugin.sweeps import worker as workers

LACK = Gem5Engine().missing()
SWEEP = """\
[base]
workload = "scan"
engine = "gem5"
preset = "gem5-x86"
region = "2MiB"
[axes]
policy = ["private", "ptshare"]
procs = [1, 2]
"""
KEEP = "[keep]\nm5out = true\n"


Hanging = tuple[subprocess.Popen[str], int, int]


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "tmp").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    return fake_gem5.installed(tmp_path / "bin", monkeypatch)


@pytest.fixture
def out(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path / "out"
    shutil.rmtree(tmp_path / "out", ignore_errors=True)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "sweep.toml"
    path.write_text(SWEEP)
    return path


def kept(out: Path) -> list[Path]:
    return [folder for folder in (out / "runs").iterdir() if (folder / "m5out").exists()]


def test_m5out_goes_with_the_run(file: Path, out: Path, fake: Path) -> None:
    assert report(file, out)["made"] == 4
    assert len(made(out)) == 4
    assert kept(out) == []
    assert list((out / "tmp").iterdir()) == []


def test_m5out_is_kept_where_that_is_asked_for(file: Path, out: Path, fake: Path) -> None:
    file.write_text(SWEEP + KEEP)
    found = report(file, out)
    assert (found["made"], found["without_m5out"]) == (4, 0)
    runs = sorted(kept(out))
    assert len(runs) == 4
    for folder in runs:
        names = {path.name for path in (folder / "m5out").iterdir()}
        assert names >= {"config.ini", "stats.txt", stats.RECORD, "simout.txt"}
        assert "files" not in names
        assert (folder / "m5out" / "simout.txt").read_text() == "gem5 is not here\n"
    # A run is read once, whoever reads.
    assert frames.find(out / "runs") == runs
    assert set(ptshare_plugin.load(out / "runs")["run"]) == {run.name for run in runs}
    assert dataset.gather([out / "runs"], out / "summary").total == 4
    assert frames.find(runs[0]) == [runs[0]]
    shown = subprocess.run(
        [COMMAND, "summary", out / "runs", "--format", "csv"], text=True, capture_output=True
    )
    assert len(shown.stdout.splitlines()) == 5, shown.stderr


def test_keeping_m5out_makes_no_other_run(file: Path, out: Path, fake: Path) -> None:
    file.write_text(SWEEP.replace("[1, 2]", "[1]"))
    report(file, out)
    first = made(out)
    file.write_text(SWEEP + KEEP)
    found = report(file, out)
    assert (found["before"], found["without_m5out"], found["made"]) == (2, 2, 2)
    assert made(out).items() >= first.items()
    assert {folder.name for folder in kept(out)} == made(out).keys() - first.keys()
    assert "4 were there, 2 of them without m5out" in sweep(file, out).stdout
    file.write_text(SWEEP)
    assert report(file, out)["without_m5out"] == 0
    assert len(kept(out)) == 2


def test_run_and_compare_keep_m5out(tmp_path: Path, fake: Path) -> None:
    def ptshare(*words: str) -> subprocess.CompletedProcess[str]:
        gem5 = ["scan", "--engine", "gem5", "--preset", "gem5-x86", "--region", "2MiB"]
        command = [str(COMMAND), words[0], *gem5, *words[1:]]
        return subprocess.run(command, text=True, capture_output=True)

    one, two, bare = tmp_path / "one", tmp_path / "two", tmp_path / "bare"
    done = ptshare("run", "-o", str(one), "--keep-m5out")
    assert done.returncode == 0, done.stderr
    assert (one / "m5out" / "config.ini").is_file()
    assert frames.find(one) == [one]
    assert ptshare("compare", "-o", str(two), "--keep-m5out").returncode == 0
    assert frames.find(two) == [two / "private", two / "ptshare"]
    assert all((folder / "m5out" / "stats.txt").is_file() for folder in frames.find(two))
    # Results of ptshare, which --force replaces.
    assert ptshare("compare", "-o", str(two), "--force").returncode == 0
    assert not any((folder / "m5out").exists() for folder in frames.find(two))
    assert ptshare("run", "-o", str(bare)).returncode == 0
    assert not (bare / "m5out").exists()
    ids = [json.loads((folder / "run.json").read_text())["run"] for folder in (one, bare)]
    assert ids[0] == ids[1]
    for wrong, told in (
        (("run", "--keep-m5out"), "--keep-m5out: needs -o DIR"),
        (("run", "--engine", "embedded", "--keep-m5out"), "--keep-m5out: is for --engine gem5"),
    ):
        done = ptshare(*wrong)
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr.startswith(f"ptshare: error: {told}")


def test_a_gem5_that_fails_leaves_no_run(file: Path, out: Path, fake: Path) -> None:
    file.write_text(SWEEP.replace("[1, 2]", "[1]") + f"seed = [1, {fake_gem5.CRASHING}]\n" + KEEP)
    done = sweep(file, out)
    assert done.returncode == 1
    assert len(made(out)) == len(kept(out)) == 2
    told = {record["reason"] for record in failures(out)}
    assert told == {"engine gem5: gem5.opt ended with status 1: panic: as it was told"}


@pytest.fixture
def hanging(file: Path, out: Path, fake: Path) -> Iterator[Hanging]:
    """A sweep whose one run does not end; the process that forked it, and gem5."""
    text = SWEEP.replace("[1, 2]", "[1]").replace('"private", ', "")
    file.write_text(text + f"seed = [{fake_gem5.FOR_EVER}]\n")
    client = started(file, out, "--workers", "1")
    try:
        until(lambda: list(out.glob("tmp/.*/ptshare-gem5-*/config.ini")))
        (gem5,) = serving(client.pid)
        (server,) = servers(client.pid)
        yield client, server, gem5
    finally:
        client.kill()
        client.communicate()


def test_gem5_ends_with_a_worker_that_is_killed(
    file: Path, out: Path, tmp_path: Path, hanging: Hanging
) -> None:
    client, server, gem5 = hanging
    worker = parent(server)
    nanny = parent(worker)
    # Both at once, so that neither can end what the other has started.
    for pid in (worker, server):
        os.kill(pid, signal.SIGSTOP)
    for pid in (client.pid, nanny, worker, server):
        os.kill(pid, signal.SIGKILL)
    until(lambda: not alive(gem5), 10)
    client.communicate()
    assert list((tmp_path / "tmp").glob("ptshare-gem5-*")) == []
    # What is left is removed by the next one.
    assert list((out / "tmp").iterdir()) != []
    file.write_text(SWEEP)
    assert report(file, out)["made"] == 4
    assert list((out / "tmp").iterdir()) == []


@pytest.mark.parametrize("who", ["client", "run"])
def test_gem5_ends_with_whoever_started_it(who: str, out: Path, hanging: Hanging) -> None:
    client, _, gem5 = hanging
    os.kill({"client": client.pid, "run": parent(gem5)}[who], signal.SIGKILL)
    until(lambda: not alive(gem5), 20)
    client.communicate(timeout=60)
    assert client.returncode == (-signal.SIGKILL if who == "client" else 1)
    told = [] if who == "client" else ["killed by SIGKILL"]
    assert [each["reason"] for each in failures(out)] == told


def test_a_run_whose_start_is_killed_each_time_fails(out: Path, hanging: Hanging) -> None:
    client, server, gem5 = hanging
    for _ in range(workers.TRIES):
        os.kill(server, signal.SIGKILL)
        until(lambda last=gem5: not alive(last), 20)
        until(lambda: client.poll() is not None or serving(client.pid), 20)
        if client.poll() is None:
            (server,) = servers(client.pid)
            (gem5,) = serving(client.pid)
    client.communicate(timeout=60)
    assert client.returncode == 1
    (record,) = failures(out)
    assert record["reason"] == f"the process that starts runs was killed {workers.TRIES} times"


def serving(client: int) -> list[int]:
    """Processes of gem5 that a sweep has."""
    return [pid for pid in below(client) if runs_as(pid, b"gem5.opt")]


def test_gem5_ends_with_a_command_that_is_killed(tmp_path: Path, fake: Path) -> None:
    words = ["run", "scan", "--engine", "gem5", "--seed", str(fake_gem5.FOR_EVER)]
    command = subprocess.Popen([COMMAND, *words])
    until(lambda: list((tmp_path / "tmp").glob("ptshare-gem5-*/config.ini")))
    (gem5,) = below(command.pid)
    command.kill()
    command.wait()
    until(lambda: not alive(gem5), 10)


def test_limits_hold_for_gem5(file: Path, out: Path, fake: Path) -> None:
    file.write_text(SWEEP + f"seed = [{fake_gem5.FOR_EVER}]\n[limits]\nseconds = 1\n")
    assert sweep(file, out).returncode == 1
    assert [each["reason"] for each in failures(out)] == ["took longer than limits.seconds = 1"] * 4
    assert list((out / "tmp").iterdir()) == []


def test_a_worker_without_gem5_is_named(file: Path, out: Path, fake: Path) -> None:
    from distributed import LocalCluster

    poor = {"PATH": "/usr/bin:/bin"}
    options = {"n_workers": 1, "threads_per_worker": 1, "dashboard_address": None}
    with LocalCluster(**options, env=poor) as cluster:
        done = sweep(file, out, "--dask", cluster.scheduler_address)
        (address,) = [worker.worker_address for worker in cluster.workers.values()]
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(
        f"ptshare: error: worker {address}: engine gem5: no gem5.opt on PATH"
    )
    assert len(done.stderr.splitlines()) == 1
    assert failures(out) == []


def test_a_worker_without_gem5_that_comes_later(file: Path, out: Path, fake: Path) -> None:
    from distributed import LocalCluster

    with LocalCluster(n_workers=0, dashboard_address=None, env={"PATH": "/usr/bin:/bin"}) as there:
        client = started(file, out, "--dask", there.scheduler_address)
        until(lambda: len(there.scheduler.tasks) == 4)
        there.scale(1)
        _, complaints = client.communicate(timeout=60)
    assert client.returncode == 1
    assert "engine gem5: no gem5.opt on PATH" in complaints
    assert len(complaints.splitlines()) == 1
    assert failures(out) == []


@pytest.mark.parametrize(
    ("preload", "told"),
    [
        ("import ptshare_plugin\nptshare_plugin.__version__ = '0.0.9'", "has ptshare 0.0.9, where"),
        ("import sys\nsys.modules['ptshare_plugin.sweeps.worker'] = None", "it needs ptshare"),
    ],
)
def test_a_worker_with_another_ptshare(
    preload: str, told: str, file: Path, out: Path, fake: Path, tmp_path: Path
) -> None:
    from distributed import LocalCluster

    script = tmp_path / "preload.py"
    script.write_text(preload)
    with LocalCluster(
        n_workers=1, threads_per_worker=1, dashboard_address=None, preload=str(script)
    ) as cluster:
        done = sweep(file, out, "--dask", cluster.scheduler_address)
    assert done.returncode == 1
    assert done.stderr.startswith("ptshare: error: worker tcp://")
    assert told in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert failures(out) == []


@pytest.mark.gem5
@pytest.mark.skipif(LACK is not None, reason=str(LACK))
def test_a_real_gem5(file: Path, out: Path) -> None:
    text = SWEEP.replace("[axes]", '"machine.gem5.cpu" = "timing"\nwork = 1\n[axes]')
    text = text.replace('"machine.gem5.cpu"', "machine.gem5.cpu")
    file.write_text(text + KEEP)
    assert report(file, out, "--workers", "2")["made"] == 4
    for folder in kept(out):
        inner, outer = frames.read(folder / "m5out"), frames.read(folder)
        assert inner.record["run"] == outer.record["run"] == folder.name
        same = [
            {key: value for key, value in zip(*columns, strict=True) if key[1][:5] != "host."}
            for loaded in (inner, outer)
            for columns in [
                (
                    zip(loaded.tidy["process"], loaded.tidy["metric"], strict=True),
                    loaded.tidy["value"],
                )
            ]
        ]
        assert same[0] == same[1] != {}
    assert len(kept(out)) == 4


@pytest.mark.gem5
@pytest.mark.skipif(LACK is not None, reason=str(LACK))
def test_a_real_gem5_ends_with_its_worker(file: Path, out: Path) -> None:
    text = SWEEP.replace("[1, 2]", "[1]").replace('"private", ', "")
    file.write_text(text.replace("[axes]", "work = 1000000\n[axes]"))
    client = started(file, out, "--workers", "1")
    until(lambda: list(out.glob("tmp/.*/ptshare-gem5-*/process0.out")))
    (gem5,) = [pid for pid in below(client.pid) if runs_as(pid, b"gem5.opt")]
    (server,) = servers(client.pid)
    for pid in (parent(parent(server)), parent(server), server):
        os.kill(pid, signal.SIGKILL)
    until(lambda: not alive(gem5), 10)
    client.kill()
    client.communicate()
