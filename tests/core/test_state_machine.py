"""Random operations of random processes: does user space see what the oracle predicts, under every
policy, and do the kernel's counters equal recounts after every step?

Invariants: 1 counters equal recounts, 2 table frames have owners and go with them, 3 links and
guests, 4 one file page has one content for all, 5 no translation outlives a flush that it needed,
6 (class Twin) policies agree where no sharing is asked, 7 a kernel that was saved and restored goes
on as if nothing had been.

    pytest tests/core                                  what CI runs, about a minute
    PTSHARE_EXAMPLES=5000 pytest tests/core            a longer search
"""

from __future__ import annotations

from typing import Any

import pytest
from checked import drive
from machine import MemoryMachine
from rules import RULES, rules_of

from ptshare_plugin import policies

OPTIONS = {
    "no-fault-around": {"fault_around_bytes": 4096},
    "fault-around": {"fault_around_bytes": 65536},
    "5-level-dirty-tracking": {
        "fault_around_bytes": 4096,
        "levels": 5,
        "dirty_tracking": True,
        "pt_reclaim": True,
    },
}
WHAT_POLICIES_LEAVE_OPEN = {
    "any-address-and-memory": {"share_any_address": True, "share_anonymous": True},
    "pmd-tables": {"share_level": "pmd"},
    "pte-tables": {"share_level": "pte"},
}
MORE = [("ptshare", "any-address-and-memory"), ("ptshare", "pmd-tables"), ("mshare", "pte-tables")]


def run(policy: str, options: dict[str, Any]) -> None:
    if policy != "twin":
        rules_of(policy, options)  # says so where there are none
    drive(type("Machine", (MemoryMachine,), {"policy": policy, "options": options}))


@pytest.mark.parametrize("policy", [*policies.names(), "twin"])
@pytest.mark.parametrize("options", OPTIONS)
def test_user_space_sees_what_the_oracle_predicts(policy: str, options: str) -> None:
    run(policy, OPTIONS[options])


@pytest.mark.parametrize(("policy", "options"), MORE)
def test_options_of_a_policy_change_what_the_oracle_predicts(policy: str, options: str) -> None:
    run(policy, WHAT_POLICIES_LEAVE_OPEN[options])


def test_a_policy_that_the_oracle_does_not_know_fails() -> None:
    with pytest.raises(AssertionError, match=r"policy slots .* add it to RULES"):
        run("slots", {})
    assert sorted(RULES) == sorted(policies.names())
