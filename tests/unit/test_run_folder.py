import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from ptshare_plugin.common.errors import UserError
from ptshare_plugin.records import folders
from ptshare_plugin.records.run_folder import OUTPUT, RUN_JSON, STATS, write
from ptshare_plugin.runs.run import Run
from ptshare_plugin.spec.run import RunSpec

MakeRun = Callable[..., Run]


def hidden(folder: Path) -> list[str]:
    return [name for name in os.listdir(folder) if name.startswith(".")]


def keep(run: Run, target: Path, force: bool = False) -> None:
    with folders.whole(target, force) as place:
        write(run, place)


def test_a_run_folder_holds_what_was_run(tmp_path: Path, make_run: MakeRun) -> None:
    run = make_run(overrides=("mmu.pcids=0",))
    keep(run, tmp_path / "a" / "b")
    folder = tmp_path / "a" / "b"
    assert sorted(os.listdir(folder)) == [OUTPUT, RUN_JSON, STATS]
    record = json.loads((folder / RUN_JSON).read_text())
    assert record["config"]["cache.line_bytes"] == 64 and record["config"] == run.spec.parameters()
    assert record["program"]["sha256"] == "ab" * 32
    assert record["seed"] == 7 and record["overrides"] == ["mmu.pcids=0"]
    assert set(record["versions"]) == {"ptshare", "python", "unicorn"}
    assert record["seconds"] == 2.0 and record["started"].startswith("2026-01-01")
    assert record["processes"] == [
        {"pid": 100, "status": 0, "note": ""},
        {"pid": 101, "status": 0, "note": ""},
    ]
    assert (folder / OUTPUT).read_text() == "0: rank 0 ok\n1: rank 1 ok\n"
    assert hidden(folder.parent) == []


def test_nothing_is_there_before_the_end_nor_after_an_error(tmp_path: Path) -> None:
    target = tmp_path / "run"
    with pytest.raises(KeyboardInterrupt), folders.whole(target, False) as place:
        (place / RUN_JSON).write_text("{}")
        assert not target.exists()
        raise KeyboardInterrupt
    assert os.listdir(tmp_path) == []


def test_a_target_in_use_is_refused_before_the_run(tmp_path: Path, make_run: MakeRun) -> None:
    target = tmp_path / "run"
    keep(make_run(), target)
    with (
        pytest.raises(UserError, match=r"is not empty; choose another folder, or --force"),
        folders.whole(target, False),
    ):
        pytest.fail("the block must not start")
    (tmp_path / "file").touch()
    with (
        pytest.raises(UserError, match="there is a file of that name"),
        folders.whole(tmp_path / "file", True),
    ):
        pytest.fail("the block must not start")


def test_an_empty_target_is_used(tmp_path: Path, make_run: MakeRun) -> None:
    (tmp_path / "run").mkdir()
    keep(make_run(), tmp_path / "run")
    assert folders.is_run(tmp_path / "run")


def test_force_replaces_results_only_when_the_new_ones_are_whole(
    tmp_path: Path, make_run: MakeRun
) -> None:
    target = tmp_path / "run"
    keep(make_run(seed=1), target)
    with pytest.raises(ZeroDivisionError), folders.whole(target, True):
        raise ZeroDivisionError
    assert json.loads((target / RUN_JSON).read_text())["seed"] == 1
    keep(make_run(seed=2), target, force=True)
    assert json.loads((target / RUN_JSON).read_text())["seed"] == 2
    assert hidden(tmp_path) == []


def test_force_does_not_replace_other_things(tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "thesis.tex").touch()
    with (
        pytest.raises(UserError, match="holds something else than results"),
        folders.whole(tmp_path / "home", True),
    ):
        pytest.fail("the block must not start")
    assert (tmp_path / "home" / "thesis.tex").exists()


def test_a_folder_that_appears_meanwhile_is_kept(tmp_path: Path, make_run: MakeRun) -> None:
    target = tmp_path / "run"
    with pytest.raises(UserError, match="is not empty"), folders.whole(target, False) as place:
        write(make_run(), place)
        target.mkdir()
        (target / "other").touch()
    assert os.listdir(tmp_path) == ["run"] and os.listdir(target) == ["other"]


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with (
        pytest.raises(UserError, match="cannot be made: file exists"),
        folders.whole(tmp_path / "file" / "run", False),
    ):
        pytest.fail("the block must not start")


def test_stderr_is_marked(tmp_path: Path, make_run: MakeRun) -> None:
    run = make_run(outputs=[b"a\nb\n", b"\xff\n"])
    run.result.processes[1] = type(run.ranks[1])(101, 2, 0, b"\xff\n", b"oh\n", "")
    keep(run, tmp_path / "run")
    assert (tmp_path / "run" / OUTPUT).read_text() == "0: a\n0: b\n1: \\xff\n1 stderr: oh\n"


def test_the_run_id_is_the_hash_of_what_decides_the_result(
    make_spec: Callable[..., RunSpec],
) -> None:
    one = make_spec()
    assert one.run_id() == make_spec().run_id()
    assert one.run_id() == make_spec(preset="other", overrides=("x=1",)).run_id()
    changes: list[dict[str, object]] = [
        {"seed": 8},
        {"policy": "ptshare"},
        {"procs": 3},
        {"cores": 1},
        {"share": False},
        {"region": 8 << 20},
        {"work": 5},
        {"args": ("x",)},
    ]
    ids = {make_spec(**change).run_id() for change in changes}
    assert len(ids) == len(changes) and one.run_id() not in ids


def test_arguments_of_ranks(make_spec: Callable[..., RunSpec]) -> None:
    spec = make_spec(args=("--me", "{rank}/{procs}", "{seed}{region}", "{other}"), work=9)
    assert spec.argv(1) == [
        "toy",
        "--file",
        "/ptshare/region",
        "--size",
        "4194304",
        "--addr",
        "0x100000000000",
        "--share",
        "1",
        "--rank",
        "1",
        "--count",
        "2",
        "--seed",
        "7",
        "--work",
        "9",
        "--me",
        "1/2",
        "74194304",
        "{other}",
    ]
    assert make_spec(workload=None, args=("{rank}",)).argv(1) == ["toy", "1"]
    assert make_spec(share=False).argv(0)[8] == "0"
    assert spec.env(1) == ["PTSHARE_RANK=1", "PTSHARE_PROCS=2"]


def test_failures(make_run: MakeRun) -> None:
    assert make_run().failures() == []
    killed = make_run(statuses=[(0, 0), (0, 9)])
    assert [rank for rank, _ in killed.failures()] == [1]
    assert killed.ranks[1].status == -9
    assert killed.ranks[1].how == "was killed by SIGKILL"
    exited = make_run(statuses=[(3, 0), (0, 0)])
    assert [(rank, process.how) for rank, process in exited.failures()] == [
        (0, "exited with status 3")
    ]


def test_a_kill_that_the_workload_does_on_purpose(make_run: MakeRun) -> None:
    from dataclasses import replace

    workload = make_run().spec.workload
    assert workload is not None
    churn = replace(workload, expected_kill=True)
    assert make_run(statuses=[(0, 0), (0, 9)], workload=churn).failures() == []
    # Neither another rank's nor another signal.
    assert len(make_run(statuses=[(0, 9), (0, 9)], workload=churn).failures()) == 1
    assert len(make_run(statuses=[(0, 0), (0, 11)], workload=churn).failures()) == 1
