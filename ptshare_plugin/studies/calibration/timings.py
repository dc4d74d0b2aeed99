"""What was timed on this machine's kernel: repeats, their median and spread, and how to get them.

The timed loops are in ``linux/measure*.c``; each of its subcommands is a group here.
"""

from __future__ import annotations

import statistics
import subprocess
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from ptshare_plugin.common.errors import UserError, os_reason


class NotMeasured(Exception):
    """A figure that this machine, kernel or run does not give; the text says why."""


@dataclass(frozen=True, slots=True)
class Series:
    """Repeats of one figure, in nanoseconds unless its description says otherwise."""

    values: tuple[float, ...]

    @property
    def median(self) -> float:
        """The figure that is reported."""
        return statistics.median(self.values)

    @property
    def spread(self) -> float | None:
        """Interquartile range in per cent of the median; None of one repeat or a median of 0."""
        if len(self.values) < 2 or self.median == 0:
            return None
        low, _, high = statistics.quantiles(self.values, n=4, method="inclusive")
        return 100 * (high - low) / abs(self.median)

    def minus(self, *others: float) -> Series:
        """Each repeat less ``others``."""
        return Series(tuple(value - sum(others) for value in self.values))

    def over(self, divisor: float) -> Series:
        """Each repeat divided by ``divisor``."""
        return Series(tuple(value / divisor for value in self.values))


def paired(first: Series, second: Series) -> Series:
    """``first - second``, repeat by repeat: for figures that were taken in turn."""
    # A repeat may be missing in one of them.
    return Series(tuple(a - b for a, b in zip(first.values, second.values, strict=False)))


def pooled(some: Iterable[Series]) -> Series:
    """All repeats of several figures as if they were one."""
    return Series(tuple(value for series in some for value in series.values))


def line(points: dict[int, Series]) -> tuple[Series, Series]:
    """Slope and intercept of a straight line through ``points`` (least squares), by repeat.

    Raises NotMeasured when there are fewer than two points.
    """
    if len(points) < 2:
        raise NotMeasured("a straight line needs two points")
    at = list(points)
    fits = [
        statistics.linear_regression(at, values)
        for values in zip(*(series.values for series in points.values()), strict=False)
    ]
    return Series(tuple(fit.slope for fit in fits)), Series(tuple(fit.intercept for fit in fits))


@dataclass(slots=True)
class Measured:
    """Everything that was timed. ``numbered`` holds figures for each of several sizes or counts."""

    plain: dict[str, Series] = field(default_factory=dict)
    numbered: dict[str, dict[int, Series]] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)
    """Why a figure, or a whole group, is missing."""

    def of(self, name: str) -> Series:
        """Repeats of ``name``, or NotMeasured with the reason."""
        if name not in self.plain:
            raise NotMeasured(self.reason(name))
        return self.plain[name]

    def by_number(self, name: str, low: int = 0, high: int = 1 << 62) -> dict[int, Series]:
        """Repeats of ``name`` for each number from ``low`` to ``high``; NotMeasured if none."""
        found = {
            number: series
            for number, series in self.numbered.get(name, {}).items()
            if low <= number <= high
        }
        if not found:
            raise NotMeasured(self.reason(name))
        return found

    def reason(self, name: str) -> str:
        """Why ``name`` is missing."""
        return self.reasons.get(name, "not measured on this machine")

    def add(self, lines: Iterable[str]) -> None:
        """Take lines as ``linux/measure.h`` describes them.

        A figure is given up when at least as many repeats of it failed as succeeded.
        """
        failed: dict[str, int] = {}
        plain: dict[str, list[float]] = {}
        numbered: dict[str, dict[int, list[float]]] = {}
        for text in lines:
            if text.startswith("- "):
                name, _, why = text[2:].strip().partition(" ")
                self.reasons[name] = why
                failed[name] = failed.get(name, 0) + 1
                continue
            name, _, value = text.strip().partition(" ")
            name, dot, number = name.partition(".")
            if dot:
                numbered.setdefault(name, {}).setdefault(int(number), []).append(float(value))
            else:
                plain.setdefault(name, []).append(float(value))
        self.plain |= {
            name: Series(tuple(values))
            for name, values in plain.items()
            if len(values) > failed.get(name, 0)
        }
        self.numbered |= {
            name: {number: Series(tuple(values)) for number, values in sizes.items()}
            for name, sizes in numbered.items()
        }


def measure(
    program: Path, group: str, repeats: int, size: int, folder: Path, heard: Callable[[], None]
) -> list[str]:
    """Lines of one group. Raises NotMeasured when the program fails; killed on any exception.

    :param size: bytes of the largest region of a pointer chase.
    :param folder: where the program may make a nameless file.
    :param heard: called for each line.
    """
    lines = []
    try:
        process = subprocess.Popen(
            [program, group, str(repeats), str(size), folder],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
    except OSError as error:
        raise UserError(f"{program}: {os_reason(error)}") from error
    with process:
        try:
            assert process.stdout is not None and process.stderr is not None
            for text in process.stdout:
                lines.append(text)
                heard()
            errors = " ".join(process.stderr.read().split())
        except BaseException:
            process.kill()
            raise
    if process.returncode:
        raise NotMeasured(errors or f"measure {group} ended with status {process.returncode}")
    return lines
