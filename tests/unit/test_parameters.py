"""What the extension module refuses of a machine's parameters, whoever hands them to it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from ptshare_plugin.engines.embedded import unicorn_library
from ptshare_plugin.machine import config
from ptshare_plugin.machine.schema import KEYS, Value, flatten

core: Any = pytest.importorskip("ptshare_plugin._core", reason="ptshare is not built")

Parameters = dict[str, Value]

FACES: dict[str, Callable[[Parameters], object]] = {
    "Simulation": lambda params: core.Simulation(params, "ptshare", 1, 1, str(unicorn_library())),
    "Deployment": lambda params: core.Deployment(params, "ptshare", 2 << 20),
    "policy_shares_tables": lambda params: core.policy_shares_tables(params, "ptshare"),
}
CHOICES = [key for key in KEYS.values() if key.choices and not key.name.startswith("gem5.")]


def parameters(**changes: Value) -> Parameters:
    flat = {key: value for key, value in flatten(config.load("server")).items()}
    known = {key: value for key, value in flat.items() if not key.startswith("gem5.")}
    return known | changes


@pytest.mark.parametrize("key", CHOICES, ids=lambda key: key.name)
def test_every_choice_of_the_schema_is_taken(key: Any) -> None:
    for choice in key.choices:
        FACES["Simulation"](parameters(**{key.name: choice}))


NONSENSE: tuple[tuple[str, Value, str], ...] = (
    ("share.level", "bogus", "policy, pte, pmd or pud, not 'bogus'"),
    ("share.level", 1, "policy, pte, pmd or pud, not '1'"),
    (
        "shootdown.strategy",
        "bogus",
        "policy, caller-only, all-cpus, sharers or lazy, not 'bogus'",
    ),
    ("cache.llc.inclusion", "l3", "inclusive or non-inclusive, not 'l3'"),
    ("mmu.walk_cache.invlpg", "l3", "pcid or page, not 'l3'"),
    ("mmu.walker.port", "l3", "l1d or l2, not 'l3'"),
    ("mmu.levels", 3, "4 or 5, not 3"),
    ("kernel.fault_around_bytes", 5000, "a power of two from 4096 to 2097152, not 5000"),
)


CACHES = ("cache.llc.inclusion", "mmu.walker.port")


@pytest.mark.parametrize(
    ("face", "key", "value", "right"),
    [
        (face, *case)
        for face in FACES
        for case in NONSENSE
        # A deployment has no caches.
        if (face, case[0]) not in {("Deployment", key) for key in CACHES}
    ],
)
def test_what_is_no_choice_is_one_line(face: str, key: str, value: Value, right: str) -> None:
    with pytest.raises(ValueError) as told:
        FACES[face](parameters(**{key: value}))
    assert str(told.value) == f"parameter {key} must be {right}"


def test_the_cases_above_name_every_choice_there_is() -> None:
    assert {key.name for key in CHOICES} <= {key for key, _, _ in NONSENSE}


def test_a_key_that_nobody_reads_is_refused() -> None:
    with pytest.raises(ValueError) as told:
        FACES["Simulation"](parameters(**{"share.levels": "pmd", "mmu.bogus": 1}))
    assert str(told.value) == "unknown parameters: mmu.bogus, share.levels"


def test_cores_kernel_refuses_the_same() -> None:
    with pytest.raises(ValueError) as told:
        core.Kernel("ptshare", 1 << 24, share_level="bogus")
    assert str(told.value) == "share_level must be policy, pte, pmd or pud, not 'bogus'"
    with pytest.raises(ValueError) as told:
        core.Kernel("ptshare", 1 << 24, levels=6)
    assert str(told.value) == "levels must be 4 or 5, not 6"
