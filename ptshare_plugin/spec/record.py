"""Checks of what is noted of a run beside its figures, as its readers take it.

``run.json`` and gem5's ``ptshare.json`` are files like others: cut off, edited, of another program.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from ptshare_plugin.common.errors import UserError

Fits = Callable[[Any], bool]


def text(value: Any) -> bool:
    """Whether it is text that can be written; JSON may have halves of characters."""
    return isinstance(value, str) and not any("\ud800" <= mark <= "\udfff" for mark in value)


def whole(low: int, high: int) -> Fits:
    """Whether a value is a whole number of these."""
    return lambda value: type(value) is int and low <= value <= high


MOST_COUNT = 1 << 16
"""Processes and cores: no run of any version has more."""
LARGEST = 1e100
"""No figure is larger; beyond, sums and squares would not be numbers."""
COUNT = whole(1, MOST_COUNT)


def each(fits: Fits) -> Fits:
    """Whether a value is a list of what ``fits``."""
    return lambda value: isinstance(value, list) and all(map(fits, value))


def by_name(fits: Fits) -> Fits:
    """Whether a value has names for what ``fits``."""
    return lambda value: (
        isinstance(value, dict) and all(map(text, value)) and all(map(fits, value.values()))
    )


def anything(_: Any) -> bool:
    """Whatever it is: what a key of the machine holds in some other version, say."""
    return True


def _program(value: Any) -> bool:
    return isinstance(value, dict) and text(value.get("name")) and text(value.get("sha256"))


IDENTITY: dict[str, Fits] = {
    "engine": text,
    "policy": text,
    "program": _program,
    "args": each(text),
    "procs": COUNT,
    "cores": COUNT,
    "region_bytes": whole(0, (1 << 63) - 1),
    "share": lambda value: isinstance(value, bool),
    "seed": whole(0, (1 << 64) - 1),
    "work": lambda value: value is None or whole(1, (1 << 63) - 1)(value),
    "preset": text,
}
"""What every record has."""

RUN: dict[str, Fits] = {
    "run": text,
    **IDENTITY,
    "config": by_name(anything),
    "command": lambda value: each(text)(value) and value != [],
    "started": text,
    "versions": by_name(text),
}
"""What a ``run.json`` has."""


def check(
    record: Mapping[str, Any],
    fields: Mapping[str, Fits],
    path: Path,
    optional: Mapping[str, Fits] = MappingProxyType({}),
) -> None:
    """Refuse a ``record`` of which one of ``fields`` is missing, or one of all does not fit."""
    for name, fits in {**fields, **optional}.items():
        absent = name not in record
        if (absent and name in fields) or not (absent or fits(record[name])):
            raise UserError(f"{path}: damaged: {name!r} is missing or wrong")
