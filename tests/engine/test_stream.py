"""The stream front-end against the programs: what they count must be equal."""

from __future__ import annotations

import pytest
from embedded import execute, totals

from ptshare_plugin import _core
from ptshare_plugin.common.errors import UserError
from ptshare_plugin.engines import stream
from ptshare_plugin.runs.options import Options
from ptshare_plugin.spec import workloads

FAULTS = ("link", "host", "file", "anon", "cow", "write_protect", "spurious", "segv", "bus")
EXACT = (
    *(f"roi.fault.{kind}" for kind in FAULTS),
    "roi.fault.around_pages",
    "roi.syscall.count",
    "roi.shootdown.requests",
    "roi.walk.data",
    "roi.walk.faulted",
    "roi.walk.dirty_assists",
    "roi.tlb.dtlb.misses",
    "roi.tlb.stlb.misses",
    "share.links",
)
AROUND_OFF = ("kernel.fault_around_bytes=4KiB",)


@pytest.mark.parametrize("policy", ["private", "ptshare"])
@pytest.mark.parametrize(
    ("workload", "work"),
    [
        ("random", 60_000),
        ("zipf", 40_000),
        ("scan", 2),
        ("protect", 4),
        ("pingpong", 6),
        ("churn", 3),
    ],
)
@pytest.mark.parametrize("region", [2 << 20, 16 << 20])
@pytest.mark.parametrize("sets", [(), AROUND_OFF])
def test_one_process_counts_what_the_program_does(
    workload: str, work: int, policy: str, region: int, sets: tuple[str, ...]
) -> None:
    found = [
        totals(execute(workload, engine=engine, policy=policy, work=work, region=region, sets=sets))
        for engine in ("embedded", "stream")
    ]
    # The second level serves fetches too, which find it empty after a flush of all.
    found[0]["roi.tlb.stlb.misses"] -= found[0]["roi.walk.fetch"]
    program, stream = ({name: values[name] for name in EXACT} for values in found)
    assert program["roi.walk.data"] > 0
    assert stream == program
    assert found[1]["vm.pte_bytes.end"] == found[0]["vm.pte_bytes.end"]


@pytest.mark.parametrize(
    ("workload", "work"),
    [
        ("random", 20_000),
        ("zipf", 20_000),
        ("scan", 2),
        ("protect", 4),
        ("pingpong", 8),
        ("churn", 3),
    ],
)
@pytest.mark.parametrize("cores", [1, 4])
def test_many_processes_take_the_same_faults(workload: str, work: int, cores: int) -> None:
    def values(engine: str, policy: str) -> dict[str, int]:
        done = execute(
            workload,
            engine=engine,
            policy=policy,
            procs=4,
            cores=cores,
            work=work,
            sets=AROUND_OFF,
        )
        return totals(done)

    private = [values(engine, "private") for engine in ("embedded", "stream")]
    assert private[0]["roi.fault.region.page"] > 0
    for name in ("roi.fault.file", "roi.fault.region.page", "vm.pte_bytes.end"):
        assert private[1][name] == private[0][name]
    shared = [values(engine, "ptshare") for engine in ("embedded", "stream")]
    for name in ("roi.fault.host", "share.links"):
        assert shared[1][name] == shared[0][name]


def test_the_last_rank_of_churn_is_killed_as_its_program_is() -> None:
    done = execute("churn", engine="stream", procs=3, work=2)
    assert [result.signal for result in done.ranks] == [0, 0, 9]


def test_the_owner_of_a_shared_range_goes_when_all_have_used_it() -> None:
    done = totals(execute("zipf", engine="stream", policy="mshare", procs=20, cores=4, work=500))
    assert done["roi.fault.segv"] == 0
    assert done["share.links"] == 20


def test_more_processes_than_cores_have_one_result() -> None:
    first, second = (
        totals(execute("zipf", engine="stream", procs=200, cores=3, work=500)) for _ in range(2)
    )
    assert first == second
    assert first["share.links"] == 200 * 2
    assert first["sched.switches"] > 200


@pytest.mark.parametrize(
    ("workload", "args", "text"),
    [
        ("calls", (), "engine stream: calls has no access pattern; there are churn, pingpong, "),
        ("scan", ("--writes", "1"), "--writes: of scan's arguments it takes --around"),
        ("random", ("--writes", "101"), "--writes 101: must be a number from 0 to 100"),
        ("random", ("--writes",), "--writes : must be a number from 0 to 100"),
        ("churn", ("--pages", "0"), "--pages 0: must be a number from 1 to "),
        ("protect", ("--piece", "6000"), "--piece 6000: must be a number from 4096 to "),
    ],
)
def test_what_has_no_pattern_is_refused(workload: str, args: tuple[str, ...], text: str) -> None:
    with pytest.raises(UserError, match="stream") as caught:
        execute(workload, engine="stream", args=args)
    assert text in str(caught.value)
    assert "\n" not in str(caught.value)


LINES, PAGES = (2 << 20) // 64, (2 << 20) // 4096


@pytest.mark.parametrize("workload", sorted(_core.patterns()))
def test_the_benchmarks_loop_makes_a_patterns_accesses(workload: str) -> None:
    asked = {"program": workload, "engine": "stream", "procs": 1, "region": 2 << 20, "work": 3}
    values = stream.values(Options.of(asked).spec(), workloads.describe(workload))
    accesses, _, total = _core.native_loop(workload, values)
    exact = {"random": 3, "zipf": 3, "scan": 3 * (LINES + PAGES)}
    assert accesses == exact.get(workload, accesses) > 0
    assert total > 0
