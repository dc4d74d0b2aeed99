"""What the kernel says in ``/proc`` and ``/sys``, in bytes."""

from __future__ import annotations

import contextlib
import ctypes
import mmap
import os
import platform
import struct
from dataclasses import dataclass
from pathlib import Path

from ptshare_plugin.common.units import PAGE_BYTES, PMD_BYTES

_SYS_MM = Path("/sys/kernel/mm/transparent_hugepage")
_STAT_REFRESH = Path("/proc/sys/vm/stat_refresh")
_PRESENT = 1 << 63  # of a word of /proc/PID/pagemap


@dataclass(frozen=True, slots=True)
class Memory:
    """One process's memory, in bytes: page tables as VmPTE counts them, and resident pages."""

    page_tables: int
    rss_anon: int
    rss_file: int
    peak_rss: int


def _fields(path: str) -> dict[str, str]:
    text = Path(path).read_text(encoding="ascii", errors="replace")
    return {
        name: rest.strip() for name, _, rest in (line.partition(":") for line in text.splitlines())
    }


def _kib(fields: dict[str, str], name: str) -> int:
    return int(fields[name].split()[0]) * 1024 if name in fields else 0


def memory(pid: int) -> Memory:
    """Of process ``pid``, which must stand still.

    Resident pages come from ``smaps_rollup``, which walks the tables: the counters of ``status``
    lag behind on some kernels. It leaves out the zero page, as they do.
    """
    status = _fields(f"/proc/{pid}/status")
    rollup = _fields(f"/proc/{pid}/smaps_rollup")
    anon = _kib(rollup, "Anonymous")
    return Memory(
        page_tables=_kib(status, "VmPTE"),
        rss_anon=anon,
        rss_file=_kib(rollup, "Rss") - anon,
        peak_rss=_kib(status, "VmHWM"),
    )


def thread_faults(tid: int) -> tuple[int, int]:
    """Minor and major faults of thread ``tid`` since it was made."""
    text = Path(f"/proc/{tid}/task/{tid}/stat").read_text(encoding="ascii", errors="replace")
    rest = text.rpartition(")")[2].split()
    return int(rest[7]), int(rest[9])


def family(tid: int) -> tuple[int, int]:
    """The process that thread ``tid`` belongs to, and that one's parent."""
    fields = _fields(f"/proc/{tid}/status")
    return int(fields["Tgid"]), int(fields["PPid"])


def page_tables() -> int:
    """``PageTables`` of ``/proc/meminfo``: all page-table pages of the machine, each once.

    The batches that the CPUs keep are brought in first, which takes root; without, up to 125 pages
    a CPU (``MAX_THRESHOLD`` of mm/vmstat.c) are not in it.
    """
    with contextlib.suppress(OSError):
        _STAT_REFRESH.read_bytes()
    return _kib(_fields("/proc/meminfo"), "PageTables")


def available() -> int:
    """``MemAvailable``: memory that can be had without swapping."""
    return _kib(_fields("/proc/meminfo"), "MemAvailable")


def cpuinfo(name: str) -> str:
    """What ``/proc/cpuinfo`` says of ``name`` for the first CPU; nothing where it does not."""
    with contextlib.suppress(OSError):
        text = Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace")
        for line in text.splitlines():
            title, colon, value = line.partition(":")
            if colon and title.strip() == name:
                return value.strip()
    return ""


def _chosen(path: Path) -> str:
    """The value in brackets of a setting that lists all its values."""
    try:
        text = path.read_text(encoding="ascii")
    except OSError:
        return "not there"
    return text.partition("[")[2].partition("]")[0] or text.strip()


def settings() -> dict[str, str | int]:
    """The kernel and those of its settings that the figures depend on."""
    return {
        "release": platform.release(),
        "version": platform.version(),
        "cpu": cpuinfo("model name") or platform.processor(),
        "cpus": len(os.sched_getaffinity(0)),
        "page_bytes": os.sysconf("SC_PAGE_SIZE"),
        "fault_around_bytes": fault_around_bytes(),
        "transparent_hugepage": _chosen(_SYS_MM / "enabled"),
        "shmem_transparent_hugepage": _chosen(_SYS_MM / "shmem_enabled"),
    }


def fault_around_bytes() -> int:
    """The kernel's fault-around window, measured: what one read of a cached file page maps.

    The setting itself is in debugfs, which few can read.
    """
    pages = 2 * PMD_BYTES // PAGE_BYTES
    fd = os.memfd_create("ptshare-fault-around", os.MFD_CLOEXEC)
    try:
        os.write(fd, bytes(2 * PMD_BYTES))
        with mmap.mmap(
            fd, 2 * PMD_BYTES, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE
        ) as area:
            anchor = ctypes.c_char.from_buffer(area)
            start = ctypes.addressof(anchor)
            del anchor  # the mapping could not be closed
            # A page in the middle of a PTE table that lies wholly in the mapping.
            table = -(-start // PMD_BYTES) * PMD_BYTES
            touched = area[table + PMD_BYTES // 2 - start]
            assert touched == 0
            with open("/proc/self/pagemap", "rb", buffering=0) as pagemap:
                words = os.pread(pagemap.fileno(), 8 * pages, start // PAGE_BYTES * 8)
        return PAGE_BYTES * sum(bool(w & _PRESENT) for (w,) in struct.iter_unpack("<Q", words))
    finally:
        os.close(fd)
