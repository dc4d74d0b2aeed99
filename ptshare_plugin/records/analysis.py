"""Comparisons of the runs of a dataset: savings, pivots, means with confidence intervals.

All take the frame that ``ptshare_plugin.load`` gives for a dataset, or a part of its rows. Its
columns are runs' parameters (policy, procs, seed, ``mmu.pcids``, ...) and metrics. Runs that have
the same parameters but for the seed are repeats of each other.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ptshare_plugin import policies
from ptshare_plugin.common.errors import UserError, nearest
from ptshare_plugin.machine.schema import KEYS
from ptshare_plugin.metrics import registry as metrics

if TYPE_CHECKING:
    import pandas as pd

PARAMETERS = (
    *("engine", "policy", "program", "program_sha256", "args", "procs", "cores"),
    *("region_bytes", "share", "seed", "work"),
)
"""Columns, besides the keys of the machine, that decide a run's result."""

REPEAT = "seed"
"""The parameter in which repeats differ."""


def parameters(frame: pd.DataFrame) -> list[str]:
    """Columns of ``frame`` that decide a run's result, keys of the machine included.

    :raises UserError: it has not all of them, so it is no frame of a dataset.
    """
    missing = [name for name in PARAMETERS if name not in frame.columns]
    if missing:
        raise UserError(
            f"the frame has no column {missing[0]}; load a dataset, made with "
            "'ptshare summary DIR --format dataset -o DATASET'"
        )
    return [*PARAMETERS, *(name for name in KEYS if name in frame.columns)]


def axes(frame: pd.DataFrame) -> list[str]:
    """Parameters that have more than one value in ``frame``; a missing one is a value too."""
    return [name for name in parameters(frame) if frame[name].nunique(dropna=False) > 1]


def savings(
    frame: pd.DataFrame,
    names: str | Sequence[str],
    baseline: str = policies.BASELINE,
    axis: str = "policy",
    ignore: Sequence[str] = (),
) -> pd.DataFrame:
    """What each run saves against the run of ``baseline`` with the same other parameters.

    :param names: metrics, by name.
    :param axis: the parameter whose value ``baseline`` is.
    :param ignore: parameters that do not matter to the baseline and may differ from it, like
        ``share.level`` to private tables.
    :return: a row for each metric and each run that is not a baseline. Columns: the parameters,
        ``run``, ``metric``, ``value``, ``baseline`` (the mean over baselines where several have
        the same parameters) and ``saving`` = 1 - value / baseline: 0.75 is three quarters less,
        negative is more; missing where either is missing or the baseline is 0.
    :raises UserError: an unknown metric or parameter, no run of ``baseline``, or a run that has
        none with the same other parameters.
    """
    import pandas as pd

    columns = parameters(frame)
    wanted = _metrics(frame, names)
    for name in (axis, *ignore):
        _check(name, columns, "parameter")
    same = [name for name in columns if name != axis and name not in ignore]
    is_base = (frame[axis] == baseline).fillna(False).astype(bool)
    if not is_base.any():
        raise UserError(
            f"no run with {axis} {baseline}; there are "
            f"{', '.join(sorted(map(str, frame[axis].unique())))}"
        )
    # The parameters of all runs as numbers: equal ones have the same, missing ones included.
    groups = frame.groupby(same, dropna=False, sort=False).ngroup()
    others = frame[~is_base]
    lacking = ~groups[~is_base].isin(groups[is_base])
    if lacking.any():
        first = others[lacking].iloc[0]
        raise UserError(
            f"{int(lacking.sum())} of {len(others)} runs have no {axis} {baseline} with the same "
            f"other parameters, like {first['run']} ({_differences(first, frame[is_base], same)})"
        )
    parts = []
    for name in wanted:
        value = frame[name].astype("Float64")
        means = value[is_base].groupby(groups[is_base]).mean()
        part = others[[*columns, "run"]].assign(
            metric=name,
            value=value[~is_base],
            baseline=groups[~is_base].map(means).astype("Float64"),
        )
        divisor = part["baseline"].mask(part["baseline"] == 0)
        parts.append(part.assign(saving=1 - part["value"] / divisor))
    return pd.concat(parts, ignore_index=True)


def pivot(
    frame: pd.DataFrame, name: str, rows: str | Sequence[str], columns: str | Sequence[str]
) -> pd.DataFrame:
    """Mean of ``name`` over repeats, for each combination of the parameters of two axes.

    :param name: a metric, or another column of numbers, like ``saving`` of ``savings``.
    :param rows: parameters whose values become the index.
    :param columns: parameters whose values become the columns.
    :return: a frame with a row for each combination of ``rows`` and a column for each of
        ``columns``, both sorted; missing where there is no run.
    :raises UserError: an unknown column, or another parameter that varies: runs that are no
        repeats of each other have no common mean.
    """
    down, across = _listed(rows), _listed(columns)
    found = mean_ci(frame, name, by=[*down, *across])
    return found.pivot(index=down, columns=across, values="mean").sort_index().sort_index(axis=1)


