"""What each policy makes of an area: core itself is asked."""

from __future__ import annotations

from collections.abc import Sequence

from ptshare_plugin import policies
from ptshare_plugin._core import Kernel
from ptshare_plugin.common.units import PMD_BYTES, exact_size
from ptshare_plugin.recording.space import Area

_MEMORY = 1 << 50
_SHARED, _PRIVATE, _FIXED, _ANONYMOUS, _SHARED_PT = 0x01, 0x02, 0x10, 0x20, 0x200000
SHARES = "shares"


def answers(area: Area, addresses: Sequence[int]) -> dict[str, str]:
    """For each policy that shares tables: ``shares``, or why not."""
    return {
        name: answer(name, area, addresses)
        for name, info in policies.known().items()
        if info.shares_tables
    }


def answer(policy: str, area: Area, addresses: Sequence[int]) -> str:
    """What two processes get that map it where they had it, asking for shared tables."""
    reason = _ask(policy, area, addresses, share_anonymous=False)
    alignment = Kernel(policy, _MEMORY).alignment()
    if reason != "anonymous":
        return _in_words(reason, area, alignment)
    other = _ask(policy, area, addresses, share_anonymous=True)
    if other == "anonymous":
        return "anonymous"
    return f"anonymous; share.anonymous=true: {_in_words(other, area, alignment)}"


def _ask(policy: str, area: Area, addresses: Sequence[int], share_anonymous: bool) -> str:
    """``shares``, or the first reason by core's name for it."""
    kernel = Kernel(policy, _MEMORY, share_anonymous=share_anonymous)
    one = kernel.create_mm()
    anonymous = area.what is not None and area.what[0] == "anonymous"
    flags = (_SHARED if area.shared else _PRIVATE) | _FIXED | _SHARED_PT
    file = -1
    if anonymous:
        flags |= _ANONYMOUS
    else:
        file = kernel.create_file("area", area.offset + area.bytes)
    prot = area.prot & 7
    first = addresses[0] if addresses else area.start
    kernel.mmap(one, first, area.bytes, prot, flags, file, area.offset)
    if anonymous:
        two = kernel.fork(one)
    else:
        two = kernel.create_mm()
        last = addresses[-1] if addresses else area.start
        kernel.mmap(two, last, area.bytes, prot, flags, file, area.offset)
    if any({one, two} <= set(host["guests"]) for host in kernel.hosts()):
        return SHARES
    stats = kernel.stats()
    refused = [name for name, count in stats["refusals"].items() if count]
    if refused:
        return str(refused[0])
    if not area.shared:
        return "private"
    if anonymous and stats["fell_back"]:
        return "anonymous"
    return "misaligned" if _misaligned(area) else "own tables"


def _misaligned(area: Area) -> bool:
    return area.start % PMD_BYTES != 0 or area.bytes % PMD_BYTES != 0


def _in_words(reason: str, area: Area, alignment: int) -> str:
    if reason == "misaligned":
        beyond = area.start % alignment
        if beyond:
            return f"misaligned: {exact_size(beyond)} past a multiple of {exact_size(alignment)}"
        return f"misaligned: its size, {exact_size(area.bytes)}, is no multiple of 2MiB"
    words = {
        "private": "mapped privately",
        "address": "not at one address",
        "size": "its file's size",
        "protection": "rights differ",
        "room": "no room",
    }
    return words.get(reason, reason)
