"""A Parquet dataset of many run folders: one row a run, appended to as runs come.

A file is replaced whole, so that others may read meanwhile. Writers take turns: each holds a lock
on the dataset's marker, the file that tells it from other folders.
"""

from __future__ import annotations

import fcntl
import functools
import itertools
import json
import os
import shlex
import sys
import urllib.parse
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ptshare_plugin.common import files
from ptshare_plugin.common.errors import UserError, os_reason
from ptshare_plugin.machine.schema import KEYS
from ptshare_plugin.metrics import registry as metrics
from ptshare_plugin.records import checks, frames
from ptshare_plugin.runs.run import identity_columns

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

MARKER = "_ptshare.json"  # readers of Parquet datasets pass over names that start with _
SCHEMA = 1
"""Version of a dataset's files; readers refuse others."""

PARTITION = "policy"
PART_ROWS = 1000
"""Rows of a full file; also how many runs are in memory at once."""

_STAMP = "written_ns"  # modification time of run.json: another one is another run
_COLUMNS = {
    "run": "string",
    "engine": "string",
    "policy": "string",
    "program": "string",
    "args": "string",
    "procs": "int64",
    "cores": "int64",
    "region_bytes": "int64",
    "share": "bool",
    "seed": "uint64",
    "work": "int64",
    "preset": "string",
    "run_id": "string",
    "program_sha256": "string",
    "started": "string",
    "ptshare": "string",
    "gem5": "string",
    "failed": "int64",
    "command": "string",
    _STAMP: "int64",
}
_KINDS = {bool: "bool", int: "int64", float: "float64", str: "string"}


@dataclass(slots=True)
class Gathered:
    """What a call of ``gather`` did.

    :param total: runs in the dataset now.
    :param added: runs that were read, those among them that ``replaced`` an older one included.
    :param skipped: why each folder that could not be read was left out.
    :param failed: folders, among those added, whose program failed.
    """

    total: int = 0
    added: int = 0
    replaced: int = 0
    skipped: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)


def is_dataset(path: str | os.PathLike[str]) -> bool:
    """Whether ``path`` is a folder that ``gather`` made."""
    return Path(path, MARKER).is_file()


# Gathering --------------------------------------------------------------------------------------


def gather(paths: Sequence[str | os.PathLike[str]], target: Path) -> Gathered:
    """Add all runs at or below ``paths`` to the dataset ``target``, which is made if need be.

    Runs that are in it are not read again, unless their folder was written anew. Folders that
    cannot be read are skipped: beside a running sweep they may come or go.

    :raises UserError: no run folder at all, or a ``target`` that cannot be used.
    """
    folders = [folder for path in paths for folder in frames.find(path)]
    target = Path(os.path.realpath(target))
    done = Gathered()
    with _locked(target):
        store = _Store(target)
        fresh = _fresh(folders, target, store.stamps(), done)
        while batch := list(itertools.islice(_rows(fresh, done), PART_ROWS)):
            _remove_wrong(batch, target.parent, done)
            done.added += len(batch)
            done.failed += [str(target.parent / row["run"]) for row in batch if row["failed"]]
            done.replaced += store.put(batch)
        done.total = len(store.stamps())
    if not done.total:
        raise UserError(f"no run could be read; {done.skipped[0]}")
    return done


@contextmanager
def _locked(target: Path) -> Iterator[None]:
    try:
        if target.exists() and not target.is_dir():
            raise UserError(
                "there is something else than a folder",
                option="output",
                value=target,
            )
        if target.is_dir() and not is_dataset(target) and any(target.iterdir()):
            raise UserError(
                "holds something else than a dataset; name a new folder, like "
                f"{target / 'summary'}",
                option="output",
                value=target,
            )
        target.mkdir(parents=True, exist_ok=True)
        marker = (target / MARKER).open("a+", encoding="utf-8")
    except OSError as error:
        raise UserError(
            f"cannot be made: {os_reason(error)}",
            option="output",
            value=target,
        ) from error
    with marker:
        try:
            _wait_for_lock(marker.fileno(), target)
            if not os.fstat(marker.fileno()).st_size:
                marker.write(json.dumps({"schema": SCHEMA, "rows": "runs"}) + "\n")
                marker.flush()
                os.fsync(marker.fileno())
        except OSError as error:
            raise UserError(
                f"cannot be locked: {os_reason(error)}",
                option="output",
                value=target,
            ) from error
        _check_marker(target)
        yield


