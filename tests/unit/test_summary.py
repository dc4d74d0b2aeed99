import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from rich.console import Console

import ptshare_plugin
from ptshare_plugin.common.errors import UserError
from ptshare_plugin.metrics import registry as metrics
from ptshare_plugin.records import folders, frames
from ptshare_plugin.records.run_folder import COLUMNS, OUTPUT, RUN_JSON, STATS, write
from ptshare_plugin.records.summary import KEY_METRICS, summarise
from ptshare_plugin.runs.run import Run
from ptshare_plugin.show import terminal
from ptshare_plugin.studies import compare

MakeRun = Callable[..., Run]


@pytest.fixture
def results(tmp_path: Path, make_run: MakeRun) -> Path:
    """Two runs as compare leaves them."""
    with folders.whole(tmp_path / "out", False) as place:
        for policy, tables_ in (("private", 32), ("ptshare", 8)):
            (place / policy).mkdir()
            write(make_run(policy=policy, counts={"pt.region.pte_tables": tables_}), place / policy)
    return tmp_path / "out"


def test_load_gives_the_tidy_frame(results: Path) -> None:
    tidy = ptshare_plugin.load(results)
    assert tuple(tidy.columns) == COLUMNS
    assert set(tidy["run"]) == {"private", "ptshare"}
    assert set(tidy["process"]) == {0, 1, metrics.ALL}
    row = tidy[(tidy.run == "ptshare") & (tidy.process == -1) & (tidy.metric == "fault.file")]
    assert row["value"].tolist() == [7.0]  # 3 and 4
    assert row["unit"].tolist() == ["count"] and row["component"].tolist() == ["kernel"]
    counts = tidy.groupby(["run", "process"], observed=True)["metric"].nunique()
    assert (counts == tidy.groupby(["run", "process"], observed=True).size()).all()
    one = ptshare_plugin.load(results / "private")
    assert set(one["run"]) == {"private"} and len(one) == (tidy.run == "private").sum()


def test_repeats_of_one_run_stay_apart(tmp_path: Path, make_run: MakeRun) -> None:
    for name in ("first", "second"):
        with folders.whole(tmp_path / name, False) as place:
            write(make_run(), place)
    tidy = ptshare_plugin.load(tmp_path)
    assert sorted(tidy["run"].unique()) == ["first", "second"]
    assert len(frames.wide([frames.read(folder) for folder in frames.find(tmp_path)])) == 2


def test_the_wide_frame_has_a_row_a_run(results: Path) -> None:
    wide = frames.wide([frames.read(folder) for folder in frames.find(results)])
    assert wide["policy"].tolist() == ["private", "ptshare"]
    assert wide["pt.region.pte_tables"].tolist() == [32, 8]
    assert str(wide["pt.region.pte_tables"].dtype) == "Int64"
    assert wide["procs"].tolist() == [2, 2] and wide["region_bytes"].tolist() == [4 << 20] * 2
    names = [name for name in wide.columns if name in metrics.registry()]
    assert names == [name for name in metrics.registry() if name in set(names)]
    assert "tlb.dtlb.miss_rate" in names and "roi.instructions" in names


