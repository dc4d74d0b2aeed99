import json
import multiprocessing
import os
import shutil
import tempfile
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pandas as pd
import pyarrow.dataset
import pytest

import ptshare_plugin
from ptshare_plugin.common.errors import UserError
from ptshare_plugin.machine.schema import KEYS
from ptshare_plugin.metrics import registry as metrics
from ptshare_plugin.records import dataset, folders, frames
from ptshare_plugin.records.run_folder import RUN_JSON, STATS, write
from ptshare_plugin.records.summary import summarise
from ptshare_plugin.runs.run import Run

MakeRun = Callable[..., Run]


def keep(run: Run, folder: Path) -> None:
    with folders.whole(folder, True) as place:
        write(run, place)


@pytest.fixture
def out(tmp_path: Path, make_run: MakeRun) -> Path:
    """Four runs as a sweep leaves them: two policies, two seeds."""
    for policy in ("private", "ptshare"):
        for seed in (1, 2):
            run = make_run(policy=policy, seed=seed, counts={"pt.region.pte_tables": 10 * seed})
            keep(run, tmp_path / "out" / "runs" / run.spec.run_id())
    return tmp_path / "out"


def runs(out: Path) -> list[Path]:
    return sorted((out / "runs").iterdir())


def gather(out: Path) -> dataset.Gathered:
    return dataset.gather([out], out / "summary")


def files(out: Path) -> dict[Path, int]:
    return {path: path.stat().st_ino for path in (out / "summary").rglob("*.parquet")}


def test_a_row_a_run_with_parameters_keys_and_metrics(out: Path) -> None:
    done = gather(out)
    assert (done.total, done.added, done.replaced, done.skipped) == (4, 4, 0, [])
    frame = ptshare_plugin.load(out / "summary")
    assert frame["run"].tolist() == [f"runs/{folder.name}" for folder in runs(out)]
    assert frame["run_id"].tolist() == [folder.name for folder in runs(out)]
    assert sorted(frame["policy"]) == ["private", "private", "ptshare", "ptshare"]
    assert set(frame["program_sha256"]) == {"ab" * 32} and set(frame["share"]) == {True}
    assert frame["work"].isna().all() and str(frame["work"].dtype) == "Int64"
    assert set(frame["failed"]) == {0}
    assert str(frame["pt.region.pte_tables"].dtype) == "Int64"
    assert frame["pt.region.pte_tables"].tolist() == (10 * frame["seed"]).tolist()
    assert "tlb.dtlb.miss_rate" in frame and dataset._STAMP not in frame
    for name in KEYS:
        assert frame[name].nunique() == 1, name


def test_figures_are_those_of_the_other_formats(out: Path) -> None:
    gather(out)
    frame = ptshare_plugin.load(out / "summary")
    wide = frames.wide([frames.read(folder) for folder in runs(out)])
    names = [name for name in wide.columns if name != "run"]
    assert [name for name in frame.columns if name in metrics.registry()] == [
        name for name in names if name in metrics.registry()
    ]
    pd.testing.assert_frame_equal(frame[names], wide[names], check_dtype=False)


def test_other_readers_of_partitioned_parquet_find_the_same(out: Path) -> None:
    gather(out)
    table = pyarrow.dataset.dataset(out / "summary", partitioning="hive").to_table()
    frame = ptshare_plugin.load(out / "summary")
    other = table.to_pandas().sort_values("run")
    assert other["policy"].astype(str).tolist() == frame["policy"].tolist()
    assert other["fault.total"].tolist() == frame["fault.total"].tolist()


def test_no_name_is_a_parameter_and_a_metric() -> None:
    # All are columns of one frame.
    names = [*dataset._COLUMNS, *KEYS, *metrics.registry()]
    assert len(names) == len(set(names))


