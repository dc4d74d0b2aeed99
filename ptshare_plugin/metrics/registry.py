"""The metrics of ``vocabulary.py`` and ``derived.py``: look-up, formulas, documentation.

``python -m ptshare_plugin.metrics.registry > docs/metrics.md`` writes the reference.
"""

from __future__ import annotations

import ast
import fnmatch
import functools
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace

from ptshare_plugin.common.errors import UserError, nearest
from ptshare_plugin.metrics import derived, vocabulary
from ptshare_plugin.metrics.metric import AGGREGATIONS, Metric

ROI = "roi."
"""Prefix of a per-process metric counted inside the program's region-of-interest marks only."""

ALL = -1
"""Process number of a row about all processes together or the machine."""

Number = int | float


@functools.cache
def registry() -> dict[str, Metric]:
    """All metrics by name, ``roi.`` ones included, in the order of the documentation."""
    processes = [*vocabulary.PROCESS, *derived.DERIVED]
    metrics = [
        *processes,
        *map(_inside_roi, processes),
        *vocabulary.AT_MARKS,
        *vocabulary.LINUX,
        *vocabulary.MACHINE,
        *vocabulary.LINUX_MACHINE,
        *derived.DERIVED_MACHINE,
        *vocabulary.HOST,
    ]
    return {metric.name: metric for metric in metrics}


def _inside_roi(metric: Metric) -> Metric:
    formula = metric.formula and _rename(metric.formula, lambda name: ROI + name)
    return replace(metric, name=ROI + metric.name, formula=formula)


def raw_process_names() -> list[str]:
    """Counters that an engine delivers for each process, without the ``roi.`` ones."""
    return [metric.name for metric in vocabulary.PROCESS]


def raw_machine_names() -> list[str]:
    """Metrics that an engine delivers for the machine."""
    return [metric.name for metric in vocabulary.MACHINE]


def get(name: str) -> Metric:
    """Metric called ``name``; a UserError that names the nearest one when there is none."""
    try:
        return registry()[name]
    except KeyError:
        raise UserError(
            f"unknown metric {name}{nearest(name, registry())}; docs/metrics.md lists them"
        ) from None


def select(patterns: Iterable[str], known: Iterable[str] | None = None) -> list[str]:
    """Names that match any of ``patterns`` (globs), in the order of ``known`` (default: all).

    :raises UserError: a pattern that matches no metric at all.
    """
    names = list(registry() if known is None else known)
    wanted: set[str] = set()
    for pattern in patterns:
        found = fnmatch.filter(names, pattern)
        if not found and not fnmatch.filter(registry(), pattern):
            raise UserError(
                f"--metrics: no metric matches {pattern}"
                f"{nearest(pattern, registry())}; docs/metrics.md lists them"
            )
        wanted.update(found)
    return [name for name in names if name in wanted]


# Formulas ---------------------------------------------------------------------------------------

_ALLOWED = (
    ast.BinOp,
    ast.Add,
    ast.Sub,
    ast.Mult,
    ast.Div,
    ast.Constant,
    ast.Name,
    ast.Attribute,
    ast.Load,
)


def _metric_name(node: ast.expr) -> str | None:
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        return f"{_metric_name(node.value)}.{node.attr}"
    return None


@functools.cache
def _parse(formula: str) -> ast.expr:
    return ast.parse(formula, mode="eval").body


def names_in(formula: str) -> list[str]:
    """Metric names that ``formula`` uses, in order."""

    def visit(node: ast.expr) -> list[str]:
        name = _metric_name(node)
        if name is not None:
            return [name]
        return visit(node.left) + visit(node.right) if isinstance(node, ast.BinOp) else []

    return visit(_parse(formula))


def _rename(formula: str, rename: Callable[[str], str]) -> str:
    class Renamer(ast.NodeTransformer):
        def visit(self, node: ast.AST) -> ast.AST:
            name = _metric_name(node) if isinstance(node, ast.expr) else None
            return self.generic_visit(node) if name is None else ast.Name(id=rename(name))

    return ast.unparse(Renamer().visit(ast.parse(formula, mode="eval").body))


@functools.cache
def _compiled(formula: str) -> Callable[[Mapping[str, Number]], Number]:
    for node in ast.walk(_parse(formula)):
        if not isinstance(node, _ALLOWED):
            raise ValueError(f"formula {formula!r}: {type(node).__name__} is not allowed")
    source = _rename(formula, lambda name: f"v[{name!r}]")
    compiled: Callable[[Mapping[str, Number]], Number] = eval(f"lambda v: {source}")
    return compiled


def evaluate(formula: str, values: Mapping[str, Number]) -> Number | None:
    """Value of ``formula`` over ``values``; None when a name is absent or a divisor is zero."""
    try:
        return _compiled(formula)(values)
    except (KeyError, ZeroDivisionError):
        return None


@functools.cache
def _ordered_formulas(scope: str) -> tuple[tuple[str, str], ...]:
    # A formula may use derived metrics: each comes after those that it uses.
    formulas = {
        name: metric.formula
        for name, metric in registry().items()
        if metric.formula is not None and metric.scope == scope
    }
    done: dict[str, str] = {}

    def add(name: str) -> None:
        if name in formulas and name not in done:
            for part in names_in(formulas[name]):
                add(part)
            done[name] = formulas[name]

    for name in formulas:
        add(name)
    return tuple(done.items())


def with_derived(values: Mapping[str, Number], scope: str) -> dict[str, Number]:
    """``values`` of one process (or of all) or of the machine, with every derived metric added."""
    complete = dict(values)
    for name, formula in _ordered_formulas(scope):
        value = evaluate(formula, complete)
        if value is not None:
            complete[name] = value
    return complete


# Documentation ----------------------------------------------------------------------------------

_SECTIONS = (
    (
        "Counted for each process",
        "process",
        "One value for each process and one for all together. Each also exists as `roi.NAME`: the "
        "same inside the program's region-of-interest marks only.",
    ),
    ("Of the machine", "machine", "One value a run."),
    (
        "Of the simulator",
        "host",
        "The only figures that differ when a run is repeated with the same seed.",
    ),
)


def document() -> str:
    """Text of ``docs/metrics.md``."""
    lines = [
        "# Metrics",
        "",
        "Written by `python -m ptshare_plugin.metrics.registry > docs/metrics.md`; do not edit.",
        "",
        "A quotient whose divisor is zero does not exist in a run. The value of a derived metric "
        "for all processes is its formula over the sums.",
        "",
        "How the one value of a run comes about (`aggregation`):",
        "",
        *(f"- {name}: {meaning}" for name, meaning in AGGREGATIONS.items()),
    ]
    for title, scope, text in _SECTIONS:
        lines += [
            "",
            f"## {title}",
            "",
            text,
            "",
            "| metric | unit | component | aggregation | meaning |",
            "|---|---|---|---|---|",
        ]
        for metric in registry().values():
            if metric.scope != scope or metric.name.startswith(ROI):
                continue
            aggregation = f"`{metric.formula}`" if metric.formula else metric.aggregation
            lines.append(
                f"| `{metric.name}` | {metric.unit} | {metric.component} | "
                f"{aggregation} | {metric.meaning} |"
            )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.stdout.write(document())
