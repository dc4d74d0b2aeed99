"""The runs of a sweep file: every combination, each checked as ``ptshare run`` would."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ptshare_plugin.common.errors import UserError
from ptshare_plugin.engines.registry import by_name, check
from ptshare_plugin.runs.options import ALIASES, Options, read_option
from ptshare_plugin.sweeps.file import Limits, SweepFile, read

MAX_RUNS = 100_000


@dataclass(frozen=True, slots=True)
class Point:
    """One run of a sweep.

    :param run: its ``run_id``, which names its folder.
    :param varying: values of the keys that vary, in the order of the file.
    """

    run: str
    options: Options
    varying: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Plan:
    """All runs of a sweep.

    :param combinations: of which some may be the same run.
    :param m5out: whether runs in gem5 keep gem5's own files.
    """

    path: Path
    points: list[Point]
    combinations: int
    limits: Limits
    m5out: bool


def load(path: Path) -> Plan:
    """Runs of the sweep file ``path``, all checked; a UserErrors names what is wrong."""
    sweep = read(path)
    total = math.prod(len(next(iter(group.values()))) for group in sweep.axes)
    if total > MAX_RUNS:
        raise UserError(f"{path}: makes {total:,} combinations, more than {MAX_RUNS:,}", 2)
    points: dict[str, Point] = {}
    combinations = 0
    for varying in _combinations(sweep):
        if any(_matches(varying, excluded) for excluded in sweep.excluded):
            continue
        combinations += 1
        point = _point(sweep, varying)
        if point is not None:
            points.setdefault(point.run, point)
    if not combinations:
        sweep.wrong(("exclude", 0), "exclude: nothing is left")
    if sweep.m5out and not any(keeps_m5out(point.options) for point in points.values()):
        sweep.wrong(("keep", "m5out"), "keep: m5out: no run has engine gem5")
    sweep.refuse_errors()
    return Plan(path, list(points.values()), combinations, sweep.limits, sweep.m5out)


def keeps_m5out(options: Options) -> bool:
    """Whether the run's engine has files of its own to keep."""
    return by_name(options.engine).keeps_own_files


def _combinations(sweep: SweepFile) -> Iterator[dict[str, Any]]:
    groups = [
        [dict(zip(group, values, strict=True)) for values in zip(*group.values(), strict=True)]
        for group in sweep.axes
    ]
    for chosen in itertools.product(*groups):
        yield {name: value for part in chosen for name, value in part.items()}


def _matches(varying: dict[str, Any], excluded: dict[str, list[Any]]) -> bool:
    return all(varying[name] in values for name, values in excluded.items())


def _point(sweep: SweepFile, varying: dict[str, Any]) -> Point | None:
    values = {**sweep.base, **varying}
    chosen = {ALIASES.get(name, name): value for name, value in values.items() if "." not in name}
    machine = {name: value for name, value in values.items() if "." in name}
    try:
        options = Options.of_read({**chosen, "set": read_option("set", machine)})
    except UserError as error:
        _note(sweep, error, varying)
        return None
    try:
        spec = options.spec()
    except UserError as error:
        _note(sweep, error, varying)
        # The machine is wrong; what else is, is found on the preset's own. Or the trace is.
        options = dataclasses.replace(options, set=())
        try:
            spec = options.spec()
        except UserError:
            return None
    try:
        check(spec)
    except UserError as error:
        _note(sweep, error, varying)
    return None if sweep.errors else Point(spec.run_id(), options, varying)


def _note(sweep: SweepFile, error: UserError, varying: dict[str, Any]) -> None:
    """Note an error of a run at the line of the key, or of its value, that it is about."""
    names = [error.key, error.option]
    names += [alias for alias, name in ALIASES.items() if name == error.option]
    name = next((each for each in names if each in sweep.places), "")
    place = sweep.places.get(name or "", ())
    if name in varying:
        place = (*place, sweep.varying[name].index(varying[name]))
    sweep.wrong(place, str(error))
