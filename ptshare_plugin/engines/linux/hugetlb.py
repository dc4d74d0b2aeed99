"""Huge pages of hugetlbfs for a run, without a mount, and given back afterwards."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ptshare_plugin.common.errors import UserError, os_reason
from ptshare_plugin.common.units import PMD_BYTES, exact_size
from ptshare_plugin.engines.linux import proc

_POOL = Path("/sys/kernel/mm/hugepages/hugepages-2048kB")
_NUMBER, _FREE, _RESERVED = (
    _POOL / "nr_hugepages",
    _POOL / "free_hugepages",
    _POOL / "resv_hugepages",
)


def _read(path: Path) -> int:
    return int(path.read_text(encoding="ascii"))


def setting_to_restore() -> list[str]:
    """File and value of the kernel's setting that ``file`` may change; empty where it cannot."""
    if not os.access(_NUMBER, os.W_OK):
        return []
    return [str(_NUMBER), str(_read(_NUMBER))]


@contextmanager
def alone(wanted: bool) -> Iterator[list[int]]:
    """Wait for other runs that may change the setting: each would restore the other's.

    Gives the descriptor that holds the lock; none where it is not ``wanted`` or the setting cannot
    be changed.
    """
    if not wanted or not os.access(_NUMBER, os.W_OK):
        yield []
        return
    lock = os.open(_NUMBER, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield [lock]
    finally:
        os.close(lock)


@contextmanager
def file(size: int) -> Iterator[Path]:
    """A file of hugetlbfs that takes ``size`` bytes, as a path that other processes can open.

    Reserves huge pages where too few are free, which takes root.
    """
    pages = -(-size // PMD_BYTES)
    _provide(pages, size)
    fd = os.memfd_create("ptshare-region", os.MFD_CLOEXEC | os.MFD_HUGETLB | os.MFD_HUGE_2MB)
    try:
        yield Path(f"/proc/{os.getpid()}/fd/{fd}")
    finally:
        os.close(fd)


def _provide(pages: int, size: int) -> None:
    if not _POOL.is_dir():
        raise UserError("policy hugetlb-pmd: this kernel has no hugetlbfs with 2 MiB pages")
    before, lacking = _read(_NUMBER), pages - (_read(_FREE) - _read(_RESERVED))
    if lacking <= 0:
        return
    need = f"policy hugetlb-pmd: {lacking} more huge pages are needed for {exact_size(size)}"
    if not os.access(_NUMBER, os.W_OK):
        raise UserError(
            f"{need}; run as root, or ask for 'sysctl vm.nr_hugepages={before + lacking}'"
        )
    if lacking * PMD_BYTES > proc.available():
        raise UserError(f"{need}, and {exact_size(proc.available())} of memory is available")
    try:
        _NUMBER.write_text(str(before + lacking), encoding="ascii")
    except OSError as error:
        raise UserError(f"{need}: {_NUMBER}: {os_reason(error)}") from error
    if _read(_FREE) - _read(_RESERVED) < pages:
        raise UserError(f"{need}, and the kernel found too little contiguous memory")
