"""The cases of ``ptshare validate``: what is run on Linux and on the model."""

from __future__ import annotations

import fnmatch
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ptshare_plugin.common.errors import EXIT_USAGE, UserError
from ptshare_plugin.common.units import PAGE_BYTES, exact_size
from ptshare_plugin.engines.linux.engine import HUGETLB, PRIVATE
from ptshare_plugin.studies.validation import sequences

MIB, GIB = 1 << 20, 1 << 30

RACE = (
    "ranks run at once: how many pages of the file a fault finds in the page cache, for "
    "fault-around to map, depends on who is ahead"
)
RACE_HUGE = (
    "ranks run at once: one that waits for another's huge page takes a fault of its own for it"
)
BATCHED = "PageTables of /proc/meminfo is kept in batches for each CPU, and is the whole machine's"


@dataclass(frozen=True, slots=True)
class Case:
    """One case.

    :param around: whether the region has the kernel's fault-around; without, a page a fault.
    :param may_differ: metrics that may differ, and the documented cause; page-table bytes never.
    :param quick: part of every test run.
    :param gem5: run there too, where there is a gem5.
    """

    name: str
    workload: str
    procs: int = 1
    region: int = 4 * MIB
    around: bool = True
    policy: str = PRIVATE
    work: int | None = None
    calls: str = ""
    may_differ: tuple[str, ...] = ()
    cause: str = ""
    quick: bool = False
    gem5: bool = False

    def forgoes_around(self) -> bool:
        """Whether it needs userfaultfd, to be without fault-around somewhere."""
        return not self.around or any(call.startswith("a") for call in self.calls.split(","))

    def args(self) -> tuple[str, ...]:
        """The workload's own arguments."""
        given = () if self.around else ("--around", "0")
        return (*given, "--calls", self.calls) if self.calls else given


def _run(
    workload: str,
    procs: int,
    region: int,
    around: bool,
    *,
    work: int | None = None,
    quick: bool = False,
    gem5: bool = False,
) -> Case:
    window = "kernel" if around else exact_size(PAGE_BYTES)
    # Alone, nobody is ahead of anybody; with one page a fault it does not matter.
    races = procs > 1 and around
    return Case(
        name=f"{workload}, {procs} x {exact_size(region)}, fault-around {window}",
        workload=workload,
        procs=procs,
        region=region,
        around=around,
        work=work,
        may_differ=("roi.fault.minor", "vm.rss_file_bytes.end", "marks.equal") if races else (),
        cause=RACE if races else "",
        quick=quick,
        gem5=gem5,
    )


_WORKLOADS = ("scan", "random", "zipf", "pingpong", "preshare", "protect", "churn")

# What each call does, one at a time: see se_workloads/calls.c for the letters.
_CALLS = {
    "fault-around at the edges of VMAs and PTE tables": (
        "m0.2048.3.0.0,w0.2048.1,u0.2048,m5.1000.3.0.5,r5.1.1,r20.1.1,r500.1.1,r520.1.1,r1004.1.1,"
        "m1030.500.3.0.9,r1030.1.1,r1200.1.1,r1529.1.1,m2040.8.3.0.0,r2047.1.1"
    ),
    "fault-around at the end of the file": (
        "m0.1024.3.0.1536,w0.512.1,u0.1024,m0.1024.3.0.1536,t2000,r450.1.1,r463.1.1,r200.1.1"
    ),
    "read-modify-write: increment, locked add, exchange, compare in vain": (
        "m0.512.3.2.0,i0.100.0,i100.100.1,i200.100.2,i300.100.3,m512.512.3.0.0,i512.128.0,"
        "i640.128.1,i768.128.2,i896.128.3,m1024.512.3.1.0,i1024.128.0,i1152.128.1,i1280.128.2,"
        "i1408.128.3"
    ),
    "read-modify-write after reading, after a child, after mprotect": (
        "m0.600.3.2.0,r0.600.1,i0.300.0,i300.300.1,m1024.600.3.1.0,r1024.600.1,i1024.300.2,"
        "i1324.300.3,f,i0.300.1,i1024.600.0,e,i0.600.2,p0.600.1,p0.600.3,i0.600.3"
    ),
    "strings, and words in two pages": (
        "m0.512.3.2.0,i0.100.4,i100.100.5,i200.100.6,m512.512.3.0.0,i512.128.4,i640.128.5,"
        "i768.128.6,m1024.512.3.1.0,i1024.128.4,i1152.128.5,i1280.128.6,r1408.64.1,i1408.60.4,"
        "i1470.1.6"
    ),
    "MAP_POPULATE": "m0.700.3.4.0,m700.700.3.5.0,m1400.300.3.6.0,m1700.300.3.7.0,m0.64.1.4.100",
    "MADV_DONTNEED": (
        "m0.2048.3.2.0,w0.2048.1,d0.512.4,d600.400.4,d1000.1048.4,m0.2048.3.0.0,w0.2048.1,d1.1023.4,"
        "d0.1024.4,d512.512.4"
    ),
    "mprotect": (
        "m0.1024.3.2.0,w0.1024.1,p0.512.1,r0.512.1,p0.1024.3,w0.1024.1,p100.10.0,p100.10.3,"
        "w100.10.1,m1024.1024.3.0.0,w1024.512.1,p1024.1024.1,p1024.1024.3,w1024.1024.1"
    ),
    "mremap": (
        "m0.600.3.2.0,w0.300.1,x0.600.600.1024,w1024.600.1,x1024.512.512.3,w3.512.1,g3.512.100,"
        "g3.100.500,w3.500.1,x3.500.700.1300,w1300.700.1"
    ),
    "partial munmap": (
        "m0.2048.3.0.0,r0.2048.16,u100.300,u512.512,u0.100,u400.112,u1024.1024,r0.1.1,m0.1.3.2.0"
    ).replace("r0.1.1,", ""),
    "fork": (
        "m0.600.3.2.0,w0.300.1,m1024.600.3.0.0,w1024.600.1,m700.300.3.1.0,w700.10.1,r700.300.1,"
        "f,r0.600.1,w0.600.1,r1024.600.1,f,w0.10.1,e,d0.600.4,e,w0.300.1,w700.10.1"
    ),
    "copy-on-write after a child": "m0.64.3.2.0,w0.64.1,f,e,p0.64.1,p0.64.3,w0.64.1,w0.64.1",
    "areas that join the one before or behind": (
        "m0.1.3.2.0,m2.1.3.2.0,w0.1.1,w2.1.1,m1.1.3.2.0,x1.2.3.520,x0.2.3.1024"
    ),
    "a PMD table that moves without PTE tables": (
        "m0.262144.3.2.0,w0.1.1,d0.262144.4,x0.262144.262144.786432,u786432.262144"
    ),
    "heap and stack": "b10,b1000,b700,b0,b1500,s1,s40,s600,s1900,s5",
    "mmap where the kernel likes": "n1.2,n512.2,n1024.2,n100.3,n513.2,n512.3,n2.2,n1024.2",
    "ftruncate": (
        "m0.1024.3.0.0,w0.1024.1,m1024.1024.3.1.0,r1024.1024.1,w1024.10.1,t300,r0.300.1,t1024,"
        "r1024.1024.1"
    ),
    "userfaultfd": (
        "m0.1024.3.0.0,w0.100.1,a0.512,r0.1024.1,w0.1024.1,p0.512.1,p0.512.3,w0.512.1,f,r0.512.1,e,"
        "x0.100.100.1024,r1024.100.1"
    ),
}
_DRAWN, _DRAWN_QUICK = 40, 12
_DRAWN_PAGES, _DRAWN_CALLS = 2048, 30


