"""Run folders as pandas frames: tidy (a row a value) and wide (a row a run)."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ptshare_plugin.common.errors import UserError
from ptshare_plugin.common.files import read_json
from ptshare_plugin.engines.gem5 import stats
from ptshare_plugin.metrics import registry as metrics
from ptshare_plugin.records.folders import is_run
from ptshare_plugin.records.run_folder import COLUMNS, RUN_JSON, STATS, table
from ptshare_plugin.runs.run import SCHEMA, collect_rows, identity_columns
from ptshare_plugin.spec.record import LARGEST, RUN, check

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa


@dataclass(frozen=True, slots=True)
class Loaded:
    """One run folder: what ``run.json`` says, and the tidy frame. ``name``: as the user gave it."""

    name: str
    record: dict[str, Any]
    tidy: pd.DataFrame


def find(path: str | os.PathLike[str]) -> list[Path]:
    """Run folders at or below ``path``, sorted; hidden folders (half-written ones) left out."""
    root = Path(path)
    if not root.exists():
        raise UserError(f"{path}: no such folder")
    if not root.is_dir():
        raise UserError(f"{path}: not a folder")
    if _looks_like_run(root):
        return [root]
    found = []
    for place, folders, _ in os.walk(root):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in list(folders):
            if _looks_like_run(Path(place, name)):
                found.append(Path(place, name))
                folders.remove(name)
    if not found:
        raise UserError(f"{path}: no run folder here ({RUN_JSON} is missing) nor below")
    return found


def _looks_like_run(folder: Path) -> bool:
    # A folder that lost one of the two, or that cannot be looked into, is damaged, not absent:
    # reading it says so.
    if not os.access(folder, os.R_OK | os.X_OK):
        return True
    return is_run(folder) or (folder / STATS).is_file() or _is_m5out(folder)


def _is_m5out(folder: Path) -> bool:
    return os.path.isfile(folder / stats.RECORD)  # false where that cannot be known


def read(folder: Path) -> Loaded:
    """Content of one run folder, or of gem5's m5out.

    A UserError names the folder and file that cannot be used.
    """
    if _is_m5out(folder):
        record = stats.read_record(folder)
        values = collect_rows(stats.statistics(folder, record))
        return Loaded(name=str(folder), record=record, tidy=table(record, values).to_pandas())
    record = _record(folder)
    return Loaded(name=str(folder), record=record, tidy=_tidy(folder, record))


def _record(folder: Path) -> dict[str, Any]:
    path = folder / RUN_JSON
    record = read_json(path)
    if not isinstance(record, dict) or "schema" not in record:
        raise UserError(f"{path}: damaged: not the record of a run")
    if record["schema"] != SCHEMA:
        raise UserError(
            f"{path}: written in format {record['schema']}, this ptshare reads "
            f"{SCHEMA}; use the version that wrote it"
        )
    check(record, RUN, path)
    return record


def _tidy(folder: Path, record: dict[str, Any]) -> pd.DataFrame:
    frame = _stats(folder, record, COLUMNS).to_pandas()
    for column in ("run", "engine", "policy", "component", "metric", "unit"):
        frame[column] = frame[column].astype("category")
    return frame


def _stats(folder: Path, record: Mapping[str, Any], columns: Sequence[str]) -> pa.Table:
    """Those of ``COLUMNS`` that are asked for, ``run`` among them."""
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    path = folder / STATS
    try:
        with pq.ParquetFile(path, pre_buffer=False) as file:
            found = tuple(file.schema_arrow.names)
            table = file.read(list(columns), use_threads=False) if found == COLUMNS else None
            runs = [] if table is None else table["run"].unique().to_pylist()
            large = (
                table is not None and pc.any(pc.greater(pc.abs(table["value"]), LARGEST)).as_py()
            )
    except FileNotFoundError as error:
        raise UserError(f"{path}: missing; the run folder is not whole") from error
    except Exception as error:  # pyarrow raises many kinds on damaged files
        raise UserError(f"{path}: damaged or not readable as Parquet") from error
    if not runs:
        raise UserError(f"{path}: damaged: columns are not {', '.join(COLUMNS)}")
    if large:
        raise UserError(f"{path}: damaged: a value is larger than any metric's")
    if runs != [record["run"]]:
        raise UserError(f"{path}: belongs to another run than {RUN_JSON} beside it")
    return table


def record_path(folder: Path) -> Path:
    """The file of a run folder, or of gem5's m5out, that says what was run."""
    return folder / (stats.RECORD if _is_m5out(folder) else RUN_JSON)


def read_whole(folder: Path) -> tuple[dict[str, Any], dict[str, float]]:
    """What ``run.json`` says, and the metrics for all processes alone: what one row needs.

    Quicker than ``read``, and refuses the same.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    if _is_m5out(folder):
        record = stats.read_record(folder)
        values = collect_rows(stats.statistics(folder, record))[metrics.ALL]
        return record, {name: float(value) for name, value in values.items()}
    record = _record(folder)
    table = _stats(folder, record, ("run", "process", "metric", "value"))
    table = table.filter(pc.equal(table["process"], metrics.ALL))
    # Strings of a dictionary, and floats one by one, would be most of the time of a run.
    names = table["metric"].cast(pa.string()).to_pylist()
    return record, dict(zip(names, table["value"].to_numpy().tolist(), strict=True))


def load_tidy(path: str | os.PathLike[str]) -> pd.DataFrame:
    """Tidy frame of all runs at or below ``path``.

    ``run`` becomes the folder's path below ``path``, or its name when ``path`` is itself a run:
    repeats of one run have one id, but each its folder.
    """
    import pandas as pd

    frames = []
    for folder in find(path):
        frame = read(folder).tidy
        below = str(folder.relative_to(path))
        frame["run"] = folder.resolve().name if below == "." else below
        frames.append(frame)
    if len(frames) == 1:
        return frames[0]
    whole = pd.concat(frames, ignore_index=True)
    for column in ("run", "engine", "policy", "component", "metric", "unit"):
        whole[column] = whole[column].astype("category")
    return whole


def wide(runs: Sequence[Loaded], patterns: Sequence[str] = ()) -> pd.DataFrame:
    """A row a run: what was run, then metrics for all processes in the vocabulary's order.

    :param patterns: globs of metric names; all metrics without them.
    """
    import pandas as pd

    rows = []
    for run in runs:
        whole = run.tidy[run.tidy["process"] == metrics.ALL]
        row = identity_columns(run.record)
        row["run"] = run.name
        row.update(zip(whole["metric"], whole["value"], strict=True))
        rows.append(row)
    frame = pd.DataFrame(rows)
    fixed = list(identity_columns(runs[0].record))
    present = [name for name in metrics.registry() if name in frame.columns]
    if patterns:
        present = metrics.select(patterns, present)
    for name in present:
        if metrics.get(name).whole:
            frame[name] = whole_numbers(frame[name])
    return frame[fixed + present]


def whole_numbers(column: pd.Series[float]) -> pd.Series[float]:
    """``column`` as integers, with a gap where a run has no value; as it is if not all are whole.

    Parquet holds floats; counts read better as integers.
    """
    known = column.dropna()
    exact = bool(((known % 1 == 0) & (known.abs() < 1 << 63)).all())
    return column.astype("Int64") if exact else column
