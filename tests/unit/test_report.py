"""What a report's figures show, against the frame that they are made of."""

from __future__ import annotations

import itertools
import shlex
import subprocess
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from ptshare_plugin import policies
from ptshare_plugin.common import units
from ptshare_plugin.common.errors import UserError
from ptshare_plugin.machine import config
from ptshare_plugin.metrics import registry as metrics
from ptshare_plugin.metrics.vocabulary import CACHES, CYCLE_STACK, PLACES, PTE_LEVELS
from ptshare_plugin.records import analysis, dataset
from ptshare_plugin.records.run_folder import write
from ptshare_plugin.report import (
    commands,
    draw,
    figures,
    flips,
    groups,
    inputs,
    page,
    table,
    values,
    ways,
)
from ptshare_plugin.report.figures import LATENCY
from ptshare_plugin.report.model import Lines, Point, Series
from ptshare_plugin.runs.run import Run
from ptshare_plugin.show import plots

MakeRun = Callable[..., Run]
Keep = Callable[..., Path]


@pytest.fixture
def keep(tmp_path: Path, make_run: MakeRun) -> Keep:
    """Write a run to a folder of its own below ``out``."""
    number = itertools.count()

    def make(**changes: object) -> Path:
        folder = tmp_path / "out" / "runs" / f"{next(number):03}"
        folder.mkdir(parents=True)
        overrides = changes.pop("overrides", ())
        assert isinstance(overrides, tuple)
        machine = config.load(str(changes.get("preset", "server")), overrides)
        write(make_run(**{"config": machine, "overrides": overrides, **changes}), folder)
        return folder

    return make


