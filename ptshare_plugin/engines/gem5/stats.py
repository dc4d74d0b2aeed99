"""gem5's ``m5out`` folder in ptshare's vocabulary."""

from __future__ import annotations

import re
import signal
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ptshare_plugin.common.errors import UserError, os_reason
from ptshare_plugin.common.files import read_json
from ptshare_plugin.engines.result import ProcessResult, Sample, Statistic, mark_statistics
from ptshare_plugin.metrics import registry as metrics
from ptshare_plugin.metrics.registry import ALL, ROI
from ptshare_plugin.spec.record import (
    COUNT,
    IDENTITY,
    LARGEST,
    anything,
    by_name,
    check,
    each,
    text,
    whole,
)
from ptshare_plugin.spec.run import IDENTITY as HASHED
from ptshare_plugin.spec.run import identity_hash

# What PtshareKernel.status gives for a process that has not ended.
_RUNNING = -1000
RECORD, STATS_TXT = "ptshare.json", "stats.txt"

_BEGIN, _END = "---------- Begin", "---------- End"
_LINE = re.compile(r"^(\S+)\s+(-?[0-9.e+-]+|nan|inf)\s")
_OWN = re.compile(r"^system\.kernel\.(?:process(\d{1,9})\.)?(.+)$", re.ASCII)
# What gem5 itself adds to any ClockedObject: how long it was in which power state.
_OF_ANY_OBJECT = "system.kernel.power_state."
# gem5's own statistics: of CPU n's part, and of the system's.
_CACHES = {
    "icache": "l1i",
    "dcache": "l1d",
    "l2cache": "l2",
}
# What is read of the record here; folders of older versions have no samples and no contexts.
_RECORD = IDENTITY | {"dumps": lambda value: each(text)(value) and value != []}
_OPTIONAL = {
    "contexts": COUNT,
    "config": by_name(anything),
    "gem5": text,
    "samples": each(
        lambda row: each(whole(0, (1 << 64) - 1))(row) and len(row) == 7 and row[0] < 1 << 16
    ),
}
_COUNTS = {"overallAccesses::total": "accesses", "overallMisses::total": "misses"}


def read_record(folder: Path) -> dict[str, Any]:
    """What ``gem5_configs/ptshare.py`` noted about its run."""
    path = folder / RECORD
    record = read_json(path)
    if not isinstance(record, dict) or "dumps" not in record:
        raise UserError(f"{path}: damaged: not the record of a gem5 run of ptshare")
    if record.get("policy") is None:
        raise UserError(f"{path}: a run of stock gem5, of which ptshare has no figures")
    check(record, _RECORD, path, _OPTIONAL)
    record["run"] = identity_hash({key: record.get(key) for key in HASHED})
    return record


def dumps(path: Path) -> list[dict[str, float]]:
    """Each dump of a stats.txt: statistics by name, those that are one number."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {os_reason(error)}") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: damaged: not a text file (UTF-8)") from error
    found: list[dict[str, float]] = []
    for line in lines:
        if line.startswith(_BEGIN):
            found.append({})
        elif line.startswith(_END):
            continue
        elif found and (match := _LINE.match(line)):
            try:
                found[-1][match[1]] = float(match[2])
            except ValueError as error:
                raise UserError(f"{path}: damaged: {match[1]} is {match[2]}") from error
    return found


def statistics(folder: Path, record: Mapping[str, Any]) -> list[Statistic]:
    """Raw metrics of the run in ``folder``, as an engine gives them."""
    path = folder / STATS_TXT
    parts = dumps(path)
    labels = record["dumps"]
    if len(parts) != len(labels):
        raise UserError(f"{path}: {len(parts)} dumps where {RECORD} has {len(labels)}")
    rows = [*_own(path, parts), *mark_statistics(samples(record))]
    rows += _caches(parts, record, "")
    inside = [part for part, label in zip(parts, labels, strict=True) if label == "roi"]
    if inside:
        rows += _caches(inside, record, ROI)
    for _, name, value in rows:
        if abs(value) > LARGEST:
            raise UserError(f"{path}: damaged: {name} is {value}")
    return rows


def samples(record: Mapping[str, Any]) -> list[Sample]:
    """What processes had at their marks."""
    return [Sample(*row) for row in record.get("samples", [])]  # older folders have none


def _own(path: Path, parts: list[dict[str, float]]) -> Iterator[Statistic]:
    """What ptshare's kernel object counts.

    Values of a process start anew at each dump; its region of interest and the machine's do not.

    :raises UserError: a statistic of it that is no metric.
    """
    known = metrics.registry()
    last = parts[-1]
    for name, final in last.items():
        match = _OWN.match(name)
        if match is None or name.startswith(_OF_ANY_OBJECT):
            continue
        process, metric = match[1], match[2]
        if metric not in known:
            raise UserError(
                f"{path}: {name}: the vocabulary has no metric {metric}; the run's gem5 module is "
                "of another version of ptshare: build it again and repeat the run"
            )
        value = final
        if process is not None and not metric.startswith(ROI):
            value = sum(part.get(name, 0) for part in parts)
        yield (ALL if process is None else int(process), metric, _number(value))


def _caches(
    parts: list[dict[str, float]], record: Mapping[str, Any], prefix: str
) -> Iterator[Statistic]:
    """Accesses and misses of the caches.

    Those of a CPU are for the process that started on it, unless processes share cores.
    """
    procs, cores = int(record["procs"]), int(record["cores"])
    contexts = int(record.get("contexts", cores))  # older folders have none
    alone = procs if contexts <= cores else 0
    for part, level in _CACHES.items():
        places = ["system.cpu" if contexts == 1 else f"system.cpu{core}" for core in range(cores)]
        for statistic, what in _COUNTS.items():
            counts = [_total(parts, f"{place}.{part}.{statistic}") for place in places]
            metric = f"{prefix}cache.{level}.{what}"
            for process, count in enumerate(counts[:alone]):
                if count is not None:
                    yield (process, metric, count)
            if cores > alone and any(counts):
                # What ran on shared CPUs, or on those for what processes fork, is in the sum alone.
                yield (ALL, metric, sum(count or 0 for count in counts))
    for statistic, what in _COUNTS.items():
        count = _total(parts, f"system.llc.{statistic}")
        if count is not None:
            yield (ALL, f"{prefix}cache.llc.{what}", count)


def _total(parts: list[dict[str, float]], name: str) -> int | float | None:
    """Sum of a statistic over dumps; None where none has it."""
    found = [part[name] for part in parts if name in part]
    return _number(sum(found)) if found else None


def _number(value: float) -> int | float:
    return int(value) if value.is_integer() else value


def processes(folder: Path, record: Mapping[str, Any]) -> list[ProcessResult]:
    """How each process ended, and what it wrote."""
    results = []
    for rank, status in enumerate(record["statuses"]):
        note = ""
        if status == _RUNNING:
            status, note = -signal.SIGKILL, "ended because another process crashed"
        killed = status < 0
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
