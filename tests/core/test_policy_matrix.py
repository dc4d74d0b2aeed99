"""Does every policy answer every operation as the matrix says that ``ptshare policies`` prints?"""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from ptshare_plugin import _core, policies
from ptshare_plugin.studies import policy_matrix
from ptshare_plugin.studies.policy_matrix import CASES, MEMORY, Case, World

POLICIES = policies.names()
OPERATIONS = {"mmap", "munmap", "mprotect", "mremap", "madvise", "fork", "exec", "exit", "fault"}
# What each policy must answer, by operation and situation.
with open(Path(__file__).with_name("policy_answers.csv"), newline="", encoding="utf-8") as table:
    ANSWERS = {(row.pop("operation"), row.pop("situation")): row for row in csv.DictReader(table)}


def test_the_baseline_is_first_and_the_order_is_kept() -> None:
    assert POLICIES == ["private", "ptshare", "rfc-v2", "mshare", "hugetlb-pmd", "huge-2m"]
    assert POLICIES[0] == policies.BASELINE
    assert policies.candidates() == ["private", "ptshare", "mshare", "huge-2m"]
    assert [policies.place(name) for name in (*POLICIES, "unknown")] == [0, 1, 2, 3, 4, 5, 6]


def test_the_matrix_has_every_policy_and_every_operation() -> None:
    assert all(list(row) == POLICIES for row in ANSWERS.values())
    assert [(case.operation, case.situation) for case in CASES] == list(ANSWERS)
    assert {case.operation for case in CASES} == OPERATIONS | {"query"}


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.operation}: {case.situation}")
def test_the_policy_answers_as_stated(case: Case, policy: str) -> None:
    world = World(_core.Kernel(policy, MEMORY))
    assert case.drive(world) == ANSWERS[case.operation, case.situation][policy]
    assert world.kernel.audit() == []
    world.end(*world.kernel.mms())
    assert world.kernel.audit() == []
    left = world.kernel.frames_in_use()
    assert left["anon"] == 0
    assert left["table"] == 0 or policy == "rfc-v2"


@pytest.mark.parametrize("policy", POLICIES)
def test_traits_are_what_the_policy_does(policy: str) -> None:
    info = policies.known()[policy]
    # Hosts have the shared tables; hugetlb-pmd needs a whole slot of 1 GiB.
    kernel = _core.Kernel(policy, 4 << 30)
    file = kernel.create_file("slots", 1 << 30)
    for mm in (kernel.create_mm(), kernel.create_mm()):
        at = policy_matrix.BASE
        assert kernel.mmap(mm, at, 1 << 30, 3, policy_matrix.ASK, file) == at
        kernel.read(mm, at)
    assert info.shares_tables == (kernel.table_counts()["host"] > 0)
    assert info.strict_alignment == any(refused_when_misaligned(policy))


def refused_when_misaligned(policy: str) -> list[bool]:
    """Whether EINVAL is what a length and a file's size of 3 MiB get."""
    answers = []
    for size in (4 << 20, 3 << 20):
        kernel = _core.Kernel(policy, MEMORY)
        file, mm = kernel.create_file("file", size), kernel.create_mm()
        flags = policy_matrix.ASK
        answers.append(kernel.mmap(mm, policy_matrix.BASE, 3 << 20, 3, flags, file) == -22)
    return answers


@pytest.mark.parametrize("level", ["pte", "pmd", "pud"])
@pytest.mark.parametrize("policy", ["ptshare", "mshare"])
def test_the_level_of_sharing_changes_alignment_and_links_alone(policy: str, level: str) -> None:
    world = World(_core.Kernel(policy, MEMORY, share_level=level))
    span = {"pte": 2 << 20, "pmd": 1 << 30, "pud": 512 << 30}[level]
    assert world.kernel.alignment() == span
    world.share(world.one, world.two)
    for i in range(policy_matrix.LENGTH // policy_matrix.PMD):
        at = policy_matrix.BASE + i * policy_matrix.PMD
        world.kernel.read(world.one, at)
        world.kernel.read(world.two, at)
    chunks = policy_matrix.LENGTH // min(span, policy_matrix.LENGTH)
    assert world.kernel.stats()["links"] == 2 * chunks
    # A guest owns what is above the linked tables; three has nothing but its root.
    own = {"pte": 3, "pmd": 2, "pud": 1}[level]
    assert world.kernel.table_counts()["guest"] == 2 * own + 1
    # The host's root, PUD, PMD and four PTE tables.
    assert world.kernel.table_counts()["host"] == 7
    assert world.kernel.audit() == []
    misplaced = policy_matrix.BASE + span // 2
    assert world.map(world.three, address=misplaced) == -22
    world.end(world.one, world.two, world.three)
    assert world.kernel.frames_in_use()["table"] == 0


@pytest.mark.parametrize("level", ["pte", "pmd", "pud"])
@pytest.mark.parametrize("policy", ["ptshare", "mshare"])
def test_a_range_is_mapped_over_itself_at_every_level(policy: str, level: str) -> None:
    world = World(_core.Kernel(policy, MEMORY, share_level=level))
    world.share(world.one, world.two)
    assert world.outcome(world.one, world.map(world.one)) == "is a guest"
    assert world.kernel.read(world.one, policy_matrix.BASE)[0] == 0
    assert world.kernel.audit() == []


@pytest.mark.parametrize("level", ["pmd", "pud"])
def test_what_a_link_translates_belongs_to_its_vma_alone(level: str) -> None:
    world = World(_core.Kernel("ptshare", MEMORY, share_level=level))
    world.share(world.one)
    beside = policy_matrix.BASE + policy_matrix.LENGTH
    anonymous = policy_matrix.PRIVATE | policy_matrix.ANONYMOUS
    fixed = anonymous | policy_matrix.FIXED
    assert world.map(world.one, address=beside, length=4096, flags=fixed) == -22
    hinted = world.map(world.one, address=beside, length=4096, flags=anonymous)
    span = 1 << 30 if level == "pmd" else 512 << 30
    assert hinted > 0
    assert not policy_matrix.BASE <= hinted < policy_matrix.BASE + span
    # And the other way round: no room for the range.
    assert world.map(world.two, address=beside, length=4096, flags=fixed) == beside
    assert world.map(world.two) == -22
    assert world.kernel.stats()["refusals"]["room"] == 1


def test_another_address_is_an_option() -> None:
    world = World(_core.Kernel("ptshare", MEMORY, share_any_address=True))
    world.share(world.one)
    there = policy_matrix.BASE + 6 * policy_matrix.PMD
    assert world.map(world.two, address=there) == there
    assert world.kernel.write(world.one, policy_matrix.BASE + 4096, 77) == 0
    assert world.kernel.read(world.two, there + 4096) == (0, 77)
    assert world.kernel.stats()["links"] == 2
    assert world.kernel.mprotect(world.two, there, 4096, 1) == 0
    assert world.kernel.write(world.one, policy_matrix.BASE, 1) == 11
    assert world.kernel.audit() == []


def test_anonymous_memory_is_an_option_and_is_shared_with_children() -> None:
    world = World(_core.Kernel("ptshare", MEMORY, share_anonymous=True))
    flags = policy_matrix.ASK | policy_matrix.ANONYMOUS
    assert world.map(world.one, flags=flags) == policy_matrix.BASE
    assert world.kernel.write(world.one, policy_matrix.BASE, 5) == 0
    child = world.kernel.fork(world.one)
    assert world.kernel.fault(child, policy_matrix.BASE, "read")[0] == "link"
    assert world.kernel.read(child, policy_matrix.BASE) == (0, 5)
    assert world.kernel.audit() == []
