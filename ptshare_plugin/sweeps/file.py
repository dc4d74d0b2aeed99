"""Sweep files: TOML read and checked, every error with its line."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ptshare_plugin.common import units
from ptshare_plugin.common.errors import EXIT_USAGE, UserError, UserErrors, nearest, os_reason
from ptshare_plugin.common.files import read_toml
from ptshare_plugin.machine import config
from ptshare_plugin.machine.schema import KEYS
from ptshare_plugin.runs.options import (
    ALIASES,
    RECORDING_ONLY,
    STATED,
    TRACE_ONLY,
    read_option,
)
from ptshare_plugin.sweeps.lines import Lines

NAMES = (*ALIASES, *(name for name in STATED if name != "set"))
"""Keys of a run; those of the machine have dots."""
TABLES = ("base", "axes", "zip", "exclude", "repeat", "limits", "keep")
MAX_VALUES = 100_000
_RANGE = {"from", "to", "step", "factor"}

Place = tuple[str | int, ...]
Item = tuple[str, Any, Place]


@dataclass(frozen=True, slots=True)
class Limits:
    """What each run may take; None for no limit.

    :param memory: bytes resident, of all processes of a run.
    """

    seconds: float | None = None
    memory: int | None = None


@dataclass(slots=True)
class SweepFile:
    """A file whose keys and values are each right.

    :param base: values that all runs share.
    :param axes: groups of axes; in a group they vary together, groups with each other.
    :param excluded: values by key; a point that has one of each is dropped.
    :param m5out: whether runs in gem5 keep gem5's own files.
    :param places: where each key of ``base`` and ``axes`` stands.
    """

    path: Path
    lines: Lines
    base: dict[str, Any] = field(default_factory=dict)
    axes: list[dict[str, list[Any]]] = field(default_factory=list)
    excluded: list[dict[str, list[Any]]] = field(default_factory=list)
    limits: Limits = field(default_factory=Limits)
    m5out: bool = False
    places: dict[str, Place] = field(default_factory=dict)
    errors: list[tuple[int, str]] = field(default_factory=list)

    def wrong(self, place: Place, message: str) -> None:
        """Note an error; the same one at one line is noted once."""
        if (found := (self.lines.of(place), message)) not in self.errors:
            self.errors.append(found)

    def refuse_errors(self) -> None:
        """Raise what was noted, in the order of the lines."""
        if self.errors:
            raise UserErrors(
                (f"{self.path}:{line}: {message}" for line, message in sorted(self.errors)),
                EXIT_USAGE,
            )

    @property
    def varying(self) -> dict[str, list[Any]]:
        """All values of each key that varies."""
        return {name: values for group in self.axes for name, values in group.items()}


def read(path: Path) -> SweepFile:
    """Content of ``path``; a UserErrors names every wrong key and value."""
    try:
        text, document = read_toml(path)
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {os_reason(error)}", EXIT_USAGE) from error
    except UserError as error:
        raise UserError(f"{path}: {error.message}", EXIT_USAGE) from error
    sweep = SweepFile(path, Lines(text))
    for name in document:
        if name not in TABLES:
            sweep.wrong((name,), f"unknown key {name}{nearest(name, TABLES)}")
    _base(sweep, _table(sweep, document, ("base",)))
    _axes(sweep, document)
    _repeat(sweep, _table(sweep, document, ("repeat",)))
    for i, table in enumerate(_tables(sweep, document, "exclude")):
        _exclude(sweep, table, ("exclude", i))
    _limits(sweep, _table(sweep, document, ("limits",)))
    _keep(sweep, _table(sweep, document, ("keep",)))
    _programs(sweep)
    sweep.refuse_errors()
    return sweep


def _table(sweep: SweepFile, document: dict[str, Any], place: tuple[str]) -> dict[str, Any]:
    table = document.get(place[0], {})
    if isinstance(table, dict):
        return table
    sweep.wrong(place, f"{place[0]}: must be a table, [{place[0]}]")
    return {}


def _tables(sweep: SweepFile, document: dict[str, Any], name: str) -> list[dict[str, Any]]:
    tables = document.get(name, [])
    if isinstance(tables, list) and all(isinstance(table, dict) for table in tables):
        return tables
    sweep.wrong((name,), f"{name}: must be tables, [[{name}]]")
    return []


def _flat(table: dict[str, Any], place: Place, prefix: str = "") -> Iterator[Item]:
    """Keys, values and places: nested tables are dotted keys, but for ranges."""
    for key, value in table.items():
        if isinstance(value, dict) and value and not _RANGE & value.keys():
            yield from _flat(value, (*place, key), f"{prefix}{key}.")
        else:
            yield prefix + key, value, (*place, key)


def _one(sweep: SweepFile, name: str, value: Any, place: Place) -> Any:
    """Checked value; what is wrong is noted, and the answer None."""
    try:
        if "." in name:
            return config.checked_value(name, value)
        if name not in NAMES:
            raise UserError(f"unknown key {name}{nearest(name, (*NAMES, *KEYS))}")
        return read_option(ALIASES.get(name, name), value, sweep.path.resolve().parent)
    except UserError as error:
        # The file's own name for the option, and its value as the file has it.
        error.option = error.option and name
        sweep.wrong(place, f"{place[0]}: {error}")
        return None


def _base(sweep: SweepFile, table: dict[str, Any]) -> None:
    machine = table.get("machine", {})
    if not isinstance(machine, dict):
        sweep.wrong(("base", "machine"), "base: machine must be a table, [base.machine]")
        machine = {}
    for name, value in table.items():
        if name != "machine":
            sweep.base[name] = _one(sweep, name, value, ("base", name))
            sweep.places[name] = ("base", name)
    for name, value, place in _flat(machine, ("base", "machine")):
        if "." not in name:  # it would be taken for an option of the run
            sweep.wrong(place, f"base.machine: unknown key {name}; 'ptshare presets' lists them")
            continue
        if name in sweep.base:
            sweep.wrong(place, f"base.machine: {name} is there twice")
        sweep.base[name] = _one(sweep, name, value, place)
        sweep.places[name] = place


def _axes(sweep: SweepFile, document: dict[str, Any]) -> None:
    for name, value, place in _flat(_table(sweep, document, ("axes",)), ("axes",)):
        _add(sweep, {name: _values(sweep, name, value, place)}, {name: place})
    for i, table in enumerate(_tables(sweep, document, "zip")):
        group, places = {}, {}
        for name, value, place in _flat(table, ("zip", i)):
            group[name] = _values(sweep, name, value, place)
            places[name] = place
        lengths = {name: len(values) for name, values in group.items()}
        if len(set(lengths.values())) > 1:
            said = ", ".join(f"{name} has {length}" for name, length in lengths.items())
            sweep.wrong(("zip", i), f"zip: all keys need as many values: {said}")
        elif len(set(zip(*group.values(), strict=True))) < next(iter(lengths.values()), 0):
            sweep.wrong(("zip", i), "zip: the same values are there twice")
        _add(sweep, group, places)


def _add(sweep: SweepFile, group: dict[str, list[Any]], places: dict[str, Place]) -> None:
    for name, place in places.items():
        if name in sweep.places:
            other = sweep.lines.of(sweep.places[name])
            sweep.wrong(place, f"{place[0]}: {name} is in line {other}, too")
        if place[0] == "axes":
            seen = {None}
            for i, value in enumerate(group[name]):
                if value in seen and value is not None:
                    sweep.wrong((*place, i), f"axes: {name}: a value is there twice")
                seen.add(value)
        sweep.places[name] = place
    if group:
        sweep.axes.append(group)


def _values(sweep: SweepFile, name: str, value: Any, place: Place) -> list[Any]:
    where = str(place[0])
    if isinstance(value, dict):
        try:
            value = _range(value)
        except UserError as error:
            sweep.wrong(place, f"{where}: {name}: {error}")
            return []
    if not isinstance(value, list) or not value:
        sweep.wrong(place, f"{where}: {name}: must be a list or a range, like {{from = 1, to = 5}}")
        return []
    return [_one(sweep, name, item, (*place, i)) for i, item in enumerate(value)]


def _range(table: dict[str, Any]) -> list[Any]:
    unknown = table.keys() - _RANGE
    if unknown or not {"from", "to"} <= table.keys() or table.keys() >= _RANGE:
        raise UserError("a range is {from, to}, {from, to, step} or {from, to, factor}")
    numbers = {key: _number(value) for key, value in table.items()}
    if numbers["to"] < numbers["from"]:
        raise UserError(f"the range ends at {table['to']}, before it begins")
    try:
        return _steps(numbers)
    except OverflowError as error:  # of a tiny step, or a tiny begin and a factor
        raise UserError(f"the range has more than {MAX_VALUES:,} values") from error


def _steps(numbers: dict[str, int | float]) -> list[Any]:
    low, high = numbers["from"], numbers["to"]
    if "factor" in numbers:
        factor = numbers["factor"]
        if factor <= 1 or low <= 0:
            raise UserError("factor must be above 1, and from above 0")
        count = math.floor(math.log(high / low, factor) + 1e-9) + 1
    else:
        step = numbers.get("step", 1)
        if step <= 0:
            raise UserError("step must be above 0")
        count = math.floor((high - low) / step + 1e-9) + 1
    if count > MAX_VALUES:
        raise UserError(f"the range has {count:,} values, more than {MAX_VALUES:,}")
    # Between whole ends all stays whole: factor 1.5 makes 1, 2, 3, 5 of 1 to 6.
    rounded = "factor" in numbers and isinstance(low, int) and isinstance(high, int)
    made: list[Any] = []
    for i in range(count):
        value = low * numbers["factor"] ** i if "factor" in numbers else low + i * step
        value = round(value) if rounded else value
        if not made or value != made[-1]:
            made.append(value)
    return made


def _number(value: Any) -> int | float:
    number = units.parse_size(value) if isinstance(value, str) else value
    if isinstance(number, bool) or not isinstance(number, int | float):
        raise UserError(f"a range needs numbers or sizes, not {value!r}")
    if not abs(number) < 1 << 64:  # which NaN is not, either
        raise UserError(f"a range needs numbers below 2^64, not {value!r}")
    return number


def _repeat(sweep: SweepFile, table: dict[str, Any]) -> None:
    for name in table.keys() - {"seeds"}:
        sweep.wrong(("repeat", name), f"repeat: unknown key {name}; there is seeds")
    if "seeds" not in table:
        return
    place, count = ("repeat", "seeds"), table["seeds"]
    if type(count) is not int or not 1 <= count <= MAX_VALUES:
        sweep.wrong(place, f"repeat: seeds must be 1 to {MAX_VALUES:,}, not {count!r}")
    elif "seed" in sweep.varying:
        sweep.wrong(place, "repeat: seed is an axis, too: leave one of the two out")
    else:
        first = sweep.base.pop("seed", STATED["seed"].default)
        if first is not None:  # else it is wrong, and that is noted
            sweep.axes.append({"seed": list(range(first, first + count))})
            sweep.places.setdefault("seed", place)


def _exclude(sweep: SweepFile, table: dict[str, Any], place: Place) -> None:
    excluded: dict[str, list[Any]] = {}
    if not table:
        sweep.wrong(place, "exclude: is empty")
    for name, value, at in _flat(table, place):
        if name not in sweep.varying:
            known = nearest(name, sweep.varying)
            sweep.wrong(at, f"exclude: {name} does not vary{known}: no axis has it")
            continue
        # One value of args is itself a list.
        several = isinstance(value, list) and value and (name != "args" or type(value[0]) is list)
        items = value if several else [value]
        excluded[name] = [_one(sweep, name, item, (*at, i)) for i, item in enumerate(items)]
        for i, (item, kept) in enumerate(zip(items, excluded[name], strict=True)):
            if kept is not None and kept not in sweep.varying[name]:
                sweep.wrong((*at, i), f"exclude: {name} never is {item}")
    sweep.excluded.append(excluded)


def _limits(sweep: SweepFile, table: dict[str, Any]) -> None:
    for name in table.keys() - {"seconds", "memory"}:
        sweep.wrong(("limits", name), f"limits: unknown key {name}; there are seconds and memory")
    seconds, memory = table.get("seconds"), table.get("memory")
    if seconds is not None and (type(seconds) not in (int, float) or not 0 < seconds < 1e9):
        sweep.wrong(("limits", "seconds"), f"limits: seconds must be above 0, not {seconds!r}")
    if isinstance(memory, str):
        try:
            memory = units.parse_size(memory)
        except UserError as error:
            sweep.wrong(("limits", "memory"), f"limits: memory: {error}")
    if memory is not None and (type(memory) is not int or memory < 1):
        if not isinstance(memory, str):
            sweep.wrong(("limits", "memory"), f"limits: memory must be a size, not {memory!r}")
        memory = None
    sweep.limits = Limits(seconds, memory)


def _keep(sweep: SweepFile, table: dict[str, Any]) -> None:
    for name in table.keys() - {"m5out"}:
        sweep.wrong(("keep", name), f"keep: unknown key {name}; there is m5out")
    m5out = table.get("m5out", False)
    if type(m5out) is not bool:
        sweep.wrong(("keep", "m5out"), f"keep: m5out must be true or false, not {m5out!r}")
    else:
        sweep.m5out = m5out


def _programs(sweep: SweepFile) -> None:
    named = [name for name in ("workload", "program", "trace", "recording") if name in sweep.places]
    if not named:
        sweep.wrong((), 'base: workload is missing, like workload = "scan"')
    for name in named[1:]:
        sweep.wrong(sweep.places[name], f"{name}: there is a {named[0]}, too: leave one out")
    for option in TRACE_ONLY:
        if "trace" not in named and option in sweep.places:
            sweep.wrong(sweep.places[option], f"{option}: is for traces; there is none")
    for option in RECORDING_ONLY:
        if "recording" not in named and option in sweep.places:
            sweep.wrong(sweep.places[option], f"{option}: is for recordings; there is none")
