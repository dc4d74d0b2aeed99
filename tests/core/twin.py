"""Two kernels that must not be told apart: every call goes to both, every answer must be equal."""

from __future__ import annotations

from typing import Any

from ptshare_plugin._core import Kernel


class Twin:
    """Invariant 6: without MAP_SHARED_PT the policies give the same answers, faults and tables."""

    def __init__(self, memory_bytes: int, **options: Any) -> None:
        self._kernels = [Kernel(policy, memory_bytes, **options) for policy in self.policies]

    policies = ("private", "ptshare")

    def __getattr__(self, name: str) -> Any:
        def both(*args: Any, **named: Any) -> Any:
            first, second = (getattr(kernel, name)(*args, **named) for kernel in self._kernels)
            assert first == second, f"{name}: {self.policies} differ: {first} {second}"
            return first

        return both
