"""Does each figure of a whole run follow from its parts as its aggregation says?

The parts are figures of the processes, what these had at their marks, what they printed, and the
machine after every few instructions. Every metric of the registry is computed again from them; one
that no line here is about makes the last test fail.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import pytest
from embedded import execute

from ptshare_plugin.engines.result import MARK_BEGIN, MARK_END
from ptshare_plugin.metrics import registry as metrics
from ptshare_plugin.metrics import vocabulary
from ptshare_plugin.metrics.metric import AGGREGATIONS, Metric
from ptshare_plugin.metrics.registry import ALL
from ptshare_plugin.runs.run import Run

_core = pytest.importorskip("ptshare_plugin._core", reason="ptshare is not built")

MIB, GIB, PAGE = 1 << 20, 1 << 30, 4096
PROCS, CORES, REGION = 3, 2, 4 * MIB
CHUNKS = REGION // (2 * MIB)
STEP = 2000  # instructions
Values = Mapping[str, int | float]


@dataclass
class Seen:
    """A run, and the machine's figures after each step of it."""

    run: Run
    history: list[dict[str, Any]]

    @property
    def whole(self) -> Values:
        return self.run.values[ALL]

    @property
    def shared(self) -> bool:
        return self.run.spec.policy != "private"

    def of_ranks(self, name: str) -> list[int | float]:
        rows = self.run.result.statistics
        return [value for rank, row, value in rows if rank != ALL and row == name]

    def at_mark(self, mark: int, what: str) -> list[int]:
        """Of each started process, at its first begin mark or its last end mark."""
        found: dict[int, int] = {}
        for sample in self.run.result.samples:
            if sample.mark != mark or sample.process != 0:
                continue
            if mark == MARK_END or sample.rank not in found:
                found[sample.rank] = getattr(sample, what)
        return list(found.values())

    def printed(self, pattern: str) -> int:
        return len(re.findall(pattern, "\n".join(self.run.output_lines())))

    # Tables in use, pages of anonymous memory, and when the tables were most.
    def tables(self) -> list[int]:
        return [moment["pt.end.bytes"] for moment in self.history]

    def anonymous(self) -> list[int]:
        return [moment["frames.end"] - moment["pt.end.bytes"] // PAGE for moment in self.history]

    def peak(self) -> dict[str, Any]:
        return max(self.history, key=lambda moment: moment["pt.end.bytes"])  # the first

    def changes(self, sign: int) -> int:
        steps = itertools.pairwise([0, *self.tables()])
        return sum(max(0, sign * (after - before)) for before, after in steps) // PAGE


class Stepped:
    """A simulation that is made to stop more often than its engine asks."""

    def __init__(self, simulation: Any, history: list[dict[str, Any]]) -> None:
        self._simulation, self._history = simulation, history

    def __getattr__(self, name: str) -> Any:
        return getattr(self._simulation, name)

    def step(self, _: int) -> bool:
        done: bool = self._simulation.step(STEP)
        now = {name: value for rank, name, value in self.statistics() if rank == ALL}
        self._history.append({**now, "clock": self.cycles})
        return done


def observe(what: str, policy: str, **options: Any) -> Seen:
    history: list[dict[str, Any]] = []
    made = _core.Simulation
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_core, "Simulation", lambda *args: Stepped(made(*args), history))
        sizes: dict[str, Any] = {"procs": PROCS, "cores": CORES, "region": REGION}
        return Seen(execute(what, policy=policy, **sizes | options), history)


# All processes map the region, use all of it, and wait for each other before they leave.
@pytest.fixture(scope="module", params=["private", "ptshare"])
def together(request: pytest.FixtureRequest) -> Seen:
    five = ("mmu.levels=5",) if request.param == "ptshare" else ()
    return observe("protect", request.param, work=2, sets=five)


def guests(seen: Seen) -> int:
    """VmPTE counts a linked table for each that links it, and no PGD."""
    own = sum(seen.at_mark(MARK_END, "vm_pte_bytes")) + PROCS * PAGE
    return own - links(seen) * PAGE


