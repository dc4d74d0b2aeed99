from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ptshare_plugin.common.errors import UserError
from ptshare_plugin.engines.result import RunResult
from ptshare_plugin.metrics import derived, native, vocabulary
from ptshare_plugin.metrics import registry as metrics
from ptshare_plugin.metrics.metric import Metric, counted, machine
from ptshare_plugin.records import frames
from ptshare_plugin.records.run_folder import write
from ptshare_plugin.runs.run import Run, collect

ROOT = Path(__file__).parents[2]


def test_what_cpp_counts_is_what_the_vocabulary_has() -> None:
    core = pytest.importorskip("ptshare_plugin._core", reason="ptshare is not built")
    for counted_there, rows in (
        (core.counters(), vocabulary.PROCESS),
        (core.machine_metrics(), vocabulary.MACHINE),
    ):
        stated = [(metric.name, metric.unit, metric.meaning) for metric in rows]
        assert sorted(counted_there) == sorted(stated)
        assert len({name for name, _, _ in counted_there}) == len(counted_there)


def test_rows_of_cpp_are_current() -> None:
    path = "ptshare_plugin/native/accounting/metric_rows.inc"
    assert (ROOT / path).read_text() == native.rows(), (
        f"run: python -m ptshare_plugin.metrics.native > {path}"
    )


def test_names_are_unique_and_complete() -> None:
    rows = [
        metric.name
        for table in (
            vocabulary.PROCESS,
            vocabulary.AT_MARKS,
            vocabulary.LINUX,
            vocabulary.MACHINE,
            vocabulary.LINUX_MACHINE,
            vocabulary.HOST,
            derived.DERIVED,
            derived.DERIVED_MACHINE,
        )
        for metric in table
    ]
    assert len(rows) == len(set(rows))
    per_process = len(vocabulary.PROCESS) + len(derived.DERIVED)
    assert len(metrics.registry()) == len(rows) + per_process  # each of these has its roi. twin
    for metric in metrics.registry().values():
        assert metric.meaning and metric.unit and metric.component


def test_a_table_holds_one_scope() -> None:
    for scope, tables in {
        "process": (vocabulary.PROCESS, vocabulary.AT_MARKS, vocabulary.LINUX, derived.DERIVED),
        "machine": (vocabulary.MACHINE, vocabulary.LINUX_MACHINE, derived.DERIVED_MACHINE),
        "host": (vocabulary.HOST,),
    }.items():
        assert {metric.scope for table in tables for metric in table} == {scope}


@pytest.mark.parametrize(
    ("name", "aggregation"),
    [
        ("pt.bytes", "peak"),
        ("pt.tables.pmd", "at peak"),
        ("pt.bytes.host", "at peak"),
        ("pt.region.pte_tables", "peak"),
        ("pt.region.bytes", "peak"),
        ("pt.end.bytes", "end"),
        ("share.links", "sum"),
        ("cycles.makespan", "end"),
        ("fault.file", "sum"),
        ("roi.fault.file", "sum"),
        ("roi.fault.total", "formula"),
        ("host.peak_rss_bytes", "peak"),
    ],
)
def test_aggregations(name: str, aggregation: str) -> None:
    assert metrics.get(name).aggregation == aggregation


def test_a_row_that_contradicts_itself_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^a\.b: no unit metres: count, cycles, bytes,"):
        counted("a.b", "metres", "core", "Way")
    with pytest.raises(ValueError, match=r"^a\.b: no aggregation mean of a machine"):
        machine("a.b", "count", "core", "mean", "Way")
    with pytest.raises(ValueError, match=r"^a\.b: no aggregation peak of a process"):
        Metric("a.b", "count", "core", "process", "peak", "Way")
    with pytest.raises(ValueError, match=r"^a\.b: a formula and the aggregation formula"):
        Metric("a.b", "count", "core", "machine", "peak", "Way", "c + d")


def test_whole_numbers_are_told_by_unit_and_quotient() -> None:
    whole = {name: metric.whole for name, metric in metrics.registry().items()}
    assert whole["fault.total"] and whole["pt.bytes"] and whole["host.peak_rss_bytes"]
    for name in ("tlb.dtlb.miss_rate", "walk.cycles_per_walk", "walk.per_1000_instructions"):
        assert not whole[name] and not whole["roi." + name]
    assert not whole["time.user"] and not whole["host.accesses_per_second"]


