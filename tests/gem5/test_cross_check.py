"""Do both engines say the same about one machine? Same binaries, preset gem5-x86."""

from __future__ import annotations

import pytest
from embedded import execute

from ptshare_plugin import engines, run

# Whatever the order in which CPUs get ahead of each other.
EQUAL = (
    "fault.anon",
    "fault.cow",
    "fault.write_protect",
    "fault.total",
    "pt.bytes",
    "pt.bytes.guest",
    "pt.bytes.host",
    "pt.tables.pte",
    "pt.tables.pmd",
    "pt.tables.pud",
    "pt.tables.pgd",
    "pt.region.pte_tables",
    "pt.end.bytes",
    "share.links",
    "share.carried_pages",
    "syscall.unknown",
)
# And by kind, where ranks do not race for the first touch of a page.
BY_KIND = ("fault.link", "fault.host", "fault.file", "fault.spurious", "fault.around_pages")
WITHIN_ONE_PER_CENT = ("roi.tlb.dtlb.misses", "roi.walk.data")
# Fault-around maps what is in the page cache by then, and that is for the faster rank to say: the
# counts depend on time, which the engines do not share.
WITHOUT_AROUND = ("kernel.fault_around_bytes=4KiB",)
WORK = {
    "scan": 2,
    "random": 20000,
    "zipf": 5000,
    "pingpong": 20,
    "preshare": 1,
    "protect": 2,
    "churn": 2,
    "misuse": 1,
}


def both(name: str, **options: object) -> tuple[run.Run, run.Run]:
    assert engines.get("gem5").missing() is None
    gem5, embedded = (
        execute(name, engine=engine, work=WORK[name], preset="gem5-x86", **options)  # type: ignore[arg-type]
        for engine in ("gem5", "embedded")
    )
    assert gem5.output_lines() == embedded.output_lines()
    return gem5, embedded


@pytest.mark.parametrize("policy", ["private", "ptshare"])
@pytest.mark.parametrize("name", WORK)
def test_one_process_agrees_in_everything(name: str, policy: str) -> None:
    # given one process, so that nobody is ahead of anybody, and the preset as it is
    gem5, embedded = both(name, policy=policy, procs=1)
    for metric in (*EQUAL, *BY_KIND):
        assert gem5.values[-1][metric] == embedded.values[-1][metric], metric
    for metric in WITHIN_ONE_PER_CENT:
        assert gem5.values[-1][metric] == pytest.approx(embedded.values[-1][metric], rel=0.01)


@pytest.mark.parametrize("policy", ["private", "ptshare"])
@pytest.mark.parametrize("name", WORK)
def test_several_processes_agree(name: str, policy: str) -> None:
    gem5, embedded = both(name, policy=policy, procs=2, sets=WITHOUT_AROUND)
    for metric in EQUAL:
        assert gem5.values[-1][metric] == embedded.values[-1][metric], metric
    for metric in WITHIN_ONE_PER_CENT:
        assert gem5.values[-1][metric] == pytest.approx(embedded.values[-1][metric], rel=0.01)