def links(seen: Seen) -> int:
    return PROCS * CHUNKS if seen.shared else 0


def region_tables(seen: Seen) -> int:
    return CHUNKS if seen.shared else PROCS * CHUNKS


def region_pages_of_host(seen: Seen) -> int:
    return REGION // PAGE if seen.shared else 0


def flushed_ranges(seen: Seen) -> float:
    """One a flush; of the shared region, which rank 0 alone changes, one for each guest."""
    flushes = seen.of_ranks("shootdown.requests")
    of_region = seen.of_ranks("roi.shootdown.requests")[0] if seen.shared else 0
    return sum(flushes) + (PROCS - 1) * of_region


def at_peak(name: str) -> Callable[[Seen], float]:
    return lambda seen: seen.peak()[name]


MACHINE: dict[str, Callable[[Seen], float]] = {
    "pt.bytes": lambda seen: max(seen.tables()),
    "pt.bytes.guest": guests,
    "pt.bytes.host": lambda seen: max(seen.tables()) - guests(seen),
    **{f"pt.tables.{level}": at_peak(f"pt.tables.{level}") for level in vocabulary.PTE_LEVELS},
    "pt.end.bytes": lambda seen: seen.tables()[-1],
    "pt.region.pte_tables": region_tables,
    "pt.region.bytes": lambda seen: region_tables(seen) * PAGE,
    "pt.tables.allocated": lambda seen: seen.changes(1),
    "pt.tables.freed": lambda seen: seen.changes(-1),
    "pt.host_mms": lambda seen: int(seen.shared),
    "rss.file_pages.peak": lambda seen: (
        sum(seen.at_mark(MARK_END, "rss_file_bytes")) // PAGE + region_pages_of_host(seen)
    ),
    "rss.anon_pages.peak": lambda seen: max(seen.anonymous()),
    "frames.page_cache": lambda seen: seen.history[-1]["frames.page_cache"],
    "frames.end": lambda seen: seen.anonymous()[-1] + seen.tables()[-1] // PAGE,
    "share.links": links,
    "shootdown.invalidated_ranges": flushed_ranges,
    "cycles.makespan": lambda seen: max(moment["clock"] for moment in seen.history),
    "cycles.idle": lambda seen: (
        CORES * max(moment["clock"] for moment in seen.history) - spent(seen)
    ),
}


def spent(seen: Seen) -> float:
    return sum(sum(seen.of_ranks(f"cycles.{part}")) for part in vocabulary.CYCLE_STACK)


@pytest.mark.parametrize("name", MACHINE)
def test_a_figure_of_the_machine_is_that_of_its_parts(name: str, together: Seen) -> None:
    assert together.whole[name] == MACHINE[name](together)


def test_peaks_are_no_less_than_what_processes_had_at_marks(together: Seen) -> None:
    whole = together.whole
    for mark in (MARK_BEGIN, MARK_END):
        anonymous = sum(together.at_mark(mark, "rss_anon_bytes"))
        file_backed = sum(together.at_mark(mark, "rss_file_bytes"))
        assert 0 < anonymous <= whole["rss.anon_pages.peak"] * PAGE
        assert 0 < file_backed <= whole["rss.file_pages.peak"] * PAGE
    # At the end mark nothing has been left yet, and nothing comes any more.
    assert anonymous == whole["rss.anon_pages.peak"] * PAGE
    # Files are cached once, whoever maps them; those of the run are known.
    mapped = max(together.at_mark(MARK_END, "rss_file_bytes")) // PAGE
    cached = whole["frames.page_cache"]
    most = REGION // PAGE + 1 + -(-len(together.run.spec.program.image) // PAGE)
    assert mapped + region_pages_of_host(together) <= cached <= most


