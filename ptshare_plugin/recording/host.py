"""The machine that a recording is made on."""

from __future__ import annotations

import os
import platform
import re
from pathlib import Path
from typing import Any


def describe() -> dict[str, Any]:
    """Processor, kernel, page size, and whether the kernel prefers large pages."""
    return {
        "cpu": _cpu(),
        "cpus": os.cpu_count(),
        "kernel": f"{platform.system()} {platform.release()}",
        "page_bytes": os.sysconf("SC_PAGE_SIZE"),
        "transparent_hugepage": _chosen("/sys/kernel/mm/transparent_hugepage/enabled"),
        "shmem_hugepage": _chosen("/sys/kernel/mm/transparent_hugepage/shmem_enabled"),
    }


def _cpu() -> str:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return "unknown"
    found = re.search(r"^model name\s*:\s*(.*)$", text, re.MULTILINE)
    return found[1] if found else "unknown"


def _chosen(path: str) -> str | None:
    try:
        found = re.search(r"\[(\w+)\]", Path(path).read_text(encoding="ascii"))
    except OSError:
        return None
    return found[1] if found else None
