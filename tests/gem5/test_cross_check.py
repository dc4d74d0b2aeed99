"""Do both engines say the same about one machine? Same binaries, preset gem5-x86."""

from __future__ import annotations

import pytest
from embedded import execute

from ptshare_plugin.engines import registry as engines
from ptshare_plugin.runs import run

EQUAL = (
    "fault.host",
    "fault.file",
    "fault.around_pages",
    "fault.anon",
    "fault.cow",
    "fault.write_protect",
    "fault.spurious",
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
# Whether a rank links a chunk with the fault of a page of its own or with one that only links is
# for the faster rank to say, where ranks draw their pages at random.
LINKS_RACE = ("random", "zipf")
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


def slack_of(name: str) -> int:
    """misuse misses ten times: once when a system call writes to a page for the first time, which
    the plugin's system calls do past the TLB."""
    return 1 if name == "misuse" else 0


def both(name: str, **options: object) -> tuple[run.Run, run.Run]:
    assert engines.get("gem5").missing() is None
    gem5, embedded = (
        execute(name, engine=engine, work=WORK[name], preset="gem5-x86", **options)  # type: ignore[arg-type]
        for engine in ("gem5", "embedded")
    )
    assert gem5.output_lines() == embedded.output_lines()
    return gem5, embedded


def hold(name: str, gem5: run.Run, embedded: run.Run, links_race: bool, slack: int = 0) -> None:
    measured, modelled = gem5.values[-1], embedded.values[-1]
    for metric in (*EQUAL, *(() if links_race else ("fault.link", "fault.total"))):
        assert measured[metric] == modelled[metric], metric
    for metric in WITHIN_ONE_PER_CENT:
        assert measured[metric] == pytest.approx(modelled[metric], rel=0.01, abs=slack), metric


@pytest.mark.parametrize("policy", ["private", "ptshare"])
@pytest.mark.parametrize("name", WORK)
def test_one_process_agrees(name: str, policy: str) -> None:
    # given one process, so that nobody is ahead of anybody, and the preset as it is
    hold(name, *both(name, policy=policy, procs=1), links_race=False, slack=slack_of(name))


@pytest.mark.parametrize("procs", [1, 2])
@pytest.mark.parametrize("name", ["scan", "preshare", "protect"])
def test_2_mib_leaves_agree(name: str, procs: int) -> None:
    # No less than 2 MiB can be protected.
    args = ("--piece", "2097152") if name == "protect" else ()
    runs = both(name, policy="hugetlb-pmd", procs=procs, sets=WITHOUT_AROUND, args=args)
    # Some ten misses in all, of which protect's system calls have one or two.
    hold(name, *runs, links_race=False, slack=2 if name == "protect" else 0)


@pytest.mark.parametrize("policy", ["private", "ptshare"])
@pytest.mark.parametrize("name", WORK)
def test_several_processes_agree(name: str, policy: str) -> None:
    runs = both(name, policy=policy, procs=2, sets=WITHOUT_AROUND)
    hold(name, *runs, links_race=name in LINKS_RACE, slack=slack_of(name))
