"""Every workload under the embedded engine: its own checks, and its lines against native runs."""

from __future__ import annotations

import functools

import pytest
from embedded import execute, totals
from native import Native, run_natively

from ptshare_plugin import policies
from ptshare_plugin.spec import workloads

MIB = 1 << 20
# misuse prints what the kernel answers, which is what policies differ in.
JUDGING = [name for name in workloads.names() if name != "misuse"]


HUGE = ("hugetlb-pmd", "huge-2m")
# On one core each rank runs until it waits: who can end while others are at work does so.
ONE_BY_ONE = ("sched.quantum_cycles=100000000000", "sched.slice_instructions=1000000000")


@functools.cache
def native(name: str, procs: int, region: int = 4 * MIB) -> Native:
    return run_natively(name, procs, region=region, share=True)


def fitting(name: str, policy: str) -> tuple[str, ...]:
    """Arguments without which a policy refuses what the workload does."""
    return ("--piece", str(2 * MIB)) if name == "protect" and policy in HUGE else ()


@pytest.mark.parametrize("procs", [1, 2, 5])
@pytest.mark.parametrize("policy", policies.names())
@pytest.mark.parametrize("name", JUDGING)
def test_same_lines_as_on_this_kernel(name: str, policy: str, procs: int) -> None:
    done = execute(name, policy=policy, procs=procs, region=4 * MIB, args=fitting(name, policy))
    assert done.output_lines() == native(name, procs).lines
    assert [rank.status for rank in done.ranks] == native(name, procs).statuses


@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize("name", JUDGING)
def test_no_rank_outlives_the_owner_of_what_it_reads(name: str, seed: int) -> None:
    # churn's first rank, which owns the region, depends on the seed.
    done = execute(name, policy="mshare", procs=3, cores=1, seed=seed, sets=ONE_BY_ONE)
    assert done.failures() == []
    assert len(done.output_lines()) == 3


@pytest.mark.parametrize("policy", HUGE)
def test_protect_says_what_piece_2_mib_pages_need(policy: str) -> None:
    done = execute("protect", policy=policy, procs=2)
    assert [rank.status for rank in done.ranks] == [1, 1]
    assert done.ranks[0].stderr.decode() == (
        "protect: FAIL rank=0: mprotect of a piece: EINVAL; "
        "with 2 MiB pages, --piece must be a multiple of 2097152\n"
    )


# S3. A link translates 2 MiB under ptshare, 512 GiB under mshare: addresses are apart by as much.
@pytest.mark.parametrize(
    ("policy", "sets", "apart", "links", "refused"),
    [
        ("ptshare", (), 2 * MIB, 2, {"address": 2}),
        ("ptshare", ("share.any_address=true",), 2 * MIB, 6, {}),
        ("ptshare", ("share.any_address=true",), 1 * MIB, 4, {"misaligned": 1}),
        ("mshare", (), 1 << 39, 3, {}),
        ("mshare", (), 1 << 30, 1, {"misaligned": 2}),
        ("private", (), 2 * MIB, 0, {}),
    ],
)
@pytest.mark.parametrize("name", ["scan", "preshare"])
def test_addresses_apart(
    name: str, policy: str, sets: tuple[str, ...], apart: int, links: int, refused: dict[str, int]
) -> None:
    done = execute(name, policy=policy, procs=3, args=("--apart", str(apart)), sets=sets)
    assert done.output_lines() == native(name, 3).lines
    values = totals(done)
    assert values["share.links"] == links
    reasons = {name: values[f"share.refused.{name}"] for name in ("address", "misaligned")}
    assert reasons == {"address": 0, "misaligned": 0, **refused}
    assert values["share.refused"] == sum(refused.values())


def test_more_processes_than_cores() -> None:
    for name in JUDGING:
        done = execute(name, procs=12, region=4 * MIB, cores=3)
        assert len(done.output_lines()) == 12


def test_misuse_with_private_tables_answers_as_linux() -> None:
    done = execute("misuse", policy="private", procs=2, region=8 * MIB)
    assert done.output_lines() == native("misuse", 2, 8 * MIB).lines


NO_POLICY_ALLOWS = {"no_length", "odd_offset", "unmap_odd", "protect_odd"}
NO_PART = {"unmap_part", "remap", "map_over_part", "other_length"}  # S10
# What each policy answers EINVAL to, where private tables do not.
REFUSES = {
    "ptshare": NO_PART
    | {"unaligned", "odd_size", "private", "anonymous", "other_address", "less_protection"},
    "rfc-v2": NO_PART,
    "mshare": NO_PART | {"unaligned", "private", "other_address"},
    "hugetlb-pmd": {"unaligned", "private", "anonymous"},
    "huge-2m": {"unaligned", "private", "anonymous"},
}


@pytest.mark.parametrize("policy", REFUSES)
def test_misuse_with_shared_tables_or_huge_pages(policy: str) -> None:
    done = execute("misuse", policy=policy, procs=2, region=8 * MIB)
    assert [rank.status for rank in done.ranks] == [0, 0]
    answers = dict(word.split("=") for word in done.output_lines()[0].split()[4:])
    refused = {name for name, answer in answers.items() if answer == "EINVAL"}
    assert refused == REFUSES[policy] | NO_POLICY_ALLOWS
    assert answers["bad_fd"] == "EBADF"
    assert answers["read_only_file"] == answers["protect_beyond_file"] == "EACCES"
    assert answers["protect_hole"] == "ENOMEM"
    # hugetlbfs makes a file as long as a writable mapping of it.
    assert answers["read_past_end"] == ("ok" if policy in HUGE else "EFAULT")
    assert answers["map_read_only"] == answers["map_past_end"] == answers["unmap_all"] == "ok"
