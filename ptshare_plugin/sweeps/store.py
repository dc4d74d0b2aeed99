"""The folder of a sweep: ``runs`` by run id, ``failed``, and ``tmp`` for what is being made."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ptshare_plugin.common import files
from ptshare_plugin.common.errors import UserError, UserErrors, os_reason
from ptshare_plugin.records.folders import sync_entry
from ptshare_plugin.records.run_folder import M5OUT, OUTPUT, RUN_JSON, STATS
from ptshare_plugin.runs.options import Options
from ptshare_plugin.sweeps.plan import Point, keeps_m5out

RUNS, FAILED, TMP, LOCK = "runs", "failed", "tmp", "lock"
_PARQUET = b"PAR1"  # its first and its last bytes


@contextmanager
def locked(out: Path) -> Iterator[None]:
    """Make the folder ``out`` and have it alone."""
    try:
        for name in (RUNS, FAILED, TMP):
            (out / name).mkdir(parents=True, exist_ok=True)
        lock = (out / LOCK).open("a")
    except OSError as error:
        raise UserError(
            f"cannot be written: {os_reason(error)}",
            option="output",
            value=out,
        ) from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UserError(
                "another sweep is writing to it",
                option="output",
                value=out,
            ) from error
        yield


def finished(out: Path, points: list[Point]) -> set[str]:
    """Runs of ``points`` that are made; a UserErrors names folders that are not whole."""
    found = names(out / RUNS) & {point.run for point in points}
    damaged = []
    for folder in (out / RUNS / run for run in sorted(found)):
        try:
            _check(folder)
        except UserError as error:
            damaged.append(f"{error}; remove the folder {folder} to have the run made again")
    if damaged:
        raise UserErrors(damaged)
    return found


def _check(folder: Path) -> None:
    """Refuse a run folder that lacks a file, or whose files were cut off or mixed up.

    Whether every figure can be read is found when they are: that takes longer than some runs.
    """
    for name in (RUN_JSON, STATS, OUTPUT):
        if not (folder / name).is_file():
            raise UserError(f"{folder / name}: missing")
    record = files.read_json(folder / RUN_JSON)
    if not isinstance(record, dict) or record.get("run") != folder.name:
        raise UserError(f"{folder / RUN_JSON}: damaged: not the record of run {folder.name}")
    try:
        with (folder / STATS).open("rb") as file:
            ends = [file.read(4)]
            file.seek(-4, os.SEEK_END)
            ends.append(file.read(4))
    except OSError as error:  # shorter than that
        ends = [os_reason(error).encode()]
    if ends != [_PARQUET, _PARQUET]:
        raise UserError(f"{folder / STATS}: damaged: not a whole Parquet file")


def without_m5out(out: Path, points: list[Point]) -> int:
    """How many runs of ``points``, which are made, lack gem5's own files."""
    return sum(
        keeps_m5out(point.options) and not (out / RUNS / point.run / M5OUT).is_dir()
        for point in points
    )


def failed(out: Path, points: list[Point]) -> set[str]:
    """Runs of ``points`` that have failed before."""
    return {Path(name).stem for name in names(out / FAILED)} & {point.run for point in points}


def names(folder: Path) -> set[str]:
    """What is in ``folder``, if there is one; half-written files left out."""
    try:
        return {entry.name for entry in os.scandir(folder) if not entry.name.startswith(".")}
    except FileNotFoundError:
        return set()
    except OSError as error:
        raise UserError(f"{folder}: cannot be read: {os_reason(error)}") from error


def record_failure(
    out: Path, run: str, options: Options, reason: str, seconds: float, tail: list[str]
) -> None:
    """Keep that a run failed, and why."""
    record = {
        "run": run,
        "command": options.command(),
        "reason": reason,
        "seconds": seconds,
        "output": tail,
    }
    with files.replacing(out / FAILED / f"{run}.json") as partial:
        partial.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
        sync_entry(partial)


def forget_failure(out: Path, run: str) -> None:
    """The run is to be tried again, or has been made."""
    (out / FAILED / f"{run}.json").unlink(missing_ok=True)