def test_figures_at_the_peak_are_all_of_one_moment(together: Seen) -> None:
    """They partition the tables of that moment, also while the peak still grows."""
    for moment in (*together.history, together.whole):
        tables = sum(moment[f"pt.tables.{level}"] for level in vocabulary.PTE_LEVELS)
        assert tables * PAGE == moment["pt.bytes.guest"] + moment["pt.bytes.host"]
        assert tables * PAGE == moment["pt.bytes"]
    hosts = 1 if together.shared else 0
    assert together.whole["pt.tables.pgd"] == PROCS + hosts
    assert together.whole["pt.tables.p4d"] == (PROCS + hosts if together.shared else 0)


def test_sums_and_peaks_of_the_machine_never_fall(together: Seen) -> None:
    for metric in metrics.registry().values():
        if metric.scope != "machine" or metric.formula or metric.name in NOT_HERE:
            continue
        values = [moment[metric.name] for moment in together.history]
        # A core that lags behind the first is idle until it is seen to have worked.
        if metric.aggregation in ("sum", "peak") and metric.name != "cycles.idle":
            assert values == sorted(values), metric.name
        assert values[-1] == together.whole[metric.name]


# ---- Of processes


def test_a_figure_of_all_processes_is_the_sum_of_theirs(together: Seen) -> None:
    for metric in metrics.registry().values():
        if (
            metric.scope == "process"
            and metric.aggregation == "sum"
            and metric.name not in NOT_HERE
        ):
            parts = marked(together).get(metric.name) or together.of_ranks(metric.name)
            assert len(parts) == PROCS
            assert together.whole[metric.name] == sum(parts), metric.name


def marked(seen: Seen) -> dict[str, list[int]]:
    """The rows of marks, from the samples."""
    return {
        f"vm.{what}.{name}": seen.at_mark(mark, f"{'vm_' if what == 'pte_bytes' else ''}{what}")
        for mark, name in ((MARK_BEGIN, "begin"), (MARK_END, "end"))
        for what in ("pte_bytes", "rss_anon_bytes", "rss_file_bytes")
    }


def computed(formula: str, values: Values) -> float | None:
    """Python's own arithmetic; None for what does not exist."""
    text = re.sub(r"[a-z][a-z0-9_.]*", lambda name: repr(values[name[0]]), formula)
    try:
        result: float = eval(text)
    except ZeroDivisionError:
        return None
    return result


def test_formulas_hold_for_each_process_and_over_the_sums(together: Seen) -> None:
    for metric in metrics.registry().values():
        if metric.formula is None:
            continue
        ranks = [ALL, *range(PROCS)] if metric.scope == "process" else [ALL]
        for values in map(together.run.values.__getitem__, ranks):
            assert values.get(metric.name) == computed(metric.formula, values), metric.name


# ---- Of the simulator

HOST: dict[str, Callable[[Seen], float]] = {
    "host.seconds": lambda seen: seen.run.result.seconds,
    "host.peak_rss_bytes": lambda seen: seen.run.result.peak_rss_bytes,
    "host.instructions_per_second": lambda seen: (
        sum(seen.of_ranks("instructions")) / seen.run.result.seconds
    ),
    "host.accesses_per_second": lambda seen: (
        sum(seen.of_ranks("access.reads") + seen.of_ranks("access.writes"))
        / seen.run.result.seconds
    ),
}


@pytest.mark.parametrize("name", HOST)
def test_a_figure_of_the_simulator(name: str, together: Seen) -> None:
    assert together.whole[name] == HOST[name](together) > 0


# ---- What seldom happens: a run for each, in which it does

REFUSED = {
    "anonymous": "anonymous",
    "private": "private",
    "misaligned": "unaligned|odd_size",
    "address": "other_address",
    "size": "other_length",
    "protection": "less_protection",
}
MAP, AGAIN = "m0.1024.3.0.0,w0.2.1", ",f,u0.1024,e,u0.1024,"
# In pages of the region: no multiple of 2 MiB; a child's unmap, twice; then an exit that leaks.
RFC_V2_CALLS = f"m1.512.3.0.0,{MAP}{AGAIN}{MAP}{AGAIN}{MAP}"
# A child gives its part back and has a page where a link would translate.
NO_ROOM_CALLS = f"{MAP},f,u0.1024,m1024.1.3.2.0,m0.1024.3.0.0,e"
PMD_TABLES = ("share.level=pmd",)

