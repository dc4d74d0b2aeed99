"""Kernels that must not be told apart: every call goes to all, every answer must be equal."""

from __future__ import annotations

from typing import Any

from ptshare_plugin._core import Kernel


class Twin:
    """One kernel for each policy, and those that go on beside their restored copies.

    Invariant 6: without MAP_SHARED_PT the policies give the same answers, faults and tables.
    """

    def __init__(self, policies: tuple[str, ...], memory_bytes: int, **options: Any) -> None:
        self._policies = policies
        self._kernels = [Kernel(policy, memory_bytes, **options) for policy in policies]

    def save_and_restore(self, beside: bool) -> None:
        """Put restored copies in the kernels' places; `beside`: these go on too, in step."""
        originals = self._kernels[: len(self._policies)]
        copies = [kernel.restored() for kernel in originals]
        for original, copy in zip(originals, copies, strict=True):
            assert copy.save() == original.save()
        self._kernels = copies + (originals if beside else [])

    def __getattr__(self, name: str) -> Any:
        def all_of_them(*args: Any, **named: Any) -> Any:
            first, *others = (getattr(kernel, name)(*args, **named) for kernel in self._kernels)
            for other in others:
                assert first == other, f"{name}: {self._policies} differ: {first} {other}"
            return first

        return all_of_them
