"""The sharing policies that there are, and what holds of each: what its own file in core states.

A policy is one file in ``native/core/policies/``. Importing this imports nothing of core, so that
it can be used inside gem5, whose module has the same ``policies()``.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ptshare_plugin.common.errors import EXIT_USAGE, NOT_BUILT, UserError

if TYPE_CHECKING:
    from ptshare_plugin._core import PolicyInfo

BASELINE = "private"
"""What all others are compared with: every process has its own tables."""


@functools.cache
def known() -> dict[str, PolicyInfo]:
    """Every policy by its name, in the order in which lists and plots have them.

    :raises UserError: neither the extension module nor, inside gem5, ptshare's is there.
    """
    try:
        from ptshare_plugin._core import policies
    except ImportError as error:
        # What ``board.load_module`` brought into gem5.
        inside = getattr(sys.modules.get("_m5"), "ptshare", None)
        if inside is None:
            raise UserError(f"{NOT_BUILT} ({error})") from error
        policies = inside.policies
    return {info.name: info for info in policies()}


def names() -> list[str]:
    """Names of all policies, in that order."""
    return list(known())


def check_distinct(chosen: Sequence[str]) -> None:
    """Refuse a policy that is named twice: results are told apart by its name."""
    twice = [name for i, name in enumerate(chosen) if name in chosen[:i]]
    if twice:
        raise UserError(f"{twice[0]} is named twice", EXIT_USAGE, option="policy")


def described() -> list[tuple[str, str]]:
    """Name and one-line description of each."""
    return [(info.name, info.description) for info in known().values()]


def candidates() -> list[str]:
    """The baseline and what is weighed against it where nobody names the policies."""
    return [name for name, info in known().items() if name == BASELINE or info.candidate]


def place(name: str) -> int:
    """Where a policy stands in lists; behind all others for one that this ptshare has not."""
    return names().index(name) if name in known() else len(known())