def test_again_reads_nothing_and_writes_nothing(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gather(out)
    before = files(out)
    monkeypatch.setattr(frames, "read_whole", None)
    done = gather(out)
    assert (done.total, done.added) == (4, 0)
    assert files(out) == before


def test_what_is_new_is_appended(out: Path, make_run: MakeRun) -> None:
    gather(out)
    keep(make_run(seed=3), out / "runs" / "third")
    keep(make_run(policy="mshare"), out / "runs" / "other")
    done = gather(out)
    assert (done.total, done.added, done.replaced) == (6, 2, 0)
    frame = ptshare_plugin.load(out / "summary")
    assert len(frame) == 6 and frame["run"].is_unique
    assert sorted(frame["seed"]) == [1, 1, 2, 2, 3, 7]


def test_a_folder_twice_is_one_run(out: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(out)
    done = dataset.gather([out, tmp_path / "link", runs(out)[0]], out / "summary")
    assert done.total == done.added == 4


def test_a_run_done_again_replaces_its_row(out: Path, make_run: MakeRun) -> None:
    failed = runs(out)[0]
    gather(out)
    keep(make_run(policy="mshare", seed=9), failed)
    done = gather(out)
    assert (done.total, done.added, done.replaced) == (4, 1, 1)
    frame = ptshare_plugin.load(out / "summary").set_index("run")
    assert len(frame) == 4 and frame.loc[f"runs/{failed.name}", "seed"] == 9
    table = pyarrow.dataset.dataset(out / "summary", partitioning="hive").to_table()
    assert table.num_rows == 4


def test_files_are_filled_up_and_then_followed_by_others(
    out: Path, make_run: MakeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dataset, "PART_ROWS", 3)
    for seed in range(10, 18):
        keep(make_run(seed=seed), out / "runs" / str(seed))
        gather(out)
    place = out / "summary" / "policy=private"
    rows = [pyarrow.parquet.read_metadata(part).num_rows for part in sorted(place.iterdir())]
    assert rows == [3, 3, 3, 1]
    assert len(ptshare_plugin.load(out / "summary")) == 12
    shutil.rmtree(out / "summary")
    assert gather(out).total == 12 == len(ptshare_plugin.load(out / "summary"))


def truncate(folder: Path) -> None:
    os.truncate(folder / STATS, (folder / STATS).stat().st_size // 2)


def change(folder: Path, **values: object) -> None:
    record = json.loads((folder / RUN_JSON).read_text())
    (folder / RUN_JSON).write_text(json.dumps({**record, **values}))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (truncate, "stats.parquet: damaged or not readable as Parquet"),
        (lambda folder: (folder / STATS).unlink(), "stats.parquet: missing"),
        (lambda folder: (folder / RUN_JSON).unlink(), "run.json: no such file"),
        (lambda folder: (folder / RUN_JSON).write_text('{"sch'), "run.json: damaged: not JSON"),
        (lambda folder: change(folder, schema=9), "run.json: written in format 9"),
        (lambda folder: change(folder, config=None), "run.json: damaged: "),
        (lambda folder: change(folder, config={"mmu.pcids": "two"}), "damaged: Could not convert"),
        (lambda folder: change(folder, procs=[2]), "damaged: "),
        (lambda folder: change(folder, seed=-1), "damaged: "),
        (lambda folder: change(folder, policy=7), "damaged: "),
        (lambda folder: change(folder, run="x"), "belongs to another run"),
    ],
)
def test_a_damaged_folder_is_told_and_the_others_are_gathered(
    out: Path, damage: Callable[[Path], object], message: str
) -> None:
    victim = runs(out)[1]
    damage(victim)
    done = gather(out)
    assert (done.total, done.added) == (3, 3)
    (reason,) = done.skipped
    assert str(victim) in reason and message in reason and "\n" not in reason
    assert f"runs/{victim.name}" not in set(ptshare_plugin.load(out / "summary")["run"])


def test_keys_of_another_version_are_kept_as_text(out: Path) -> None:
    for folder, value in zip(runs(out), (3, "x", [1], None), strict=True):
        record = json.loads((folder / RUN_JSON).read_text())
        change(folder, config={**record["config"], "new.key": value})
    assert gather(out).skipped == []
    frame = ptshare_plugin.load(out / "summary")
    assert frame["new.key"].tolist() == ["3", '"x"', "[1]", "null"]


def test_columns_of_a_version_that_knew_fewer(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hidden = out / ".hidden"
    runs(out)[0].rename(hidden)
    kinds = dataset._kinds()
    fewer = {name: kind for name, kind in kinds.items() if name not in ("mmu.pcids", "pt.bytes")}
    monkeypatch.setattr(dataset, "_kinds", lambda: fewer)
    gather(out)
    for part in files(out):
        table = pyarrow.parquet.read_table(part, partitioning=None).drop_columns(
            ["mmu.pcids", "pt.bytes"]
        )
        pyarrow.parquet.write_table(table, part)
    monkeypatch.undo()
    hidden.rename(out / "runs" / "new")
    gather(out)
    frame = ptshare_plugin.load(out / "summary").set_index("run")
    assert frame["mmu.pcids"].notna().tolist() == [name == "runs/new" for name in frame.index]
    assert frame["pt.bytes"].notna().tolist() == [name == "runs/new" for name in frame.index]


def test_a_key_of_another_type_is_one_line(out: Path) -> None:
    gather(out)
    for part in files(out):
        table = pyarrow.parquet.read_table(part, partitioning=None)
        place = table.column_names.index("mmu.pcids")
        words = table["mmu.pcids"].cast(pyarrow.string())
        pyarrow.parquet.write_table(table.set_column(place, "mmu.pcids", words), part)
        break
    with pytest.raises(UserError, match="several versions; gather into a new folder"):
        ptshare_plugin.load(out / "summary")
    again = Path(shutil.copytree(runs(out)[0], out / "runs" / "again"))
    change(again, policy=part.parent.name.partition("=")[2])
    with pytest.raises(UserError, match="another version's; gather into a new folder"):
        gather(out)


def test_a_repaired_folder_is_gathered_later(out: Path, make_run: MakeRun) -> None:
    truncate(runs(out)[1])
    gather(out)
    keep(make_run(seed=5), runs(out)[1])
    done = gather(out)
    assert (done.total, done.added, done.skipped) == (4, 1, [])


@pytest.mark.parametrize("when", ["before it is looked at", "while it is read", "after"])
def test_a_folder_that_vanishes_is_told(
    out: Path, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    victim = runs(out)[2]
    read, find = frames.read_whole, frames.find

    def found(path: Path) -> list[Path]:
        places = find(path)
        shutil.rmtree(victim)
        return places

    def reading(folder: Path) -> tuple[dict[str, object], dict[str, float]]:
        if folder == victim and when != "after":
            shutil.rmtree(victim)
        result = read(folder)
        if folder == victim:
            shutil.rmtree(victim)
        return result

    if when.startswith("before"):
        monkeypatch.setattr(frames, "find", found)
    else:
        monkeypatch.setattr(frames, "read_whole", reading)
    done = gather(out)
    assert done.total == 3 and len(done.skipped) == 1 and str(victim) in done.skipped[0]


def test_a_gathered_run_stays_when_its_folder_goes(out: Path) -> None:
    gather(out)
    shutil.rmtree(runs(out)[0])
    assert gather(out).total == 4 == len(ptshare_plugin.load(out / "summary"))


def test_temporary_folders_are_passed_over(out: Path) -> None:
    runs(out)[0].rename(out / "runs" / ".abc.123.partial")
    done = gather(out)
    assert (done.total, done.skipped) == (3, [])


def test_a_killed_gathering_leaves_nothing_in_the_way(
    out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "replace", lambda *_: os._exit(9))
    killed = multiprocessing.get_context("fork").Process(target=gather, args=(out,))
    killed.start()
    killed.join(60)
    monkeypatch.undo()
    assert killed.exitcode == 9
    assert list(out.glob("summary/*/.*.partial"))
    with pytest.raises(UserError, match="a dataset without runs"):
        ptshare_plugin.load(out / "summary")
    assert gather(out).added == 4
    assert not list(out.glob("summary/*/.*.partial"))


def test_gatherings_at_once_take_turns(out: Path, make_run: MakeRun) -> None:
    for seed in range(30, 60):
        keep(make_run(procs=1, cores=1, seed=seed), out / "runs" / str(seed))
    context = multiprocessing.get_context("fork")
    # Each has runs of its own: without turns, one would write over what the others added.
    all_at_once = [
        context.Process(target=dataset.gather, args=(runs(out)[number::4], out / "summary"))
        for number in range(4)
    ]
    for one in all_at_once:
        one.start()
    for one in all_at_once:
        one.join(120)
    assert [one.exitcode for one in all_at_once] == [0] * 4
    table = pyarrow.dataset.dataset(out / "summary", partitioning="hive").to_table()
    assert sorted(table["run"].to_pylist()) == [f"runs/{folder.name}" for folder in runs(out)]


def test_what_the_command_says(out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = str(out / "summary")
    truncate(runs(out)[0])
    summarise([str(out)], "dataset", [], target)
    said = capsys.readouterr()
    assert said.out == f"{target}: 3 runs, 3 of them new, 0 read again, 1 skipped\n"
    assert said.err.startswith(f"ptshare: warning: {runs(out)[0]}/stats.parquet: damaged")
    assert said.err.endswith("; skipped\n") and said.err.count("\n") == 1


def test_wrong_targets_are_refused(out: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--format dataset needs -o DIR"):
        summarise([str(out)], "dataset", [], None)
    with pytest.raises(UserError, match="--metrics: a dataset holds every metric"):
        summarise([str(out)], "dataset", ["pt.*"], "x")
    with pytest.raises(UserError, match="holds something else than a dataset; name a new folder"):
        dataset.gather([out], out)
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="there is something else than a folder"):
        dataset.gather([out], tmp_path / "file")
    with pytest.raises(UserError, match="cannot be made: not a directory"):
        dataset.gather([out], tmp_path / "file" / "below")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="no run folder here"):
        dataset.gather([tmp_path / "empty"], tmp_path / "new")
    assert not (tmp_path / "new").exists()
    gather(out)
    with pytest.raises(
        UserError, match=r"summary: a dataset, no run folders; ptshare_plugin\.load"
    ):
        summarise([str(out / "summary")], "csv", [], None)


def test_damaged_datasets_are_named(out: Path) -> None:
    gather(out)
    part = out / "summary" / "policy=ptshare" / "part-00000.parquet"
    os.truncate(part, 100)
    for use in (ptshare_plugin.load, lambda _: gather(out)):
        with pytest.raises(UserError, match=r"part-00000\.parquet: damaged .*; remove it and"):
            use(out / "summary")
    part.unlink()
    assert gather(out).added == 2
    marker = out / "summary" / dataset.MARKER
    marker.write_text('{"schema": 2}')
    for use in (ptshare_plugin.load, lambda _: gather(out)):
        with pytest.raises(UserError, match="in format 2, this ptshare reads 1; gather into a new"):
            use(out / "summary")
    marker.write_text("[]")
    with pytest.raises(UserError, match="damaged: not the marker"):
        ptshare_plugin.load(out / "summary")


def test_nothing_readable_is_an_error(out: Path) -> None:
    for folder in runs(out):
        truncate(folder)
    with pytest.raises(UserError, match=r"no run could be read; .*stats\.parquet: damaged"):
        gather(out)


def test_a_csv_of_the_frame_gives_it_again(out: Path, make_run: MakeRun) -> None:
    keep(make_run(args=("--apart", "0"), work=7, counts={"walk.cycles": 1}), out / "runs" / "x")
    gather(out)
    frame = ptshare_plugin.load(out / "summary")
    frame.to_csv(out / "summary.csv", index=False)
    again = ptshare_plugin.load(out / "summary.csv")
    assert set(frame["args"]) == {"", "--apart 0"} and frame["work"].count() == 1
    pd.testing.assert_frame_equal(again, frame)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (None, "summary.csv: cannot be read: no such file"),
        ("", "summary.csv: no table of runs of ptshare: "),
        ("run,engine\n1,stream\n", "has no column policy"),
        ("run,procs\na,many\n", "no table of runs of ptshare: .*many"),
        ("run,procs\na\n", "no table of runs of ptshare: "),
    ],
)
def test_other_csv_files_are_refused(tmp_path: Path, content: str | None, told: str) -> None:
    path = tmp_path / "summary.csv"
    if content is not None:
        path.write_text(content)
    with pytest.raises(UserError, match=told):
        ptshare_plugin.load(path)


def test_the_command_is_one_that_can_be_typed(out: Path) -> None:
    record = json.loads((runs(out)[0] / RUN_JSON).read_text())
    record["command"] = ["/usr/bin/ptshare", "run", "./my program"]
    record["versions"]["gem5"] = "24.0.0.1"
    (runs(out)[0] / RUN_JSON).write_text(json.dumps(record))
    gather(out)
    row = ptshare_plugin.load(out / "summary").iloc[0]
    assert row["command"] == "ptshare run './my program'"
    assert row["gem5"] == "24.0.0.1"


def test_what_cannot_be_read_is_skipped_and_named(out: Path) -> None:
    # Root reads everything: another user gathers, from where it may write.
    root = os.geteuid() == 0
    import pyarrow.compute  # noqa: F401  # that user may not be able to

    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder, "out")
        shutil.copytree(out, place)
        for path in (Path(folder), place):
            path.chmod(0o777)
        first, second = runs(place)[:2]
        first.chmod(0)
        (second / RUN_JSON).chmod(0)
        context = multiprocessing.get_context("fork")
        nobody = {"initializer": os.setuid, "initargs": (65534,)} if root else {}
        with ProcessPoolExecutor(1, context, **nobody) as pool:
            done = pool.submit(gather, place).result()
            assert (done.total, done.added) == (2, 2)
            assert sorted(done.skipped) == [
                f"{path / RUN_JSON}: {reason}"
                for path, reason in (
                    (first, "permission denied"),
                    (second, "cannot be read: permission denied"),
                )
            ]
            with pytest.raises(UserError, match=f"{first}/{RUN_JSON}: cannot be read"):
                pool.submit(frames.load_tidy, place / "runs").result()
        first.chmod(0o700)
        assert gather(place).added == 2