@pytest.fixture
def out(tmp_path: Path, keep: Keep) -> Path:
    """Two policies, 1 to 4 processes on as many cores, two seeds: counts that differ in each."""
    for policy, procs, seed in itertools.product(("private", "ptshare"), (1, 2, 4), (1, 2)):
        base = 100 * procs + 10 * seed + (policy == "private")
        counts = {name: base + 7 * i for i, name in enumerate(metrics.raw_process_names())}
        counts |= {f"roi.{name}": value // 2 for name, value in counts.items()}
        counts |= {"pt.bytes": 4096 * base, "pt.bytes.host": 4096 * seed * (policy == "ptshare")}
        keep(policy=policy, procs=procs, cores=procs, seed=seed, counts=counts)
    return tmp_path / "out"


def read(out: Path) -> pd.DataFrame:
    frame = inputs.read([str(out)]).runs
    assert frame is not None
    return frame


def mean(frame: pd.DataFrame, name: str, policy: str, procs: int) -> float:
    rows = frame[(frame["policy"] == policy) & (frame["procs"] == procs)]
    assert len(rows) == 2
    return float(rows[name].astype(float).mean())


# Groups -----------------------------------------------------------------------------------------


def test_nothing_but_what_a_figure_shows_varies_in_a_group(keep: Keep, tmp_path: Path) -> None:
    axes: list[tuple[str, list[object]]] = [
        ("policy", ["private", "ptshare"]),
        ("procs", [1, 2]),
        ("seed", [1, 2]),
        ("region", [2 << 20, 4 << 20]),
        ("overrides", [(), ("mmu.pcids=0",)]),
        ("args", [(), ("--x",)]),
    ]
    for point in itertools.product(*(choices for _, choices in axes)):
        keep(**dict(zip([name for name, _ in axes], point, strict=True)))
    frame = read(tmp_path / "out")
    divided = groups.divide(frame)
    assert len(divided) == 8 and sum(len(group.frame) for group in divided) == len(frame) == 64
    assert len({group.heading for group in divided}) == 8
    for group in divided:
        assert set(analysis.axes(group.frame)) == {"policy", "procs", "seed"}
    assert {group.differs["mmu.pcids"] for group in divided} == {"0", "6"}


@pytest.mark.parametrize(
    "other",
    [
        {"engine": "stream"},
        {"work": 5},
        {"share": False},
        {"preset": "gem5-x86"},
        {"args": ("-q",)},
        {"overrides": ("cost.signal=1",)},
    ],
)
def test_runs_that_differ_in_one_thing_are_never_averaged(
    keep: Keep, tmp_path: Path, other: dict[str, object]
) -> None:
    keep(seed=1)
    keep(seed=2, **other)  # with another seed: a careless mean would take it for a repeat
    divided = groups.divide(read(tmp_path / "out"))
    assert [len(group.frame) for group in divided] == [1, 1]
    for group in divided:
        assert all(
            point.n == 1 for each in values.series(group, "walk.cycles") for point in each.points
        )


def test_runs_of_different_versions_are_different_groups(out: Path) -> None:
    frame = read(out)
    frame.loc[frame["seed"] == 2, "ptshare"] = "0.0.9"
    divided = groups.divide(frame)
    assert [group.differs for group in divided] == [{"ptshare": "0.0.9"}, {"ptshare": "0.1.0"}]
    assert [set(group.frame["seed"]) for group in divided] == [{2}, {1}]


def test_cores_that_follow_processes_are_said_and_others_make_groups(out: Path, keep: Keep) -> None:
    (group,) = groups.divide(read(out))
    assert group.cores == "as many cores as processes" and group.by[-1] == "cores"
    keep(policy="private", procs=4, cores=1, seed=1)
    divided = groups.divide(read(out))
    assert [group.cores for group in divided] == ["1 core", "2 cores", "4 cores"]
    for group in divided:
        assert group.frame.groupby("procs")["cores"].nunique().max() == 1


def test_failed_runs_are_in_no_figure_but_in_the_table(keep: Keep, tmp_path: Path) -> None:
    keep(seed=1, counts={"pt.bytes": 4096})
    keep(seed=2, counts={"pt.bytes": 8192}, statuses=[(1, 0), (0, 0)])
    frame = read(tmp_path / "out")
    (group,) = groups.divide(frame)
    assert group.failed == 1
    (series,) = values.series(group, "pt.bytes")
    assert [(point.value, point.n) for point in series.points] == [(4096, 1)]
    assert table.of(frame).failed == [False, True]


def test_one_result_counts_once(out: Path, keep: Keep, tmp_path: Path) -> None:
    dataset.gather([out], tmp_path / "out" / "summary")
    twice = inputs.read([str(out), str(out / "summary")])
    assert twice.runs is not None and len(twice.runs) == 12 and len(twice.again) == 12
    keep(policy="private", procs=1, cores=1, seed=1)  # other figures: another build
    found = inputs.read([str(out)])
    assert found.runs is not None and len(found.runs) == 12
    assert found.unlike == [str(out / "runs" / "012")] and found.again == []


def test_repeats_on_real_linux_are_measurements(
    keep: Keep, tmp_path: Path, make_run: MakeRun
) -> None:
    for number in (1, 2):
        folder = keep(engine="linux", counts={"pt.bytes": number})
        text = (folder / "run.json").read_text()
        (folder / "run.json").write_text(text.replace("2026-01-01T00", f"2026-01-01T0{number}"))
    frame = read(tmp_path / "out")
    (group,) = groups.divide(frame)
    assert values.series(group, "pt.bytes")[0].points[0].n == 2


# Figures ----------------------------------------------------------------------------------------


def test_lines_are_means_with_intervals_over_seeds(out: Path) -> None:
    frame = read(out)
    (group,) = groups.divide(frame)
    shown = {figure.name: figure for figure in figures.of(group)[0]}
    checked = 0
    names = {
        "g1-memory": ["pt.bytes"],
        "g1-walks": ["roi.walk.cycles", "roi.walk.cycles_per_walk"],
    }
    for figure, quantities in names.items():
        for name, panel in zip(quantities, shown[figure].lines, strict=True):
            for series in panel.series:
                if series.dashed:
                    continue
                for point in series.points:
                    assert point.value == pytest.approx(mean(frame, name, series.label, point.x))
                    rows = frame[(frame["policy"] == series.label) & (frame["procs"] == point.x)]
                    half = 12.706204736 * float(rows[name].astype(float).std()) / 2**0.5
                    assert point.low == pytest.approx(point.value - half)
                    assert point.high == pytest.approx(point.value + half)
                    assert point.n == 2
                    checked += 1
    assert checked == 3 * 2 * 3


def test_shared_memory_is_a_line_of_those_that_share(out: Path) -> None:
    (group,) = groups.divide(read(out))
    figure = figures.memory(group)
    assert not isinstance(figure, str)
    assert [(s.label, s.dashed) for s in figure.lines[0].series] == [
        ("private", False),
        ("ptshare", False),
        ("ptshare, shared", True),
    ]
    assert {point.value for point in figure.lines[0].series[2].points} == {4096 * 1.5}


def test_stacks_are_means_of_a_process(out: Path) -> None:
    frame = read(out)
    (group,) = groups.divide(frame)
    for make, total in ((figures.faults, "fault.total"), (figures.cycles, "roi.cycles.total")):
        figure = make(group)
        assert not isinstance(figure, str)
        assert [panel.title for panel in figure.bars] == ["private", "ptshare"]
        for panel in figure.bars:
            assert panel.bars == (1, 2, 4)
            for procs, stacked in zip(panel.bars, panel.values, strict=True):
                whole = mean(frame, total, panel.title, procs) / procs
                assert sum(stacked) == pytest.approx(whole)
                for part, value in zip(figure.parts, stacked, strict=True):
                    name = f"{total.rpartition('.')[0]}.{part.label}"
                    assert value == pytest.approx(mean(frame, name, panel.title, procs) / procs)
    assert len(figures.cycles(group).parts) == len(CYCLE_STACK)  # type: ignore[union-attr]


def test_reads_by_level_and_place_and_whose_lines(keep: Keep, tmp_path: Path) -> None:
    counts = {}
    for i, level in enumerate(PTE_LEVELS[:2]):
        for j, place in enumerate(PLACES):
            counts[f"roi.walk.reads.{level}.{place}"] = 100 + 10 * i + j
            if place in CACHES:
                counts[f"roi.walk.reads.{level}.{place}.other"] = 20 + j
    for level in PTE_LEVELS[2:]:
        counts |= {f"roi.walk.reads.{level}.{place}": 0 for place in PLACES}
        counts |= {f"roi.walk.reads.{level}.{place}.other": 0 for place in CACHES}
    keep(counts=counts)
    (group,) = groups.divide(read(tmp_path / "out"))
    figure = figures.reads(group)
    assert not isinstance(figure, str)
    assert [panel.row for panel in figure.bars] == ["PTE", "PMD"]
    assert figure.bars[0].values == ((80, 20, 80, 21, 80, 22, 103),)
    assert figure.bars[1].values == ((90, 20, 90, 21, 90, 22, 113),)
    assert [part.hatched for part in figure.parts] == [False, True, False, True, False, True, False]


def test_latencies_are_shares_of_all_walks(out: Path) -> None:
    frame = read(out)
    (group,) = groups.divide(frame)
    figure = figures.latency(group)
    assert not isinstance(figure, str)
    names = [name for name in metrics.registry() if name.startswith(f"roi.{LATENCY}")]
    assert len(names) > 5
    assert [panel.title for panel in figure.steps] == ["1 process", "2 processes", "4 processes"]
    for panel, procs in zip(figure.steps, (1, 2, 4), strict=True):
        assert panel.edges == tuple(int(name.rpartition("_")[2]) for name in names)
        for policy, _, shares in panel.series:
            assert sum(shares) == pytest.approx(1)
            counts = [mean(frame, name, policy, procs) for name in names]
            assert shares == pytest.approx([count / sum(counts) for count in counts])


def test_figures_without_data_are_left_out_with_a_reason(out: Path) -> None:
    frame = read(out)
    gone = [name for name in frame.columns if "walk." in name or "fault." in name]
    (group,) = groups.divide(frame.drop(columns=gone))
    made, missing = figures.of(group)
    assert [figure.name for figure in made] == ["g1-memory", "g1-cycles"]
    assert [line.partition(":")[0] for line in missing] == [
        "Faults by kind",
        "Walk cycles",
        "Entries read by walks",
        "Walk latency",
    ]


def test_runs_without_latencies_beside_others_are_counted_as_left_out(out: Path) -> None:
    frame = read(out)
    lacking = frame["seed"] == 2
    names = [name for name in frame.columns if LATENCY in name]
    frame[names] = frame[names].mask(lacking)
    (group,) = groups.divide(frame)
    figure = figures.latency(group)
    assert not isinstance(figure, str)
    assert "6 runs do not have it and are left out." in figure.notes


def test_headline_compares_with_private(out: Path) -> None:
    frame = read(out)
    (group,) = groups.divide(frame)
    found = figures.headline(group)
    assert found is not None
    caption, heading, rows = found
    assert caption == "With 4 processes" and heading[:2] == ["policy", "pt.bytes"]
    base, value = (mean(frame, "pt.bytes", policy, 4) for policy in ("private", "ptshare"))
    assert rows[0][1] == (units.short_size(base), "")
    assert rows[1][1] == (units.short_size(value), units.change(base, value))


def test_many_groups_are_capped_and_named(out: Path) -> None:
    one = read(out)
    many = pd.concat(
        [one.assign(**{"cost.signal": i, "run": one["run"] + str(i)}) for i in range(20)],
        ignore_index=True,
    )
    content = page.compute(["out"], inputs.Inputs(runs=many))
    assert len(content.sections) == page.MOST_GROUPS
    assert len(content.left_out) == 20 - page.MOST_GROUPS
    assert content.runs is not None and len(content.runs.rows) == len(many)


# Shootdowns and ways ----------------------------------------------------------------------------


def test_cost_of_a_change_by_strategy(out: Path) -> None:
    frame = read(out).assign(program="protect")
    both = pd.concat(
        [
            frame.assign(**{"shootdown.strategy": "lazy"}),
            frame.assign(
                **{
                    "shootdown.strategy": "sharers",
                    "roi.cycles.shootdown": 3 * frame["roi.cycles.shootdown"],
                    "run": frame["run"] + "-sharers",
                }
            ),
        ],
        ignore_index=True,
    )
    (figure,), reason = flips.of(both)
    assert reason == "" and [panel.title for panel in figure.lines] == ["private", "ptshare"]
    for panel in figure.lines:
        lazy, sharers = panel.series
        assert (lazy.label, sharers.label) == ("lazy", "sharers")
        for cheap, dear in zip(lazy.points, sharers.points, strict=True):
            rows = frame[(frame["policy"] == panel.title) & (frame["procs"] == cheap.x)]
            each = rows["roi.cycles.shootdown"].astype(float) / rows["roi.shootdown.requests"]
            assert cheap.value == pytest.approx(float(each.mean()))
            assert dear.value == pytest.approx(3 * cheap.value)
    assert flips.of(frame)[0] == [] and "does not vary" in flips.of(frame)[1]
    assert flips.of(frame.assign(program="scan")) == ([], "no runs of workload protect")


def test_strategies_of_different_machines_are_different_figures(out: Path) -> None:
    frame = read(out).assign(program="protect")
    parts = [
        frame.assign(
            **{"shootdown.strategy": how, "mmu.pcids": pcids, "run": frame["run"] + f"{how}{pcids}"}
        )
        for how in ("lazy", "sharers")
        for pcids in (0, 6)
    ]
    made, _ = flips.of(pd.concat(parts, ignore_index=True))
    assert len(made) == 2 and all(len(panel.series) == 2 for f in made for panel in f.lines)


def test_crossings_in_words() -> None:
    def said(less: list[bool], procs: list[int] | None = None) -> str:
        return ways.crossing(procs or [2, 8, 9], less, "A", "B")

    assert said([False, False, False]) == "A does not beat B at 9 processes"
    assert said([True, False, False]) == "A does not beat B at 9 processes"
    assert said([False, False, True]) == "A beats B from 9 processes on"
    assert said([True, True, True]).endswith("at every measured number, from 2 processes on")
    assert "between 2 (not yet) and 8" in said([False, True, True])
    assert "between 4 (not yet) and 8" in said([True, False, True], [2, 4, 8])


def ways_frame() -> pd.DataFrame:
    rows = []
    for direction in ("read-only", "read-write"):
        for way, policy in (("shared", "ptshare"), ("message", "private"), ("trap", "private")):
            for procs in (2, 8, 32):
                work = {"shared": 20.0, "message": 3.0 * procs, "trap": 2.0 * procs}[way]
                never = way == "trap" and direction == "read-only"
                rows.append(
                    {
                        **{"direction": direction, "way": way, "policy": policy, "procs": procs},
                        **{"cores": 4, "region_bytes": 4 << 20, "piece_bytes": 65536},
                        **{"work_us": work, "hold_us": None if never else work / 2},
                        "adopted": 1 if never else procs,
                    }
                )
    return pd.DataFrame(rows)


def test_ways_are_drawn_by_direction_and_their_crossing_is_said(tmp_path: Path) -> None:
    path = tmp_path / "ways.csv"
    ways_frame().to_csv(path, index=False)
    found = inputs.read([str(path)])
    assert found.runs is None
    (figure,) = ways.of(found.ways[0], 1)
    first = figure.lines[0]
    assert first.title == "To read-only: work of all cores"
    assert [series.label for series in first.series] == ["shared, ptshare", "message, private"]
    assert [point.value for point in first.series[1].points] == [6, 24, 96]
    last = figure.lines[-1]
    assert [series.label for series in last.series][-1] == "trap, private"
    assert [point.value for point in last.series[-1].points] == [2, 8, 32]
    text = " ".join(figure.notes)
    assert "cannot be compared, trap (private) does not reach all processes" in text
    assert (
        "To read-only, work of all cores: shared (ptshare) begins to beat message (private) "
        "between 2 (not yet) and 8 processes" in text
    )
    assert figure.command == (
        "ptshare protect-ways --procs 2,8,32 --cores 4 --region 4MiB --piece 64KiB "
        "--ways shared,message,trap --policy ptshare,private -o ways.csv"
    )


def test_a_file_of_two_machines_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "ways.parquet"
    pd.concat([ways_frame(), ways_frame()]).to_parquet(path)
    with pytest.raises(UserError, match="two rows for read-only, shared, ptshare, 2 processes"):
        inputs.read([str(path)])


# The table, differences, commands ---------------------------------------------------------------


def test_table_has_every_run_with_its_change_against_private(out: Path) -> None:
    frame = read(out)
    made = table.of(frame)
    names = [name for name, _ in made.heading]
    assert [row[0].text for row in made.rows] == frame["run"].tolist()
    assert {"policy", "procs", "cores", "seed", "pt.bytes"} <= set(names)
    for row, (_, run) in zip(made.rows, frame.iterrows(), strict=True):
        cell = row[names.index("pt.bytes")]
        assert float(cell.sort) == run["pt.bytes"]
        if run["policy"] == "private":
            assert cell.saving == ""
            continue
        same = (frame["procs"] == run["procs"]) & (frame["seed"] == run["seed"])
        base = frame[same & (frame["policy"] == "private")]["pt.bytes"].iloc[0]
        assert cell.saving.replace("\u2212", "-") == f"{100 * (run['pt.bytes'] / base - 1):+.1f} %"


def test_no_baseline_no_saving(out: Path) -> None:
    frame = read(out)
    frame.loc[frame["policy"] == "private", "mmu.pcids"] = 0
    assert {cell.saving for row in table.of(frame).rows for cell in row} == {""}


def test_differences_and_what_is_common(out: Path) -> None:
    varying, common = groups.differences(read(out))
    assert varying["policy"] == [("private", 6), ("ptshare", 6)]
    assert varying["procs"] == [("1", 4), ("2", 4), ("4", 4)]
    assert set(varying) == {"policy", "procs", "cores", "seed"}
    assert common["region_bytes"] == "4MiB" and common["mmu.pcids"] == "6"


def shell(text: str) -> list[str]:
    """What ``text`` would run, with a ``ptshare`` that writes its words."""
    script = "ptshare() { printf '%q ' ptshare \"$@\"; echo; }\n" + text
    done = subprocess.run(["bash", "-c", script], text=True, capture_output=True, check=True)
    return [shlex.join(shlex.split(line)) for line in done.stdout.splitlines()]


def test_commands_become_a_loop_that_runs_them_all() -> None:
    every = [
        shlex.join(
            [
                "ptshare",
                "run",
                "scan",
                "--policy",
                policy,
                "--procs",
                str(procs),
                "--set",
                f"mmu.pcids={pcids}",
                "--",
                "--say",
                "it's $HOME",
            ]
        )
        for policy in ("private", "ptshare")
        for procs in (1, 2)
        for pcids in (0, 6)
    ]
    made = commands.compress([*every, None, every[0]])
    assert made is not None and made.runs_all and list(made.every) == every
    assert sorted(shell(made.short)) == sorted(every)
    assert len(made.short.splitlines()) == 7


def test_commands_without_a_common_pattern_are_listed() -> None:
    every = [
        "ptshare run scan --policy private --procs 1 -o a",
        "ptshare run scan --policy ptshare --procs 2 -o b",
    ]
    made = commands.compress(every)
    assert made is not None and not made.runs_all and list(made.every) == every
    assert "POLICY: private, ptshare" in made.short and "-o" not in made.short
    one = commands.compress(["ptshare compare scan --vary a.b=1,2 --vary c.d=3,4 --force -o x"])
    assert one is not None and one.runs_all
    assert one.short == "ptshare compare scan --vary a.b=1,2 --vary c.d=3,4"
    assert commands.compress([None, float("nan")]) is None  # type: ignore[list-item]


# Drawing ----------------------------------------------------------------------------------------


def test_policies_keep_their_colours_and_no_two_colours_are_alike() -> None:
    for dark in (False, True):
        known = [plots.colours()[f"policy-{name}"][dark] for name in policies.names()]
        assert len(set(known)) == len(known) == 6
    light = [pair[0] for pair in plots.colours().values()]
    assert len(set(light)) == len(light)  # a page tells them apart by their light values


def test_drawn_twice_it_is_the_same_and_all_colours_are_variables() -> None:
    points = tuple(Point(x, 10.0 * x, 9.0 * x, 11.0 * x, 3) for x in (1, 2, 4))
    panel = Lines(
        "<b>", "bytes & more", "bytes", (Series("private", points, plots.policy("private")),)
    )
    figure = page.Figure("f1", "A <title>", [], lines=[panel])
    text = draw.inline(figure)
    assert text == draw.inline(figure)
    assert "#6e6e6e" not in text and "var(--policy-private)" in text
    assert 'aria-label="A &lt;title&gt;' in text and "http" not in text and "<metadata" not in text
    assert all(part.startswith("f1-") for part in _between(text, ' id="', '"'))


def _between(text: str, before: str, after: str) -> list[str]:
    return [part.partition(after)[0] for part in text.split(before)[1:]]
