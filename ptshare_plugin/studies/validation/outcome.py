"""What came of a validation: figures of both sides, case by case."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from ptshare_plugin.engines import registry as engines
from ptshare_plugin.studies.validation.cases import Case

METRICS = (
    "vm.pte_bytes.begin",
    "vm.pte_bytes.end",
    "roi.fault.minor",
    "vm.rss_anon_bytes.end",
    "vm.rss_file_bytes.end",
)
"""Compared in every case, as sums over ranks."""
MARKS = "marks.equal"
"""Marks at which every figure of every process was equal, against all marks."""
GROWTH = "pt.machine_growth"
EXACT = ("vm.pte_bytes.begin", "vm.pte_bytes.end", "pt_bytes.marks_equal")
PTE_MARKS = "pt_bytes.marks_equal"
"""The same, looking at page-table bytes alone."""

Number = int | float


@dataclass(frozen=True, slots=True)
class Pair:
    """What Linux counted and what the model did."""

    measured: Number
    modelled: Number

    @property
    def equal(self) -> bool:
        """Whether they are the same number."""
        return self.measured == self.modelled


@dataclass(slots=True)
class Outcome:
    """What came of one case on one simulating engine.

    :param skipped: why it was not run; then there are no metrics.
    :param problems: what is wrong, in words; empty when all is as it should be.
    """

    case: Case
    engine: str
    metrics: dict[str, Pair] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    skipped: str = ""

    @property
    def name(self) -> str:
        """The case's, and the engine's unless it is the embedded one."""
        return (
            self.case.name if self.engine == engines.DEFAULT else f"{self.case.name}, {self.engine}"
        )

    @property
    def ok(self) -> bool:
        """Whether it ran and nothing is wrong."""
        return not self.skipped and not self.problems

    @property
    def cause(self) -> str:
        """Why something differs, is wrong or was not run; empty when all is equal."""
        if self.skipped:
            return f"skipped: {self.skipped}"
        if self.problems:
            return "; ".join(self.problems)
        differs = any(
            not pair.equal for name, pair in self.metrics.items() if name in self.case.may_differ
        )
        return self.case.cause if differs else ""


@dataclass(frozen=True, slots=True)
class Validation:
    """All outcomes, and the kernel that they are about."""

    outcomes: list[Outcome]
    settings: dict[str, str | int]
    overrides: tuple[str, ...]
    date: str

    def json(self) -> dict[str, Any]:
        """What ``--json`` prints."""
        return {
            "kernel": self.settings,
            "model": list(self.overrides),
            "date": self.date,
            "cases": [
                {
                    "name": outcome.name,
                    "ok": outcome.ok,
                    "skipped": bool(outcome.skipped),
                    "metrics": {
                        name: {"measured": pair.measured, "modelled": pair.modelled}
                        for name, pair in outcome.metrics.items()
                    },
                    "cause": outcome.cause,
                }
                for outcome in self.outcomes
            ],
        }


def summary(result: Validation) -> str:
    """How many cases, in one line."""
    outcomes = result.outcomes
    skipped = sum(bool(outcome.skipped) for outcome in outcomes)
    good = [outcome for outcome in outcomes if outcome.ok]
    explained = sum(bool(outcome.cause) for outcome in good)
    wrong = len(outcomes) - len(good) - skipped
    return (
        f"{len(outcomes)} cases on Linux {result.settings['release']}: "
        f"{len(good) - explained} equal, {explained} equal but for a documented cause, "
        f"{wrong} wrong, {skipped} skipped"
    )
