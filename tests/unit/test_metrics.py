from collections.abc import Callable
from pathlib import Path

import pytest

from ptshare_plugin.common.errors import UserError
from ptshare_plugin.engines.result import RunResult
from ptshare_plugin.metrics import registry as metrics
from ptshare_plugin.metrics import vocabulary
from ptshare_plugin.runs.run import Run, collect

ROOT = Path(__file__).parents[2]


def test_the_extension_module_agrees() -> None:
    core = pytest.importorskip("ptshare_plugin._core", reason="ptshare is not built")
    assert sorted(core.counter_names()) == sorted(metrics.raw_process_names())
    assert sorted(core.machine_metric_names()) == sorted(metrics.raw_machine_names())


def test_names_are_unique_and_complete() -> None:
    rows = [
        row[0]
        for table in (
            vocabulary.PROCESS,
            vocabulary.AT_MARKS,
            vocabulary.LINUX,
            vocabulary.MACHINE,
            vocabulary.LINUX_MACHINE,
            vocabulary.HOST,
        )
        for row in table
    ]
    rows += [row[0] for table in (vocabulary.DERIVED, vocabulary.DERIVED_MACHINE) for row in table]
    assert len(rows) == len(set(rows))
    per_process = len(vocabulary.PROCESS) + len(vocabulary.DERIVED)
    assert len(metrics.registry()) == len(rows) + per_process  # each of these has its roi. twin
    for metric in metrics.registry().values():
        assert metric.meaning and metric.unit and metric.component


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