def test_json_and_csv_and_parquet_hold_every_metric(
    results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    summarise([str(results)], "json", [], None)
    rows = json.loads(capsys.readouterr().out)
    assert [row["policy"] for row in rows] == ["private", "ptshare"]
    assert rows[1]["pt.region.pte_tables"] == 8 and rows[1]["work"] is None
    assert type(rows[0]["fault.total"]) is int and type(rows[0]["tlb.dtlb.miss_rate"]) is float
    summarise([str(results)], "csv", [], None)
    csv = pd.read_csv(io.StringIO(capsys.readouterr().out))
    summarise([str(results)], "parquet", [], str(tmp_path / "x.parquet"))
    parquet = pd.read_parquet(tmp_path / "x.parquet")
    assert list(csv.columns) == list(parquet.columns) == list(rows[0])
    assert (
        csv["fault.total"].tolist()
        == parquet["fault.total"].tolist()
        == [row["fault.total"] for row in rows]
    )


def test_a_metric_that_only_some_runs_have_is_null_in_the_others(
    tmp_path: Path, make_run: MakeRun, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, walks in (("a", 2), ("b", 0)):
        counts = {
            "walk.data": walks,
            "walk.fetch": 0,
            "walk.dirty_assists": 0,
            "walk.cycles": 30,
        }
        with folders.whole(tmp_path / name, False) as place:
            write(make_run(procs=1, counts=counts), place)
    summarise([str(tmp_path)], "json", ["walk.cycles_per_walk"], None)
    values = [row["walk.cycles_per_walk"] for row in json.loads(capsys.readouterr().out)]
    assert values == [15.0, None]


def test_chosen_metrics(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    summarise([str(results)], "json", ["pt.bytes*", "fault.total"], None)
    row = json.loads(capsys.readouterr().out)[0]
    assert [name for name in row if name in metrics.registry()] == [
        "fault.total",
        "pt.bytes",
        "pt.bytes.guest",
        "pt.bytes.host",
    ]
    with pytest.raises(UserError, match=r"no metric matches pt\.byte \(did you mean pt\.bytes"):
        summarise([str(results)], "json", ["pt.byte"], None)


def test_wrong_formats(results: Path) -> None:
    with pytest.raises(UserError, match="must be one of table, csv, json, parquet, markdown"):
        summarise([str(results)], "xml", [], None)
    with pytest.raises(UserError, match="parquet needs -o FILE"):
        summarise([str(results)], "parquet", [], None)
    with pytest.raises(UserError, match="cannot be written"):
        summarise([str(results)], "csv", [], str(results / "none" / "x.csv"))


@pytest.mark.parametrize("width", [60, 80, 120, 200])
def test_the_table_fits_and_holds_every_figure(
    results: Path, width: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.chdir(results.parent)
    summarise(["out"], "table", [], None)
    text = capsys.readouterr().out
    assert max(len(line) for line in text.splitlines()) <= width
    assert "\x1b" not in text
    assert text.count("out/private") == text.count("out/ptshare") >= 1
    for name in KEY_METRICS:
        assert "." + name.rsplit(".", 1)[1] in text


def test_the_engine_is_told_where_they_differ(
    results: Path, make_run: MakeRun, capsys: pytest.CaptureFixture[str]
) -> None:
    summarise([str(results)], "markdown", [], None)
    assert "| engine |" not in capsys.readouterr().out
    (results / "linux").mkdir()
    write(make_run(engine="linux"), results / "linux")
    summarise([str(results)], "markdown", [], None)
    assert "| linux | toy | private |" in capsys.readouterr().out


def test_markdown_is_one_table(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    summarise([str(results)], "markdown", [], None)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 4
    assert len({line.count("|") for line in lines}) == 1


def damage(results: Path, name: str, content: bytes | None) -> Path:
    path = results / "ptshare" / name
    if content is None:
        path.unlink()
    else:
        path.write_bytes(content)
    return path


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (RUN_JSON, None, "missing; the run folder is not whole"),
        (STATS, None, "missing; the run folder is not whole"),
        (RUN_JSON, b"{", "damaged: not JSON"),
        (RUN_JSON, b"\xff\xfe", "damaged: not JSON"),
        (RUN_JSON, b"[]", "damaged: not the record of a run"),
        (RUN_JSON, b'{"schema": 99}', "written in format 99, this ptshare reads 1"),
        (RUN_JSON, b'{"schema": 1}', "damaged: 'run' is missing or wrong"),
        (STATS, b"", "damaged or not readable as Parquet"),
        (STATS, b"PAR1junkPAR1", "damaged or not readable as Parquet"),
    ],
)
def test_a_damaged_folder_is_named(
    results: Path, name: str, content: bytes | None, message: str
) -> None:
    path = damage(results, name, content)
    with pytest.raises(UserError) as caught:
        ptshare_plugin.load(results)
    assert str(caught.value).startswith(f"{path}: {message}")
    assert "\n" not in str(caught.value)


def test_statistics_of_another_run_are_noticed(results: Path) -> None:
    shutil.copy(results / "private" / STATS, results / "ptshare" / STATS)
    with pytest.raises(UserError, match=r"belongs to another run than run\.json"):
        ptshare_plugin.load(results)


def test_other_columns_are_noticed(results: Path) -> None:
    pd.DataFrame({"a": [1]}).to_parquet(results / "ptshare" / STATS)
    with pytest.raises(UserError, match="damaged: columns are not run, engine"):
        ptshare_plugin.load(results)


def test_half_written_folders_are_left_out(results: Path) -> None:
    shutil.copytree(results / "private", results / ".private.123.partial")
    assert [folder.name for folder in frames.find(results)] == ["private", "ptshare"]


def test_nothing_to_read(tmp_path: Path, results: Path) -> None:
    (tmp_path / "empty").mkdir()
    for path, message in (
        (tmp_path / "none", "no such folder"),
        (tmp_path / "empty", "no run"),
        (results / "private" / OUTPUT, "not a folder"),
    ):
        with pytest.raises(UserError, match=message):
            ptshare_plugin.load(path)


def sections(runs: list[Run], width: int, roi: bool) -> str:
    file = io.StringIO()
    terminal.print_sections(
        Console(file=file, width=width),
        [run.spec.policy for run in runs],
        [run.wide() for run in runs],
        roi,
    )
    return file.getvalue()


@pytest.mark.parametrize("width", [60, 80, 120, 200])
def test_the_comparison_lines_up(make_run: MakeRun, width: int) -> None:
    runs = [
        make_run(policy="private", counts={"pt.bytes": 100 << 30, "fault.file": 10**9}),
        make_run(policy="ptshare", counts={"pt.bytes": 25 << 30, "fault.file": 1}),
    ]
    text = sections(runs, width, roi=True)
    assert max(len(line) for line in text.splitlines()) <= width
    figures = [line for line in text.splitlines() if line.startswith("pt.bytes ")]
    assert [line.split() for line in figures] == [
        ["pt.bytes", "100.0", "GiB", "25.0", "GiB", "-75.0", "%"]
    ]
    ends = {len(line.rstrip()) for line in text.splitlines() if line.rstrip().endswith("%")}
    assert len(ends) == 1  # one right edge over all sections


def test_the_region_of_interest_is_used_where_it_is_said(make_run: MakeRun) -> None:
    run = make_run(
        counts={"walk.data": 100, "roi.walk.data": 7, "fault.file": 50, "roi.fault.file": 8}
    )
    inside, whole = sections([run], 100, True), sections([run], 100, False)

    def row(text: str, name: str) -> str:
        (line,) = [line for line in text.splitlines() if line.startswith(name + " ")]
        return line.split()[1]

    assert row(inside, "walk.data") == "14" and row(whole, "walk.data") == "201"
    assert row(inside, "fault.file") == row(whole, "fault.file") == "101"
    assert "Page walks (region of interest)" in inside and "Page faults (whole run)" in inside
    assert "region of interest" not in whole


def test_equal_output_is_checked_rank_by_rank(make_run: MakeRun) -> None:
    same = [make_run(policy="private"), make_run(policy="ptshare")]
    assert compare.output_differs(same) is None
    other = make_run(policy="ptshare", outputs=[b"rank 0 ok\n", b"rank 1 wrong\n"])
    assert compare.output_differs([same[0], other]) == (
        "program output differs: rank 1 under private and under ptshare"
    )
    failed = make_run(policy="ptshare", statuses=[(0, 0), (1, 0)])
    assert compare.output_differs([same[0], failed]) is not None
