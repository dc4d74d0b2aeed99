"""The sharing policies that there are, and what holds of each: what its own file in core states.

A policy is one file in ``native/core/policies/``. Importing this imports nothing of core: inside
gem5 it is gem5's module that has it, once that is loaded.
"""

from __future__ import annotations

import functools
import sys
from typing import TYPE_CHECKING, Any

from ptshare_plugin.common.errors import EXIT_USAGE, UserError

if TYPE_CHECKING:
    from ptshare_plugin._core import PolicyInfo

BASELINE = "private"
"""What all others are compared with: every process has its own tables."""


@functools.cache
def known() -> dict[str, PolicyInfo]:
    """Every policy by its name, in the order in which lists and plots have them.

    :raises ImportError: the extension module is not built.
    :raises UserError: inside a gem5 without ptshare's module.
    """
    return {info.name: info for info in _stated()}


def _stated() -> list[PolicyInfo]:
    gem5: Any = sys.modules.get("_m5")
    if gem5 is None:
        from ptshare_plugin import _core

        return _core.policies()
    if not hasattr(gem5, "ptshare"):
        raise UserError("stock gem5 has none; leave it out", EXIT_USAGE, option="policy")
    return list(gem5.ptshare.policies())


def names() -> list[str]:
    """Names of all policies, in that order."""
    return list(known())


def described() -> list[tuple[str, str]]:
    """Name and one-line description of each."""
    return [(info.name, info.description) for info in known().values()]


def candidates() -> list[str]:
    """The baseline and what is weighed against it where nobody names the policies."""
    return [name for name, info in known().items() if name == BASELINE or info.candidate]


def place(name: str) -> int:
    """Where a policy stands in lists; behind all others for one that this ptshare has not."""
    return names().index(name) if name in known() else len(known())