RUNS: dict[str, Callable[[], Seen]] = {
    "misuse": lambda: observe("misuse", "ptshare"),
    "preshare": lambda: observe("preshare", "ptshare", work=1),
    "rfc-v2": lambda: observe("calls", "rfc-v2", procs=1, args=("--calls", RFC_V2_CALLS)),
    "room": lambda: observe("protect", "ptshare", work=1, sets=PMD_TABLES),
    "no room": lambda: observe(
        "calls", "ptshare", args=("--calls", NO_ROOM_CALLS), sets=PMD_TABLES
    ),
}
# Metric: run, and how often.
SELDOM: dict[str, tuple[str, Callable[[Seen], float]]] = {
    **{
        f"share.refused.{reason}": (
            "misuse",
            lambda seen, calls=calls: seen.printed(rf"\b({calls})=E"),  # type: ignore[misc]
        )
        for reason, calls in REFUSED.items()
    },
    "share.refused.room": ("no room", lambda seen: PROCS),
    "share.carried_pages": ("preshare", lambda seen: REGION // PAGE // 2),
    "share.fell_back": ("rfc-v2", lambda seen: 1),
    "share.dangling_links": ("rfc-v2", lambda seen: 2),
    "share.room_bytes": ("room", lambda seen: PROCS * (GIB - REGION)),
}


@pytest.fixture(scope="module")
def run_of() -> Callable[[str], Seen]:
    made: dict[str, Seen] = {}

    def find(name: str) -> Seen:
        if name not in made:
            made[name] = RUNS[name]()
        return made[name]

    return find


@pytest.mark.parametrize("name", SELDOM)
def test_what_seldom_happens_is_summed_over_the_run(
    name: str, run_of: Callable[[str], Seen]
) -> None:
    run, parts = SELDOM[name]
    seen = run_of(run)
    assert [rank.status for rank in seen.run.ranks] == [0] * len(seen.run.ranks)
    assert seen.whole[name] == parts(seen) > 0


def test_what_is_left_at_the_end_was_allocated_and_not_freed(
    run_of: Callable[[str], Seen],
) -> None:
    for seen, tables in ((run_of("rfc-v2"), 4), (run_of("preshare"), 0)):
        whole = seen.whole
        assert whole["pt.tables.allocated"] - whole["pt.tables.freed"] == tables
        assert whole["pt.end.bytes"] == tables * PAGE == seen.tables()[-1]
        assert whole["frames.end"] == tables
        assert whole["pt.bytes"] >= max(seen.tables()) > tables * PAGE


# ---- All of them

NOT_HERE = {
    metric.name: "counted by real Linux alone: tests/linux"
    for metric in (*vocabulary.LINUX, *vocabulary.LINUX_MACHINE)
}


def how(metric: Metric) -> str | None:
    """Which of the above is about it."""
    if metric.formula or (metric.scope == "process" and metric.aggregation == "sum"):
        return "rule"
    return "parts" if metric.name in {*MACHINE, *HOST, *SELDOM} else NOT_HERE.get(metric.name)


def test_every_metric_says_how_it_comes_about_and_is_computed_again() -> None:
    known = metrics.registry()
    for metric in known.values():
        assert metric.aggregation in AGGREGATIONS, f"{metric.name} says no aggregation"
        assert how(metric), f"{metric.name}: nothing here computes it from its parts"
    assert {*MACHINE, *HOST, *SELDOM, *NOT_HERE} <= {*known}


def test_a_metric_that_nothing_computes_again_is_noticed() -> None:
    assert how(vocabulary.machine("pt.new", "pages", "page_tables", "peak", "New")) is None
