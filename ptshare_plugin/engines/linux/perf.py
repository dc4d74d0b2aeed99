"""Hardware counters of processes, through perf_event_open(2), where the machine has them.

A figure that cannot be counted is absent, never zero.
"""

from __future__ import annotations

import ctypes
import os
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field

from ptshare_plugin.engines.linux import proc

_SYSCALL = 298
_HARDWARE, _HW_CACHE, _RAW = 0, 3, 4  # perf_type_id
_ATTR_BYTES = 112  # PERF_ATTR_SIZE_VER5
_INHERIT, _EXCLUDE_KERNEL, _EXCLUDE_HV = 1 << 1, 1 << 5, 1 << 6
_TIMES = 3  # PERF_FORMAT_TOTAL_TIME_ENABLED | _RUNNING
_CLOEXEC = 8  # PERF_FLAG_FD_CLOEXEC
_DTLB, _ITLB = 3, 4  # perf_hw_cache_id
_READ, _WRITE = 0, 1  # perf_hw_cache_op_id
_MISS = 1  # perf_hw_cache_op_result_id


@dataclass(frozen=True, slots=True)
class Event:
    """One event; those of one metric are added. ``user``: kernel work does not count."""

    metric: str
    type: int
    config: int
    user: bool = True


def _tlb(metric: str, cache: int, operation: int) -> Event:
    return Event(metric, _HW_CACHE, cache | operation << 8 | _MISS << 16)


def events() -> list[Event]:
    """What is asked of this machine's processor.

    The kernel's generic TLB events are misses of the first level on AMD (LsL1DTlbMiss) and walks on
    Intel (DTLB_LOAD_MISSES.MISS_CAUSES_A_WALK): arch/x86/events/amd/core.c, intel/core.c.
    DTLB_LOAD_MISSES.WALK_PENDING is event 0x08, umask 0x10 from Skylake on (Intel SDM, volume 3B).
    """
    found = [Event("instructions", _HARDWARE, 1), Event("cycles.total", _HARDWARE, 0, user=False)]
    vendor = proc.cpuinfo("vendor_id")
    if vendor == "AuthenticAMD":
        found += [
            _tlb("tlb.dtlb.misses", _DTLB, _READ),
            _tlb("tlb.itlb.misses", _ITLB, _READ),
        ]
    elif vendor == "GenuineIntel":
        found += [
            _tlb("walk.data", _DTLB, _READ),
            _tlb("walk.data", _DTLB, _WRITE),
            _tlb("walk.fetch", _ITLB, _READ),
            Event("walk.cycles", _RAW, 0x1008),
        ]
    return found


@dataclass(slots=True)
class Counters:
    """Counters of one process and what it forks, running since they were opened."""

    open: list[tuple[str, int]]
    """Metric and descriptor."""
    _begin: dict[str, float] = field(default_factory=dict)
    _inside: dict[str, float] = field(default_factory=dict)

    def read(self) -> dict[str, float]:
        """Values so far by metric; scaled where the kernel shared a counter out by time."""
        values: dict[str, float] = {}
        lost: set[str] = set()
        for metric, fd in self.open:
            count, enabled, running = struct.unpack("<QQQ", os.read(fd, 24))
            if running:
                values[metric] = values.get(metric, 0) + count * enabled / running
            elif enabled:
                lost.add(metric)  # it was never counted
        return {name: value for name, value in values.items() if name not in lost}

    def mark(self, begin: bool) -> None:
        """The region of interest begins or ends."""
        now = self.read()
        if begin:
            self._begin = now
            return
        for name, value in now.items():
            if name in self._begin:
                self._inside[name] = self._inside.get(name, 0) + value - self._begin[name]
        self._begin = {}

    def inside(self) -> dict[str, float]:
        """Values between the marks."""
        return dict(self._inside)

    def close(self) -> None:
        """Give the descriptors back."""
        for _, fd in self.open:
            os.close(fd)
        self.open = []


def open_counters(pid: int, wanted: Sequence[Event] | None = None) -> Counters | None:
    """Counters of ``pid``, which stands still; None where the machine has none of them.

    A metric of several events is there when all of them are.
    """
    opened: list[tuple[str, int]] = []
    missing: set[str] = set()
    for event in events() if wanted is None else wanted:
        fd = _open(event, pid)
        if fd is None:
            missing.add(event.metric)
        else:
            opened.append((event.metric, fd))
    for metric, fd in opened:
        if metric in missing:
            os.close(fd)
    kept = [(metric, fd) for metric, fd in opened if metric not in missing]
    return Counters(kept) if kept else None


def _open(event: Event, pid: int) -> int | None:
    flags = _INHERIT | _EXCLUDE_HV | (_EXCLUDE_KERNEL if event.user else 0)
    attr = struct.pack("<IIQQQQQ", event.type, _ATTR_BYTES, event.config, 0, 0, _TIMES, flags)
    buffer = ctypes.create_string_buffer(attr.ljust(_ATTR_BYTES, b"\0"), _ATTR_BYTES)
    fd = ctypes.CDLL(None).syscall(
        ctypes.c_long(_SYSCALL),
        buffer,
        ctypes.c_int(pid),
        ctypes.c_int(-1),
        ctypes.c_int(-1),
        ctypes.c_ulong(_CLOEXEC),
    )
    return None if fd < 0 else int(fd)