def drawn(seed: int) -> str:
    """The random sequence of calls number ``seed``."""
    return sequences.draw(random.Random(seed).randint, _DRAWN_PAGES, _DRAWN_CALLS)


def select(quick: bool, patterns: Sequence[str]) -> list[Case]:
    """The cases that are wanted: all, the quick ones, those whose names match a glob.

    :raises UserError: a pattern that matches none.
    """
    known = [case for case in cases() if case.quick or not quick]
    if not patterns:
        return known
    for pattern in patterns:
        if not any(fnmatch.fnmatchcase(case.name, pattern) for case in known):
            raise UserError(
                f"--case {pattern}: matches none of the {len(known)} cases; a name is like "
                f"'{known[0].name}'",
                EXIT_USAGE,
            )
    return [
        case
        for case in known
        if any(fnmatch.fnmatchcase(case.name, pattern) for pattern in patterns)
    ]


def cases() -> Iterable[Case]:
    """All of them, small ones first in each group."""
    for workload in _WORKLOADS:
        yield _run(workload, 1, 4 * MIB, False, quick=True)
        yield _run(workload, 1, 4 * MIB, True, quick=True, gem5=True)
        yield _run(workload, 1, 16 * MIB, True)
        yield _run(workload, 4, 8 * MIB, False, quick=workload in ("scan", "churn"))
        yield _run(workload, 4, 8 * MIB, True, quick=workload == "scan")
    yield _run("misuse", 1, 8 * MIB, True, quick=True)
    yield _run("scan", 2, 64 * MIB, False)
    yield _run("scan", 16, 16 * MIB, False, work=1)
    yield _run("scan", 64, 4 * MIB, False, work=1)
    yield _run("scan", 64, 16 * MIB, True, work=1)
    yield _run("scan", 1, 256 * MIB, True, work=1)
    yield _run("random", 32, 64 * MIB, False, work=20_000)
    yield _run("random", 1, 512 * MIB, True, work=100_000)
    yield _run("zipf", 64, 64 * MIB, False, work=5_000)
    yield _run("churn", 16, 16 * MIB, False)
    for name, calls in _CALLS.items():
        region = _DRAWN_PAGES * PAGE_BYTES
        yield Case(f"calls: {name}", "calls", region=region, calls=calls, quick=True)
    for seed in range(1, _DRAWN + 1):
        yield Case(
            f"calls: drawn, seed {seed}",
            "calls",
            region=_DRAWN_PAGES * PAGE_BYTES,
            calls=drawn(seed),
            quick=seed <= _DRAWN_QUICK,
        )
    yield _huge(1, GIB, work=2_000)
    yield _huge(2, GIB + 512 * MIB, work=2_000)
    yield _huge(16, 64 * MIB, work=500)
    yield _huge(128, GIB, work=300)


def _huge(procs: int, region: int, work: int) -> Case:
    many = procs >= 100
    races = ("roi.fault.minor", "marks.equal") if procs > 1 else ()
    return Case(
        name=f"random, {procs} x {exact_size(region)}, {HUGETLB}",
        workload="random",
        procs=procs,
        region=region,
        policy=HUGETLB,
        work=work,
        may_differ=(*races, "pt.machine_growth") if many else races,
        cause="; ".join(([RACE_HUGE] if races else []) + ([BATCHED] if many else [])),
    )
