"""What a metric says about itself: name, unit, component, scope, aggregation and meaning."""

from __future__ import annotations

import ast
from dataclasses import dataclass
from typing import Literal

Scope = Literal["process", "machine", "host"]
Aggregation = Literal["sum", "peak", "at peak", "end", "mean", "formula"]

AGGREGATIONS: dict[Aggregation, str] = {
    "sum": "added up: over the processes, or over the whole run",
    "peak": "the largest value that there was at any one time",
    "at peak": "the value at the time when `pt.bytes` was at its peak",
    "end": "the value when the run is over",
    "mean": "the mean over the run",
    "formula": "computed by the formula that stands in its place",
}
"""How the one value of a run comes about."""

_OF_SCOPE: dict[Scope, tuple[Aggregation, ...]] = {
    "process": ("sum", "formula"),  # what runs add up over processes
    "machine": ("sum", "peak", "at peak", "end", "formula"),
    "host": ("sum", "peak", "mean"),
}
_WHOLE_UNITS = ("count", "cycles", "bytes", "pages", "tables")
UNITS = (*_WHOLE_UNITS, "ratio", "seconds", "per second")


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric.

    :param component: part of the machine that it is about.
    :param scope: ``process`` (one value a process and one for all), ``machine`` or ``host``.
    :param aggregation: one of ``AGGREGATIONS``.
    :param formula: expression over other names of the same scope, or None for a raw metric.
    :raises ValueError: a unit, scope or aggregation that does not exist or does not fit.
    """

    name: str
    unit: str
    component: str
    scope: Scope
    aggregation: Aggregation
    meaning: str
    formula: str | None = None

    def __post_init__(self) -> None:
        if self.unit not in UNITS:
            raise ValueError(f"{self.name}: no unit {self.unit}: {', '.join(UNITS)}")
        if self.aggregation not in _OF_SCOPE.get(self.scope, ()):
            raise ValueError(f"{self.name}: no aggregation {self.aggregation} of a {self.scope}")
        if (self.aggregation == "formula") != (self.formula is not None):
            raise ValueError(f"{self.name}: a formula and the aggregation formula go together")

    @property
    def whole(self) -> bool:
        """Whether its values are whole numbers: counted in whole units, no quotient."""
        nodes = ast.walk(ast.parse(self.formula or "0", mode="eval"))
        return self.unit in _WHOLE_UNITS and not any(isinstance(node, ast.Div) for node in nodes)


def counted(name: str, unit: str, component: str, meaning: str) -> Metric:
    """Raw metric of each process, added up for all of them."""
    return Metric(name, unit, component, "process", "sum", meaning)


def machine(name: str, unit: str, component: str, aggregation: Aggregation, meaning: str) -> Metric:
    """Raw metric of the machine."""
    return Metric(name, unit, component, "machine", aggregation, meaning)


def host(name: str, unit: str, aggregation: Aggregation, meaning: str) -> Metric:
    """Raw metric of the simulator."""
    return Metric(name, unit, "host", "host", aggregation, meaning)


def derived(
    name: str, unit: str, component: str, meaning: str, formula: str, scope: Scope = "process"
) -> Metric:
    """Metric computed from others. A quotient by zero does not exist."""
    return Metric(name, unit, component, scope, "formula", meaning, formula)