def _wait_for_lock(descriptor: int, target: Path) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        sys.stderr.write(f"ptshare: {target}: waiting for another gathering to end\n")
        fcntl.flock(descriptor, fcntl.LOCK_EX)


def _check_marker(path: Path) -> None:
    marker = path / MARKER
    content = files.read_json(marker)
    if not isinstance(content, dict) or "schema" not in content:
        raise UserError(f"{marker}: damaged: not the marker of a dataset of ptshare")
    if content["schema"] != SCHEMA:
        raise UserError(
            f"{marker}: written in format {content['schema']}, this ptshare reads {SCHEMA}; "
            "gather into a new folder"
        )


@dataclass(frozen=True, slots=True)
class _Found:
    """A folder to read: its name in the dataset, and the stamp of its record."""

    folder: Path
    name: str
    stamp: int


def _fresh(
    folders: Iterable[Path], target: Path, known: Mapping[str, int], done: Gathered
) -> Iterator[_Found]:
    """Those of ``folders`` that are not in the dataset ``target``, whose runs are ``known``."""
    seen = set()
    for folder in folders:
        name = os.path.relpath(os.path.realpath(folder), target.parent)
        if name in seen:  # below two of the paths
            continue
        seen.add(name)
        try:
            stamp = frames.record_path(folder).stat().st_mtime_ns
        except OSError as error:
            done.skipped.append(f"{frames.record_path(folder)}: {os_reason(error)}")
            continue
        if known.get(name) != stamp:
            yield _Found(folder, name, stamp)


def _rows(fresh: Iterable[_Found], done: Gathered) -> Iterator[dict[str, Any]]:
    for found in fresh:
        try:
            yield _row(found)
        except UserError as error:
            done.skipped.append(str(error))


def _remove_wrong(rows: list[dict[str, Any]], place: Path, done: Gathered) -> None:
    """Take out rows whose damaged record has values that no column can hold."""
    if _misfit(rows) is None:  # the usual case, and much quicker than one by one
        return
    for row in list(rows):
        if (reason := _misfit([row])) is not None:
            rows.remove(row)
            done.skipped.append(f"{place / row['run']}: damaged: {reason}")


def _misfit(rows: Sequence[Mapping[str, Any]]) -> str | None:
    try:
        _table(rows, dict.fromkeys(name for row in rows for name in row))
    except Exception as error:  # Arrow has many kinds
        return " ".join(str(error).split())
    return None


def _row(found: _Found) -> dict[str, Any]:
    record, values = frames.read_whole(found.folder)
    path = frames.record_path(found.folder)
    try:
        row = {
            **{key: _known(key, value) for key, value in record["config"].items()},
            **values,
            **identity_columns(record),
            "run": found.name,
            "run_id": record["run"],
            "program_sha256": record["program"]["sha256"],
            # m5out has none of these.
            "started": record.get("started"),
            "ptshare": record.get("versions", {}).get("ptshare"),
            "gem5": record.get("versions", {}).get("gem5") or record.get("gem5"),
            "failed": record.get("failed"),
            "command": _command(record),
            _STAMP: found.stamp,
        }
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise UserError(f"{path}: damaged: {error} is missing or wrong") from error
    try:
        changed = path.stat().st_mtime_ns != found.stamp
    except OSError:
        changed = True
    if changed:
        raise UserError(f"{path}: changed while it was read")
    return row


def _command(record: Mapping[str, Any]) -> str | None:
    words = record.get("command")  # m5out has none
    return None if words is None else shlex.join([Path(words[0]).name, *words[1:]])


def _known(key: str, value: Any) -> Any:
    """A machine key's value; as text if only another version knows which type it has."""
    return value if key in KEYS else json.dumps(value)


def _table(rows: Sequence[Mapping[str, Any]], names: Iterable[str]) -> pa.Table:
    """Columns ``names`` of ``rows``; what a row lacks is null."""
    import pyarrow as pa

    kinds = _kinds()
    return pa.table(
        {name: pa.array([row.get(name) for row in rows], kinds.get(name)) for name in names}
    )


