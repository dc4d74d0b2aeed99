"""What processes have at marks: tables, pages and faults of the workload ``calls``, by hand."""

from __future__ import annotations

import itertools

import pytest
from embedded import execute

from ptshare_plugin.engines.result import Sample

KIB, MIB = 1 << 10, 1 << 20
PAGE = 4 * KIB
# As the server preset has it; without, a page a fault.
AROUND = ("kernel.fault_around_bytes=64KiB",)


def samples(
    calls: str, *, policy: str = "private", procs: int = 1, sets: tuple[str, ...] = AROUND
) -> list[Sample]:
    done = execute(
        "calls",
        policy=policy,
        procs=procs,
        region=8 * MIB,
        args=("--calls", calls),
        sets=sets,
        share=policy != "private",
    )
    assert [rank.status for rank in done.ranks] == [0] * procs
    return done.result.samples


def steps(found: list[Sample], process: int = 0) -> list[tuple[int, int, int]]:
    """KiB of tables, KiB of anonymous pages and minor faults that each call added."""
    own = [s for s in found if s.process == process and s.rank == 0 and s.mark not in (1, 2)]
    return [
        (
            (after.vm_pte_bytes - before.vm_pte_bytes) // KIB,
            (after.rss_anon_bytes - before.rss_anon_bytes) // KIB,
            after.minor_faults - before.minor_faults,
        )
        for before, after in itertools.pairwise(own)
    ]


@pytest.mark.parametrize("how", range(6))
@pytest.mark.parametrize("kind", [0, 1, 2, 3])
def test_an_instruction_that_reads_and_writes_back_faults_once(how: int, kind: int) -> None:
    """As x86: increment, locked add, exchange, compare in vain; MOVE reads another word first."""
    found = steps(samples(f"m0.100.3.{kind}.0,i0.100.{how}", sets=()))
    # Memory that is read first shows what is shared, and is copied then.
    twice = how == 4 and kind in (1, 2)
    assert found[1][2] == (200 if twice else 100)
    # Those of an area that was read: each copies.
    found = steps(samples(f"m0.100.3.{kind}.0,r0.100.1,i0.100.{how}", sets=()))
    assert found[2][2] == (100 if kind in (1, 2) else 0)


def test_a_word_in_two_pages_faults_once_in_each() -> None:
    assert steps(samples("m0.100.3.2.0,i0.99.6", sets=()))[1] == (12, 400, 100)


def test_begin_point_and_end_are_marks_in_their_order() -> None:
    found = samples("m0.1.3.2.0")
    assert [s.mark for s in found] == [1, 3, 3, 2]
    assert {(s.rank, s.process) for s in found} == {(0, 0)}


def test_what_calls_add() -> None:
    # PUD, PMD and PTE table; then a PTE table for each 2 MiB. Whole 2 MiB: aligned.
    calls = "m0.2048.3.2.0,w0.3.1,w512.1024.512,r1536.1.1,m100.8.3.6.0,u0.2048"
    assert steps(samples(calls)) == [
        (0, 0, 0),
        (12, 12, 3),
        (8, 8, 2),
        (4, 0, 1),  # the zero page is nobody's
        (0, 32, 8),  # populated: a fault a page
        (-24, -52, 0),
    ]


@pytest.mark.parametrize("reclaim", [True, False])
def test_discarding_frees_whole_pte_tables_with_pt_reclaim(reclaim: bool) -> None:
    sets = (f"kernel.pt_reclaim={'true' if reclaim else 'false'}",)
    calls = "m0.1536.3.2.0,w0.1536.512,d1.1023.4,d0.1536.4"
    first, second = (-4, -8) if reclaim else (0, 0)
    assert steps(samples(calls, sets=sets)) == [
        (0, 0, 0),
        (20, 12, 3),
        (first, -4, 0),  # pages 1 to 1023: only the second 2 MiB lie in it
        (second, -8, 0),
    ]


def test_without_fault_around_each_page_is_a_fault_and_another_to_be_written() -> None:
    cached = "m0.32.3.0.0,w0.32.1,u0.32,m0.32.3.0.0,"
    assert [faults for _, _, faults in steps(samples(cached + "r0.32.1,w0.32.1"))][4:] == [2, 0]
    marks = steps(samples(cached + "a0.32,r0.32.1,w0.32.1"))
    assert [faults for _, _, faults in marks][5:] == [32, 32]


def test_children_are_numbered_as_they_are_forked() -> None:
    # The first child forks the second one, then the parent forks the third.
    found = samples("m0.4.3.2.0,w0.3.1,f,w0.2.1,f,w0.1.1,e,e,f,r0.1.1,e,w0.3.1")
    order = [s.process for s in found]
    assert [n for i, n in enumerate(order) if n not in order[:i]] == [0, 1, 2, 3]
    # A child has the parent's tables and anonymous pages, and counts its faults anew.
    at_fork = {n: next(s for s in found if s.process == n) for n in (1, 2, 3)}
    before = [s for s in found if s.process == 0][3]
    for child in at_fork.values():
        assert child.vm_pte_bytes == before.vm_pte_bytes
        assert child.rss_anon_bytes == before.rss_anon_bytes
        assert child.minor_faults == at_fork[1].minor_faults < before.minor_faults
    # Each write copies a page; what the loops need besides (code, data) is the same for all.
    first, second, third = (steps(found, n) for n in (1, 2, 3))
    besides = third[0][2]
    assert first[0] == (0, 0, 2 + besides)
    assert second == [(0, 0, 1 + besides)]
    assert third == [(0, 0, besides)]
    # The children are gone: their parent's pages are its own again, after a fault for each.
    assert steps(found)[-1] == (0, 0, 3)


def test_each_rank_has_children_of_its_own() -> None:
    found = samples("m0.1.3.2.0,w0.1.1,f,w0.1.1,e", procs=3)
    for rank in range(3):
        mine = [s for s in found if s.rank == rank]
        assert {s.process for s in mine} == {0, 1}
        assert mine[0].mark == 1 and mine[-1].mark == 2


def test_a_linked_table_counts_for_each_that_links_it() -> None:
    calls = "m0.1024.3.0.0,w0.1024.512,d0.1024.4,r0.1.1,u0.1024"
    assert steps(samples(calls, policy="ptshare")) == [
        (0, 0, 0),
        (16, 0, 2),  # PUD and PMD table of its own, two links
        (0, 0, 0),  # the host's tables stay, also with pt_reclaim
        (0, 0, 1),
        (-16, 0, 0),
    ]
