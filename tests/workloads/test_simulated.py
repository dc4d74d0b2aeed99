"""Every workload under the embedded engine: its own checks, and its lines against native runs."""

from __future__ import annotations

import pytest
from embedded import execute
from native import run_natively

from ptshare_plugin import workloads

MIB = 1 << 20
# misuse prints what the kernel answers, which is what policies differ in.
JUDGING = [name for name in workloads.names() if name != "misuse"]


@pytest.mark.parametrize("procs", [1, 2, 5])
@pytest.mark.parametrize("policy", ["private", "ptshare"])
@pytest.mark.parametrize("name", JUDGING)
def test_same_lines_as_on_this_kernel(name: str, policy: str, procs: int) -> None:
    done = execute(name, policy=policy, procs=procs, region=4 * MIB)
    native = run_natively(name, procs, region=4 * MIB, share=True)
    assert done.output_lines() == native.lines
    assert [rank.status for rank in done.ranks] == native.statuses


def test_more_processes_than_cores() -> None:
    for name in JUDGING:
        done = execute(name, procs=12, region=4 * MIB, cores=3)
        assert len(done.output_lines()) == 12


def test_misuse_with_private_tables_answers_as_linux() -> None:
    done = execute("misuse", policy="private", procs=2, region=8 * MIB)
    assert done.output_lines() == run_natively("misuse", 2, region=8 * MIB, share=True).lines


def test_misuse_with_shared_tables() -> None:
    done = execute("misuse", procs=2, region=8 * MIB)
    answers = dict(word.split("=") for word in done.output_lines()[0].split()[4:])
    refused = {
        "unaligned",
        "odd_size",
        "private",
        "anonymous",
        "other_address",
        "other_length",
        "less_protection",
        "unmap_part",
        "remap",
        "map_over_part",
    }  # S1, S2, S3, S10
    assert {name for name, answer in answers.items() if answer == "EINVAL"} == refused | {
        "no_length",
        "odd_offset",
        "unmap_odd",
        "protect_odd",
    }
    assert answers["read_only_file"] == answers["protect_beyond_file"] == "EACCES"
    assert answers["read_past_end"] == "EFAULT"
    assert answers["unmap_all"] == "ok"
