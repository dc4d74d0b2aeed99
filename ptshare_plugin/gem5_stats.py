"""gem5's ``m5out`` folder in ptshare's vocabulary."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ptshare_plugin import metrics
from ptshare_plugin.engines import ProcessResult
from ptshare_plugin.errors import UserError, os_reason
from ptshare_plugin.files import read_json
from ptshare_plugin.metrics import ALL
from ptshare_plugin.spec import identity_hash

RECORD, STATS_TXT = "ptshare.json", "stats.txt"

Row = tuple[int, str, int | float]

_BEGIN, _END = "---------- Begin", "---------- End"
_LINE = re.compile(r"^(\S+)\s+(-?[0-9.e+-]+|nan|inf)\s")
_OWN = re.compile(r"^system\.kernel\.(?:process(\d+)\.)?(.+)$")
# gem5's own statistics: of CPU n's part, and of the system's.
_CACHES = {
    "icache": "l1i",
    "dcache": "l1d",
    "l2cache": "l2",
}
_IDENTITY = (
    *("engine", "policy", "program", "args", "procs", "cores", "region_bytes", "share"),
    *("seed", "work", "config", "cpu", "memory"),
)
_COUNTS = {"overallAccesses::total": "accesses", "overallMisses::total": "misses"}


def read_record(folder: Path) -> dict[str, Any]:
    """What ``gem5_configs/ptshare.py`` noted about its run."""
    path = folder / RECORD
    record = read_json(path)
    if not isinstance(record, dict) or "dumps" not in record:
        raise UserError(f"{path}: damaged: not the record of a gem5 run of ptshare")
    if record.get("policy") is None:
        raise UserError(f"{path}: a run of stock gem5, of which ptshare has no figures")
    record["run"] = identity_hash({key: record.get(key) for key in _IDENTITY})
    return record


def dumps(path: Path) -> list[dict[str, float]]:
    """Each dump of a stats.txt: statistics by name, those that are one number."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {os_reason(error)}") from error
    found: list[dict[str, float]] = []
    for line in lines:
        if line.startswith(_BEGIN):
            found.append({})
        elif line.startswith(_END):
            continue
        elif found and (match := _LINE.match(line)):
            found[-1][match[1]] = float(match[2])
    return found


def statistics(folder: Path, record: Mapping[str, Any]) -> list[Row]:
    """Raw metrics of the run in ``folder``, as an engine gives them."""
    path = folder / STATS_TXT
    parts = dumps(path)
    labels = record["dumps"]
    if len(parts) != len(labels):
        raise UserError(f"{path}: {len(parts)} dumps where {RECORD} has {len(labels)}")
    rows = list(_own(parts))
    rows += _caches(parts, int(record["procs"]), "")
    inside = [part for part, label in zip(parts, labels, strict=True) if label == "roi"]
    if inside:
        rows += _caches(inside, int(record["procs"]), "roi.")
    return rows


def _own(parts: list[dict[str, float]]) -> Iterator[Row]:
    """What ptshare's kernel object counts.

    Values of a process start anew at each dump; its region of interest and the machine's do not.
    """
    known = metrics.registry()
    last = parts[-1]
    for name, final in last.items():
        match = _OWN.match(name)
        if match is None or match[2] not in known:
            continue
        process, metric = match[1], match[2]
        value = final
        if process is not None and not metric.startswith("roi."):
            value = sum(part.get(name, 0) for part in parts)
        yield (ALL if process is None else int(process), metric, _number(value))


def _caches(parts: list[dict[str, float]], procs: int, prefix: str) -> Iterator[Row]:
    for part, level in _CACHES.items():
        for core in range(procs):
            cpu = "system.cpu" if procs == 1 else f"system.cpu{core}"
            yield from _counts(parts, f"{cpu}.{part}", core, f"{prefix}cache.{level}")
    yield from _counts(parts, "system.llc", ALL, f"{prefix}cache.llc")


def _counts(parts: list[dict[str, float]], place: str, process: int, metric: str) -> Iterator[Row]:
    for statistic, what in _COUNTS.items():
        name = f"{place}.{statistic}"
        if any(name in part for part in parts):
            total = sum(part.get(name, 0) for part in parts)
            yield (process, f"{metric}.{what}", _number(total))


def _number(value: float) -> int | float:
    return int(value) if value.is_integer() else value


def processes(folder: Path, record: Mapping[str, Any]) -> list[ProcessResult]:
    """How each process ended, and what it wrote."""
    results = []
    for rank, status in enumerate(record["statuses"]):
        killed = status < 0
        note = ""
        if killed and (
            match := re.search(rf"process {rank} was killed by \w+ \((.*)\)", record["cause"])
        ):
            note = match[1]
        results.append(
            ProcessResult(
                pid=int(record["first_pid"]) + rank,
                exit=0 if killed else status,
                signal=-status if killed else 0,
                stdout=_bytes(folder / f"process{rank}.out"),
                stderr=_bytes(folder / f"process{rank}.err"),
                note=note,
            )
        )
    return results


def _bytes(path: Path) -> bytes:
    return path.read_bytes() if path.is_file() else b""
