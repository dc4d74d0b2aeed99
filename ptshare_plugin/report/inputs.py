"""What a report is made of: runs of any origin in one frame, and files of ``protect-ways``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from ptshare_plugin.common.errors import UserError, os_reason
from ptshare_plugin.common.files import read_json
from ptshare_plugin.machine.schema import KEYS
from ptshare_plugin.metrics import registry as metrics
from ptshare_plugin.records import analysis, dataset
from ptshare_plugin.spec.record import LARGEST
from ptshare_plugin.sweeps.store import FAILED, RUNS

if TYPE_CHECKING:
    import pandas as pd

_WORDS = ("direction", "way", "policy")
_COUNTS = ("procs", "cores", "region_bytes", "piece_bytes")
WAYS_COLUMNS = (*_WORDS, *_COUNTS, "work_us", "hold_us", "adopted")
VERSIONS = ("ptshare", "gem5")
"""Columns that decide a result beside the parameters; frames of older versions lack some."""


@dataclass(frozen=True, slots=True)
class Ways:
    """Content of one file of ``ptshare protect-ways -o``."""

    name: str
    frame: pd.DataFrame


@dataclass(frozen=True, slots=True)
class Failure:
    """A run of a sweep that has no folder because it failed."""

    run: str
    reason: str
    command: list[str]


@dataclass(slots=True)
class Inputs:
    """All that was read.

    :param runs: the wide frame, a row a run, each result once; None without any run.
    :param failures: from sweeps' folders.
    :param skipped: why each folder that could not be read was left out.
    :param again: runs left out because the same result was there already.
    :param unlike: runs left out because the same run was there with other figures.
    """

    runs: pd.DataFrame | None = None
    ways: list[Ways] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    again: list[str] = field(default_factory=list)
    unlike: list[str] = field(default_factory=list)


def read(paths: Sequence[str]) -> Inputs:
    """Read all of ``paths``; a UserError when one is none of what a report takes."""
    import pandas as pd

    found = Inputs()
    parts = []
    for path in paths:
        frame = _file(path, found) if Path(path).is_file() else _folder(path, found)
        if frame is not None:
            parts.append(frame)
    if not parts and not found.ways:
        raise UserError(f"no run could be read; {found.skipped[0]}")
    if parts:
        whole = pd.concat(parts, ignore_index=True) if len(parts) > 1 else parts[0]
        found.runs = _once(whole, found)
    return found


def _folder(path: str, found: Inputs) -> pd.DataFrame | None:
    if not Path(path).exists():
        raise UserError(f"{path}: no such file or folder")
    if dataset.is_dataset(path):
        frame = dataset.load(path)
        place = Path(path).parent
        return frame.assign(run=[str(place / run) for run in frame["run"]])
    frame, done = dataset.read([path])
    found.skipped += done.skipped
    for place in sorted({Path(path), *Path(path).glob("*/")}):
        if (place / RUNS).is_dir():
            found.failures += [_failure(file) for file in sorted((place / FAILED).glob("*.json"))]
    return frame


def _failure(file: Path) -> Failure:
    try:
        record = read_json(file)
        return Failure(str(record["run"]), str(record["reason"]), [*map(str, record["command"])])
    except (UserError, KeyError, TypeError):
        return Failure(file.stem, f"{file} is damaged", [])


def _file(path: str, found: Inputs) -> pd.DataFrame | None:
    import pandas as pd

    kind = Path(path).suffix
    if kind not in (".csv", ".parquet"):
        raise UserError(f"{path}: a report takes folders, .csv and .parquet files")
    try:
        frame = pd.read_csv(path) if kind == ".csv" else pd.read_parquet(path)
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {os_reason(error)}") from error
    except Exception as error:  # both readers raise many kinds on damaged files
        raise UserError(f"{path}: damaged: not readable as {kind[1:].upper()}") from error
    if set(WAYS_COLUMNS) <= set(frame.columns):
        found.ways.append(Ways(path, _checked_ways(path, frame)))
        return None
    if kind == ".parquet":
        raise UserError(f"{path}: not a file of 'ptshare protect-ways -o'")
    return _csv(path)


def _checked_ways(path: str, frame: pd.DataFrame) -> pd.DataFrame:
    import pandas as pd

    if frame.empty:
        raise UserError(f"{path}: has no rows")
    for name in _WORDS:
        if not frame[name].map(lambda value: isinstance(value, str)).all():
            raise UserError(f"{path}: column {name}: not words alone")
    for name in WAYS_COLUMNS[len(_WORDS) :]:
        try:
            column = pd.to_numeric(frame[name]).astype(float)
        except (TypeError, ValueError) as error:
            raise UserError(f"{path}: column {name}: {error}") from error
        if name in _COUNTS:
            if not (column.between(1, 1 << 53) & (column % 1 == 0)).all():
                raise UserError(f"{path}: column {name}: not whole numbers above 0 alone")
            column = column.astype("int64")
        elif (column.abs() > LARGEST).any():
            raise UserError(f"{path}: column {name}: a value is larger than any time")
        frame[name] = column
    same = [*_WORDS, *_COUNTS]
    twice = frame[frame.duplicated(same)]
    if len(twice):
        row = twice.iloc[0]
        raise UserError(
            f"{path}: two rows for {row['direction']}, {row['way']}, {row['policy']}, "
            f"{row['procs']} processes; a file holds one machine's measurements"
        )
    return frame


def _csv(path: str) -> pd.DataFrame:
    frame = dataset.read_csv(path)
    if frame.empty:
        raise UserError(f"{path}: has no rows")
    if not any(name in KEYS for name in frame.columns):
        raise UserError(
            f"{path}: has no keys of the machine, like {next(iter(KEYS))}, so runs of different "
            "machines could not be told apart; write it from a dataset"
        )
    return frame


def _once(frame: pd.DataFrame, found: Inputs) -> pd.DataFrame:
    """``frame`` with each result once, however often it was given.

    A simulated run with the same seed is no further measurement. On real Linux it is one, unless
    it is the same run from two places.
    """
    import pandas as pd

    keys = [*analysis.parameters(frame), *(name for name in VERSIONS if name in frame.columns)]
    marks = frame.groupby(keys, dropna=False, sort=False).ngroup()
    measured = [name for name in ("started", "host.seconds") if name in frame.columns]
    same = pd.Series(
        [
            (mark, *(str(row[name]) for name in measured)) if row["engine"] == "linux" else (mark,)
            for mark, row in zip(marks, frame.to_dict("records"), strict=True)
        ],
        index=frame.index,
    )
    counted = [
        name
        for name in frame.columns
        if name in metrics.registry() and not name.startswith("host.")
    ]
    twice = same.duplicated()
    first = dict(zip(same[~twice], frame.index[~twice], strict=True))
    for position in frame.index[twice]:
        here, there = frame.loc[position, counted], frame.loc[first[same[position]], counted]
        both = here.notna() & there.notna()
        alike = bool((here[both] == there[both]).all())
        (found.again if alike else found.unlike).append(str(frame.loc[position, "run"]))
    return frame[~twice].reset_index(drop=True)
