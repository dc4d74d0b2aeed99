"""The stream front-end against the programs: what they count must be equal."""

from __future__ import annotations

import pytest
from embedded import execute, totals

from ptshare_plugin.errors import UserError

FAULTS = ("link", "host", "file", "anon", "cow", "write_protect", "spurious", "segv", "bus")
EXACT = (
    *(f"roi.fault.{kind}" for kind in FAULTS),
    "roi.fault.around_pages",
    "roi.walk.data",
    "roi.walk.faulted",
    "roi.walk.dirty_assists",
    "roi.tlb.dtlb.misses",
    "roi.tlb.stlb.misses",
    "share.links",
)
AROUND_OFF = ("kernel.fault_around_bytes=4KiB",)


@pytest.mark.parametrize("policy", ["private", "ptshare"])
@pytest.mark.parametrize(("workload", "work"), [("random", 60_000), ("zipf", 40_000), ("scan", 2)])
@pytest.mark.parametrize("region", [2 << 20, 16 << 20])
@pytest.mark.parametrize("sets", [(), AROUND_OFF])
def test_one_process_counts_what_the_program_does(
    workload: str, work: int, policy: str, region: int, sets: tuple[str, ...]
) -> None:
    found = [
        totals(execute(workload, engine=engine, policy=policy, work=work, region=region, sets=sets))
        for engine in ("embedded", "stream")
    ]
    program, stream = ({name: values[name] for name in EXACT} for values in found)
    assert program["roi.walk.data"] > 0
    assert stream == program
    assert found[1]["vm.pte_bytes.end"] == found[0]["vm.pte_bytes.end"]


@pytest.mark.parametrize("workload", ["random", "zipf", "scan"])
@pytest.mark.parametrize("cores", [1, 4])
def test_many_processes_take_the_same_faults(workload: str, cores: int) -> None:
    def values(engine: str, policy: str) -> dict[str, int]:
        work = 2 if workload == "scan" else 20_000
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
        ("churn", (), "engine stream: churn has no access pattern; there are random, scan, zipf"),
        ("scan", ("--writes", "1"), "--writes: of scan's arguments it takes --around"),
        ("random", ("--writes", "101"), "--writes 101: must be a number from 0 to 100"),
        ("random", ("--writes",), "--writes : must be a number from 0 to 100"),
    ],
)
def test_what_has_no_pattern_is_refused(workload: str, args: tuple[str, ...], text: str) -> None:
    with pytest.raises(UserError, match="stream") as caught:
        execute(workload, engine="stream", args=args)
    assert text in str(caught.value)
    assert "\n" not in str(caught.value)