def mean_ci(
    frame: pd.DataFrame,
    name: str,
    by: str | Sequence[str] | None = None,
    confidence: float = 0.95,
) -> pd.DataFrame:
    """Mean of ``name`` over repeats, and its confidence interval by Student's t distribution.

    :param name: a metric, or another column of numbers, like ``saving`` of ``savings``.
    :param by: parameters that tell the groups of repeats from each other; without it all that
        vary but the seed, and ``metric`` where there is such a column.
    :return: a row a group, sorted. Columns: those of ``by``, ``n`` (repeats with a value),
        ``mean``, ``low`` and ``high``; the last two are missing for fewer than two repeats.
    :raises UserError: an unknown column, or a parameter not in ``by`` that varies within a group.
    """
    import pandas as pd

    known = parameters(frame)
    _check(name, list(frame.columns), "column")
    if not pd.api.types.is_numeric_dtype(frame[name]):
        raise UserError(f"{name}: is no column of numbers")
    if not 0 < confidence < 1:
        raise UserError(f"confidence {confidence}: must be between 0 and 1, like 0.95")
    extra = [label for label in ("metric",) if label in frame.columns]
    if by is None:
        groups = [label for label in axes(frame) if label != REPEAT] + extra
    else:
        groups = _listed(by)
        for label in groups:
            _check(label, [*known, *extra], "parameter")
    _refuse_mixed(frame, groups, [*known, *extra])
    values = frame.assign(**{name: frame[name].astype("Float64")})
    keys = groups or pd.Series(0, index=frame.index)  # all runs are repeats of one
    grouped = values.groupby(keys, dropna=False, sort=True)[name]
    found = grouped.agg(["count", "mean", "std"]).reset_index(drop=not groups)
    factors = [
        t_quantile(confidence, int(n) - 1) / math.sqrt(n) if n > 1 else math.nan
        for n in found["count"]
    ]
    half = found["std"] * pd.array(factors, dtype="Float64")
    return found[groups].assign(
        n=found["count"], mean=found["mean"], low=found["mean"] - half, high=found["mean"] + half
    )


def t_quantile(confidence: float, freedom: int) -> float:
    """Half-width, in standard errors, of a two-sided interval: 12.706 for 0.95 and 1 degree.

    :param freedom: degrees of freedom, at least 1.
    """
    low, high = 0.0, math.pi / 2
    for _ in range(100):
        middle = (low + high) / 2
        if _t_within(middle, freedom) < confidence:
            low = middle
        else:
            high = middle
    return math.tan(low) * math.sqrt(freedom)


def _t_within(angle: float, freedom: int) -> float:
    """P(|T| < t) for t = sqrt(freedom) * tan(angle): Abramowitz and Stegun, 26.7.3 and 26.7.4."""
    sine, cosine = math.sin(angle), math.cos(angle)
    odd = freedom % 2
    term = cosine if odd else 1.0
    total = term if freedom > 1 else 0.0
    for step in range(2 + odd, freedom - 1, 2):
        term *= cosine * cosine * (step - 1) / step
        total += term
    return 2 / math.pi * (angle + sine * total) if odd else sine * total


def _refuse_mixed(frame: pd.DataFrame, groups: Sequence[str], known: Sequence[str]) -> None:
    others = [name for name in known if name not in groups and name != REPEAT]
    varying = [name for name in others if frame[name].nunique(dropna=False) > 1]
    if groups and varying:
        counts = frame.groupby(list(groups), dropna=False)[varying].nunique(dropna=False).max()
        varying = [name for name in varying if counts[name] > 1]
    if varying:
        raise UserError(
            f"{', '.join(varying)} varies among runs that would be averaged; choose rows with one "
            "value of it, or name it as an axis"
        )


def _metrics(frame: pd.DataFrame, names: str | Sequence[str]) -> list[str]:
    wanted = _listed(names)
    for name in wanted:
        metrics.get(name)
        if name not in frame.columns:
            raise UserError(f"{name}: no run of the frame has this metric")
    return wanted


def _listed(names: str | Sequence[str]) -> list[str]:
    return [names] if isinstance(names, str) else list(names)


def _check(name: str, known: Sequence[str], kind: str) -> None:
    if name not in known:
        raise UserError(f"unknown {kind} {name}{nearest(name, known)}")


def _differences(run: pd.Series, baselines: pd.DataFrame, same: Sequence[str]) -> str:
    """In which parameters the nearest baseline differs from ``run``."""
    unlike = baselines[list(same)].apply(
        lambda column: (column != run[column.name]) & ~(column.isna() & _missing(run[column.name]))
    )
    row = unlike.loc[unlike.sum(axis=1).idxmin()]
    names = [str(name) for name in row.index[row]]
    return ", ".join(f"{name} {run[name]}" for name in names)


def _missing(value: object) -> bool:
    import pandas as pd

    return bool(pd.isna(value))