@functools.cache
def _kinds() -> dict[str, Any]:
    """Arrow's type of each column that this version knows.

    All of them are in every file, so that a reader finds the same columns in each.
    """
    import pyarrow as pa

    kinds = {name: pa.type_for_alias(kind) for name, kind in _COLUMNS.items()}
    kinds |= {name: pa.type_for_alias(_KINDS[key.type]) for name, key in KEYS.items()}
    return kinds | dict.fromkeys(metrics.registry(), pa.float64())


class _Store:
    """The files of a dataset, as the one who holds its lock sees them."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.parts: dict[Path, dict[str, int]] = {}
        for leftover in path.glob(f"{PARTITION}=*/.*.partial"):  # of one that was killed
            leftover.unlink(missing_ok=True)
        for part in _parts(path):
            known = _read_part(part, ["run", _STAMP])
            self.parts[part] = _stamps(known)

    def stamps(self) -> dict[str, int]:
        """Stamp of each run in the dataset, by its name."""
        return {name: stamp for part in self.parts.values() for name, stamp in part.items()}

    def put(self, rows: Sequence[Mapping[str, Any]]) -> int:
        """Add ``rows``, in place of older ones of the same runs; how many it replaced."""
        names = {row["run"] for row in rows}
        replaced = 0
        # Before the others are added: killed in between, a run is read again and never there twice.
        for part, known in list(self.parts.items()):
            if stale := names & known.keys():
                replaced += len(stale)
                self._drop(part, stale)
        for policy in dict.fromkeys(row[PARTITION] for row in rows):
            chosen = [row for row in rows if row[PARTITION] == policy]
            others = dict.fromkeys(name for row in chosen for name in row)
            columns = [name for name in {**_kinds(), **others} if name != PARTITION]
            self._append(policy, _table(chosen, columns))
        return replaced

    def _drop(self, part: Path, names: set[str]) -> None:
        import pyarrow as pa
        import pyarrow.compute as pc

        table = _read_part(part)
        left = table.filter(pc.invert(pc.is_in(table["run"], pa.array(list(names)))))
        if left.num_rows:
            self._write(part, left)
        else:
            part.unlink()
            del self.parts[part]

    def _append(self, policy: str, table: pa.Table) -> None:
        import pyarrow as pa

        # Quoted as Arrow's readers of partitions expect it.
        place = self.path / f"{PARTITION}={urllib.parse.quote(policy, safe='')}"
        place.mkdir(exist_ok=True)
        mine = sorted(part for part in self.parts if part.parent == place)
        number = int(mine[-1].stem.removeprefix("part-")) if mine else 0
        if mine and len(self.parts[mine[-1]]) < PART_ROWS:
            try:
                table = pa.concat_tables([_read_part(mine[-1]), table], promote_options="default")
            except pa.ArrowException as error:
                raise UserError(
                    f"{mine[-1]}: its columns are another version's; gather into a new folder"
                ) from error
        elif mine:
            number += 1
        for first in range(0, table.num_rows, PART_ROWS):
            self._write(place / f"part-{number:05}.parquet", table.slice(first, PART_ROWS))
            number += 1

    def _write(self, part: Path, table: pa.Table) -> None:
        import pyarrow.parquet as pq

        with files.replacing(part) as partial:
            pq.write_table(table, partial)
            with partial.open("rb") as file:
                os.fsync(file.fileno())
        self.parts[part] = _stamps(table)


def _stamps(table: pa.Table) -> dict[str, int]:
    return dict(zip(table["run"].to_pylist(), table[_STAMP].to_pylist(), strict=True))


def _parts(path: Path) -> list[Path]:
    return sorted(path.glob(f"{PARTITION}=*/part-*.parquet"))


def _read_part(part: Path, columns: list[str] | None = None) -> pa.Table:
    import pyarrow.parquet as pq

    try:
        # Opened once: a file that replaces it meanwhile does not get mixed in.
        with pq.ParquetFile(part) as file:
            return file.read(columns, use_threads=False)
    except FileNotFoundError:
        raise
    except Exception as error:  # pyarrow raises many kinds on damaged files
        raise UserError(
            f"{part}: damaged or not readable as Parquet; remove it and gather again"
        ) from error


# Reading ----------------------------------------------------------------------------------------


def load(path: str | os.PathLike[str]) -> pd.DataFrame:
    """Wide frame of a dataset, a row a run; ``ptshare_plugin.load`` says what is in it."""
    import pyarrow as pa

    _check_marker(Path(path))
    tables = []
    for part in _parts(Path(path)):
        try:
            table = _read_part(part)
        except FileNotFoundError:  # its rows were replaced: they are in another file
            continue
        policy = urllib.parse.unquote(part.parent.name.partition("=")[2])
        tables.append(table.append_column(PARTITION, pa.array([policy] * table.num_rows)))
    if not tables:
        raise UserError(f"{path}: a dataset without runs; gather some with 'ptshare summary'")
    try:
        whole = pa.concat_tables(tables, promote_options="default")
    except pa.ArrowException as error:
        raise UserError(
            f"{path}: its files' columns differ in type, they are of several versions; "
            "gather into a new folder"
        ) from error
    frame = checks.checked(_frame(whole), path)
    # A run that was replaced while the files were read may be there twice.
    frame = frame.sort_values(["run", _STAMP]).drop_duplicates("run", keep="last")
    return frame.drop(columns=_STAMP).reset_index(drop=True)


def read_csv(path: str | os.PathLike[str]) -> pd.DataFrame:
    """Frame that ``load`` gave and ``to_csv(path, index=False)`` wrote; rows in the file's order.

    :raises UserError: a file that cannot be read, or is none of that.
    """
    import pyarrow as pa
    from pyarrow import csv

    options = csv.ConvertOptions(column_types=_kinds(), null_values=[""], strings_can_be_null=True)
    try:
        table = csv.read_csv(os.fspath(path), convert_options=options)
        names = table.column_names
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: no table of runs of ptshare: not a text file (UTF-8)") from error
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {os_reason(error)}") from error
    except pa.ArrowException as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{path}: no table of runs of ptshare: {reason}") from error
    missing = [name for name in _COLUMNS if name not in (*names, _STAMP)]
    if missing:
        raise UserError(f"{path}: no table of runs of ptshare: has no column {missing[0]}")
    if len(set(names)) < len(names):
        raise UserError(f"{path}: no table of runs of ptshare: has a column twice")
    frame = checks.checked(_frame(table), path)
    return frame.assign(args=frame["args"].fillna(""))  # CSV has one word for missing and empty


def _frame(table: pa.Table) -> pd.DataFrame:
    """Typed frame, its columns in order; metrics and keys that no run has are left out."""
    known = metrics.registry()
    empty = {
        name
        for name, column in zip(table.column_names, table.columns, strict=True)
        if column.null_count == table.num_rows and name not in _COLUMNS
    }
    frame = table.drop_columns(sorted(empty)).to_pandas()
    order = [name for name in (*_COLUMNS, *KEYS, *known) if name in frame.columns]
    order += [name for name in frame.columns if name not in set(order)]
    whole = {
        name: frames.whole_numbers(frame[name])
        for name in order
        if name in known and known[name].whole
    }
    whole |= {name: frame[name].astype("Int64") for name in ("work", "failed")}
    return frame[order].assign(**whole)


def read(paths: Sequence[str | os.PathLike[str]]) -> tuple[pd.DataFrame | None, Gathered]:
    """The frame that ``load`` would give of all runs at or below ``paths``, without a dataset.

    :return: the frame, None when no run could be read, with what was skipped. ``run`` is the
        folder as it was found from ``paths``.
    :raises UserError: a path without any run folder.
    """
    import pyarrow as pa

    done = Gathered()
    found = (
        _Found(each.folder, str(each.folder), each.stamp)
        for each in _fresh([f for p in paths for f in frames.find(p)], Path.cwd() / "_", {}, done)
    )
    rows, tables = _rows(found, done), []
    while batch := list(itertools.islice(rows, PART_ROWS)):
        _remove_wrong(batch, Path(), done)
        done.added += len(batch)
        names = dict.fromkeys([*_kinds(), *(name for row in batch for name in row)])
        tables.append(_table(batch, names))
    done.total = done.added
    if not done.total:
        return None, done
    frame = _frame(pa.concat_tables(tables, promote_options="default")).drop(columns=_STAMP)
    return frame.sort_values("run", ignore_index=True), done