@pytest.fixture
def added(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Two metrics more: one of processes, one of the machine."""
    process = counted("fault.new", "count", "kernel", "Faults of a new kind")
    of_machine = machine("pt.new", "pages", "page_tables", "at peak", "Tables of a new kind")
    monkeypatch.setattr(vocabulary, "PROCESS", [*vocabulary.PROCESS, process])
    monkeypatch.setattr(vocabulary, "MACHINE", [*vocabulary.MACHINE, of_machine])
    metrics.registry.cache_clear()
    yield
    monkeypatch.undo()
    metrics.registry.cache_clear()


@pytest.mark.usefixtures("added")
def test_an_added_metric_is_in_the_documentation_and_for_cpp() -> None:
    text = metrics.document().splitlines()
    assert "| `fault.new` | count | kernel | sum | Faults of a new kind |" in text
    assert "| `pt.new` | pages | page_tables | at peak | Tables of a new kind |" in text
    rows = native.rows().splitlines()
    assert '{"fault.new", "count", "Faults of a new kind"},' in rows
    assert '{"pt.new", "pages", "Tables of a new kind"},' in rows


@pytest.mark.usefixtures("added")
def test_an_added_metric_is_in_frames(make_run: Callable[..., Run], tmp_path: Path) -> None:
    run = make_run(procs=3, counts={"fault.new": 10, "pt.new": 7})
    (tmp_path / "run").mkdir()
    write(run, tmp_path / "run")
    loaded = frames.read(tmp_path / "run")
    tidy = loaded.tidy.set_index(["metric", "process"])
    # Added up over processes; of the machine as it is, and no process has it.
    assert [tidy.loc[("fault.new", index), "value"] for index in (0, 1, 2)] == [10, 11, 12]
    assert tidy.loc[("fault.new", metrics.ALL), "value"] == 33
    assert tidy.loc[("roi.fault.new", metrics.ALL), "value"] == 3
    assert tidy.loc["pt.new", ["value", "unit", "component"]].values.tolist() == [
        [7, "pages", "page_tables"]
    ]
    wide = frames.wide([loaded], ["*.new"])
    assert wide[["fault.new", "roi.fault.new", "pt.new"]].iloc[0].tolist() == [33, 3, 7]
    assert wide["pt.new"].dtype == "Int64"


def test_a_metric_of_the_machine_is_not_taken_for_a_process() -> None:
    with pytest.raises(UserError, match=r"the engine gives pt\.bytes for one process"):
        collect(RunResult([], [(0, "pt.bytes", 1)], 1.0, 0))


def test_every_formula_uses_known_names_of_its_own_scope() -> None:
    for metric in metrics.registry().values():
        for name in metrics.names_in(metric.formula) if metric.formula else []:
            assert metrics.get(name).scope == metric.scope, metric.name
            assert name.startswith("roi.") == metric.name.startswith("roi."), metric.name


def test_formulas() -> None:
    values = {
        "walk.data": 30,
        "walk.fetch": 10,
        "walk.dirty_assists": 10,
        "walk.cycles": 125,
        "instructions": 2000,
        "tlb.dtlb.accesses": 8,
        "tlb.dtlb.misses": 2,
    }
    found = metrics.with_derived(values, "process")
    assert found["walk.count"] == 40
    assert found["walk.cycles_per_walk"] == 2.5
    assert found["walk.per_1000_instructions"] == 20
    assert found["tlb.dtlb.miss_rate"] == 0.25
    assert "cycles.total" not in found  # its parts were not measured: absent, not zero


def test_sums_of_kinds_levels_and_places() -> None:
    values = {name: 2 ** (i % 7) for i, name in enumerate(metrics.raw_process_names())}
    found = metrics.with_derived(values, "process")
    matrix = {
        (level, place): values[f"walk.reads.{level}.{place}"]
        for level in vocabulary.PTE_LEVELS
        for place in vocabulary.PLACES
    }
    assert found["walk.reads"] == sum(matrix.values())
    assert found["walk.reads.pmd"] == sum(matrix["pmd", place] for place in vocabulary.PLACES)
    assert found["walk.reads.dram"] == sum(matrix[level, "dram"] for level in vocabulary.PTE_LEVELS)
    brought = [name for name in values if name.endswith(".other")]
    assert len(brought) == 15
    assert found["walk.reads.other"] == sum(values[name] for name in brought)
    kinds = [
        name
        for name in values
        if name.startswith("fault.") and ".region." not in name and name != "fault.around_pages"
    ]
    assert found["fault.total"] == sum(values[name] for name in kinds)
    stack = [name for name in values if name.startswith("cycles.")]
    assert found["cycles.total"] == sum(values[name] for name in stack)


def test_the_roi_twin_is_the_same_formula_over_roi_names() -> None:
    metric = metrics.get("roi.walk.per_1000_instructions")
    assert metric.formula == "1000 * roi.walk.count / roi.instructions"
    found = metrics.with_derived({"roi.walk.data": 3, "roi.walk.fetch": 1}, "process")
    assert found["roi.walk.count"] == 4 and "walk.count" not in found


def test_a_quotient_by_zero_does_not_exist() -> None:
    assert metrics.evaluate("a.b / c", {"a.b": 1, "c": 0}) is None
    assert metrics.evaluate("a.b / c", {"a.b": 1}) is None
    assert metrics.evaluate("2 * (a.b - c) / c", {"a.b": 5, "c": 2}) == 3


@pytest.mark.parametrize("formula", ["f(x)", "x ** 2", "[x]", "x if y else z"])
def test_a_formula_holds_arithmetic_only(formula: str) -> None:
    with pytest.raises(ValueError, match="is not allowed"):
        metrics.evaluate(formula, {"x": 1, "y": 1, "z": 1})


def test_an_unknown_name_is_refused_with_the_nearest() -> None:
    with pytest.raises(UserError, match=r"unknown metric fault\.totl \(did you mean fault\.total"):
        metrics.get("fault.totl")
    with pytest.raises(UserError, match=r"no metric matches tlb\.dtlb\.mises \(did you mean"):
        metrics.select(["tlb.dtlb.mises"])


def test_select_takes_globs_and_keeps_order() -> None:
    assert metrics.select(["pt.bytes.*", "fault.total"]) == [
        "fault.total",
        "pt.bytes.guest",
        "pt.bytes.host",
    ]
    assert metrics.select(["fault.*"], ["fault.total", "pt.bytes"]) == ["fault.total"]


def test_sums_over_processes_and_machine_values(make_run: Callable[..., Run]) -> None:
    run = make_run(procs=3, counts={"fault.file": 10, "pt.bytes": 4096})
    whole = run.values[metrics.ALL]
    assert [run.values[i]["fault.file"] for i in range(3)] == [10, 11, 12]
    assert whole["fault.file"] == 33
    assert whole["pt.bytes"] == 4096
    assert whole["pt.tables"] == 25  # five levels of 5
    assert whole["host.seconds"] == 2.0
    assert "pt.bytes" not in run.values[0]


def test_ratios_of_all_processes_are_of_the_sums() -> None:
    statistics: list[tuple[int, str, int | float]] = [
        (0, "tlb.dtlb.accesses", 100),
        (0, "tlb.dtlb.misses", 50),
        (1, "tlb.dtlb.accesses", 900),
        (1, "tlb.dtlb.misses", 0),
    ]
    values = collect(RunResult([], statistics, 1.0, 0))
    assert values[metrics.ALL]["tlb.dtlb.miss_rate"] == 0.05


def test_an_unknown_counter_of_an_engine_is_refused() -> None:
    with pytest.raises(UserError, match=r"the engine counts fault\.new"):
        collect(RunResult([], [(0, "fault.new", 1)], 1.0, 0))


def test_the_documentation_is_current() -> None:
    assert (ROOT / "docs/metrics.md").read_text() == metrics.document(), (
        "run: python -m ptshare_plugin.metrics.registry > docs/metrics.md"
    )
