"""``ptshare validate``: is the model's private baseline the kernel's? Case by case, on both."""

from __future__ import annotations

import dataclasses
import datetime
import functools
import json
import sys
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ptshare_plugin.common import files
from ptshare_plugin.common.errors import UserError
from ptshare_plugin.common.units import PAGE_BYTES
from ptshare_plugin.engines import registry as engines
from ptshare_plugin.engines.linux import proc
from ptshare_plugin.engines.linux.engine import HUGETLB
from ptshare_plugin.engines.result import Sample
from ptshare_plugin.machine import config
from ptshare_plugin.runs.options import Options
from ptshare_plugin.runs.run import Run, execute
from ptshare_plugin.show import terminal
from ptshare_plugin.studies.validation import report as pages
from ptshare_plugin.studies.validation.cases import Case
from ptshare_plugin.studies.validation.outcome import (
    EXACT,
    GROWTH,
    MARKS,
    METRICS,
    PTE_MARKS,
    Outcome,
    Pair,
    Validation,
    summary,
)

if TYPE_CHECKING:
    from rich.console import Console

LINUX, GEM5 = "linux", "gem5"
"""The engine that is the truth here, and the one that is compared with it for few cases."""
GEM5_PRESET = "gem5-x86"
# PageTables of /proc/meminfo: a batch for each CPU, at most 125 pages (MAX_THRESHOLD of
# mm/vmstat.c), is not in it yet, and everything else on the machine is.
_BATCH_PAGES = 125


def validate(
    chosen: Sequence[Case], simulators: Sequence[str], told: Callable[[Outcome], None]
) -> Validation:
    """Run ``chosen`` on Linux and on the engines ``simulators``; each outcome is ``told`` at once.

    The model has the settings that this kernel shows: its fault-around window, and whether
    MADV_DONTNEED frees page tables.
    """
    engines.get(LINUX)
    settings = proc.settings()
    overrides = (
        f"kernel.fault_around_bytes={settings['fault_around_bytes']}",
        f"kernel.pt_reclaim={str(reclaims_tables()).lower()}",
    )
    outcomes = []
    for case in chosen:
        lack = _cannot(case)
        linux = attempt(case, LINUX, ()) if not lack else None
        for engine in simulators:
            if engine == GEM5 and not case.gem5:
                continue
            outcome = Outcome(case, engine)
            if linux is None:
                outcome.skipped = lack
            elif isinstance(linux, UserError):
                # Huge pages are not everyone's; anything else must run.
                if case.policy == HUGETLB:
                    outcome.skipped = str(linux)
                else:
                    outcome.problems.append(str(linux))
            else:
                modelled = attempt(case, engine, overrides)
                if isinstance(modelled, UserError):
                    outcome.problems.append(str(modelled))
                else:
                    compare(outcome, linux, modelled)
            told(outcome)
            outcomes.append(outcome)
    date = datetime.datetime.now(datetime.UTC).date().isoformat()
    return Validation(outcomes, settings, overrides, date)


def compare(outcome: Outcome, linux: Run, modelled: Run) -> None:
    """Fill in metrics and problems of ``outcome`` from the two runs."""
    case = outcome.case
    measured, model = linux.values[-1], modelled.values[-1]
    pairs = {
        name: Pair(measured[name], model[name])
        for name in METRICS
        if name in measured and name in model
    }
    total, equal, equal_tables = _compare_marks(linux.result.samples, modelled.result.samples)
    pairs[MARKS] = Pair(total, equal)
    pairs[PTE_MARKS] = Pair(total, equal_tables)
    if GROWTH in case.may_differ:
        pairs[GROWTH] = Pair(measured[GROWTH], model["pt.bytes"])
    outcome.metrics = pairs
    for run in (linux, modelled):
        outcome.problems += [
            f"{run.spec.engine}: rank {rank} {process.how}" for rank, process in run.failures()[:1]
        ]
    if [rank.stdout for rank in linux.ranks] != [rank.stdout for rank in modelled.ranks]:
        outcome.problems.append("the program's output differs")
    if not total:
        outcome.problems.append("no mark was made")
    for name, pair in pairs.items():
        if pair.equal or (name in case.may_differ and name not in EXACT):
            continue
        outcome.problems.append(f"{name} differs")
    if GROWTH in pairs and not _near(pairs[GROWTH], case, int(linux.result.settings["cpus"])):
        outcome.problems.append(f"{GROWTH} differs by more than its batches")


def _near(pair: Pair, case: Case, cpus: int) -> bool:
    # With a page of slack a process: what the launcher had, and with page-table isolation the
    # second page of the PGD.
    slack = (_BATCH_PAGES * cpus + case.procs) * PAGE_BYTES
    return abs(pair.measured - pair.modelled) <= slack


def _compare_marks(measured: Sequence[Sample], modelled: Sequence[Sample]) -> tuple[int, int, int]:
    """Marks on Linux, those whose figures are all equal, and those whose table bytes are.

    Marks of a process are compared in its own order; one that only one side has is unequal. Of
    several ranks, faults before the region of interest are left out: those that touch a new page
    (the barrier's) at the same time may take one more.
    """
    several = any(sample.rank for sample in measured)
    sides: tuple[dict[tuple[int, int], list[Sample]], ...] = (defaultdict(list), defaultdict(list))
    for side, samples in zip(sides, (measured, modelled), strict=True):
        for sample in samples:
            side[sample.rank, sample.process].append(sample)
        for (_, process), marks in side.items():
            if several and process == 0:
                before = marks[0].minor_faults
                marks[:] = [
                    dataclasses.replace(mark, minor_faults=mark.minor_faults - before)
                    for mark in marks
                ]
    total = equal = tables_equal = 0
    for key in sides[0].keys() | sides[1].keys():
        ours, theirs = sides[0].get(key, []), sides[1].get(key, [])
        total += max(len(ours), len(theirs))
        for one, other in zip(ours, theirs, strict=False):
            equal += one == other
            tables_equal += (one.mark, one.vm_pte_bytes) == (other.mark, other.vm_pte_bytes)
    return total, equal, tables_equal


def _options(case: Case, engine: str, overrides: tuple[str, ...]) -> Options:
    return Options(
        program=case.workload,
        args=case.args(),
        engine=engine,
        policy=case.policy,
        procs=case.procs,
        region=case.region,
        work=case.work,
        preset=GEM5_PRESET if engine == GEM5 else config.DEFAULT_PRESET,
        set=overrides,
    )


def _run(options: Options) -> Run:
    return execute(options.spec(), options.command())


def attempt(case: Case, engine: str, overrides: tuple[str, ...]) -> Run | UserError:
    """A run of the case, or why there is none."""
    try:
        return _run(_options(case, engine, overrides))
    except UserError as error:
        return error


def _cannot(case: Case) -> str:
    """Why this machine cannot run the case on Linux; empty when it can."""
    if case.forgoes_around() and not userfaultfd():
        return "no userfaultfd for tmpfs here, so fault-around cannot be switched off"
    if case.policy == HUGETLB and proc.available() < 2 * case.region:
        return "too little memory for huge pages"
    return ""


@functools.cache
def userfaultfd() -> bool:
    """Whether processes can switch fault-around off here, by trying."""
    probe = Case("probe", "calls", calls="m0.1.3.0.0,a0.1")
    done = attempt(probe, LINUX, ())
    return not isinstance(done, UserError) and not done.failures()


def reclaims_tables() -> bool:
    """Whether MADV_DONTNEED frees PTE tables on this kernel (CONFIG_PT_RECLAIM), by trying."""
    probe = Case("probe", "calls", calls="m0.512.3.2.0,w0.1.1,d0.512.4")
    done = _run(_options(probe, LINUX, ()))
    before, after = done.result.samples[-3], done.result.samples[-2]
    return after.vm_pte_bytes < before.vm_pte_bytes


# ---- For people


class Printer:
    """Prints outcomes as they come."""

    def __init__(self, out: Console) -> None:
        self._out = out
        self._causes: set[str] = set()

    def heading(self) -> None:
        """Column titles."""
        self._out.print(_row("case", "measured", "modelled", "difference"))

    def outcome(self, outcome: Outcome) -> None:
        """One case: a line for each metric."""
        verdict = "ok" if outcome.ok else "skipped" if outcome.skipped else "DIFFERS"
        self._out.print(f"{outcome.name}: {verdict}")
        for name, pair in outcome.metrics.items():
            difference = pair.modelled - pair.measured
            self._out.print(
                _row(
                    f"  {name}",
                    f"{pair.measured:,}",
                    f"{pair.modelled:,}",
                    f"{difference:+,}" if difference else "0",
                )
            )
        if outcome.cause and outcome.ok and outcome.cause in self._causes:
            self._out.print("  for the cause given above")
        elif outcome.cause:
            self._out.print(f"  {outcome.cause}")
        self._causes.add(outcome.cause)


def _row(name: str, *cells: str) -> str:
    return f"{name:<28}" + "".join(f"{cell:>18}" for cell in cells)


def of_recording(path: str, as_json: bool, markdown: Path | None) -> int:
    """``ptshare validate --recording``; returns how many programs are wrong."""
    from ptshare_plugin.common import progress
    from ptshare_plugin.studies.validation import recordings

    if markdown is not None:
        files.refuse(markdown, True, "markdown")
    printer = Printer(terminal.console(sys.stderr if as_json else sys.stdout))
    with progress.show(f"{Path(path).name}, private") as report:
        result = recordings.validate(path, report)
    if markdown is not None:
        command = f"ptshare validate --recording {path} --markdown {markdown}"
        pages.write_recording(result, recordings.METRICS, command, markdown)
    if as_json:
        sys.stdout.write(json.dumps(result.json(), indent=1) + "\n")
    else:
        printer.heading()
        for outcome in result.outcomes:
            printer.outcome(outcome)
        sys.stdout.write(summary(result) + "\n")
    return sum(not outcome.ok and not outcome.skipped for outcome in result.outcomes)


def command(
    *, chosen: Sequence[Case], gem5: bool, as_json: bool, report: Path | None, markdown: Path | None
) -> int:
    """The command; returns how many cases are wrong."""
    for option, path in (("report", report), ("markdown", markdown)):
        if path is not None:
            files.refuse(path, True, option)
    simulators = [engines.DEFAULT]
    if gem5 and engines.by_name(GEM5).missing() is None:
        simulators.append(GEM5)
    printer = Printer(terminal.console(sys.stderr if as_json else sys.stdout))
    if not as_json:
        printer.heading()
    result = validate(chosen, simulators, printer.outcome if not as_json else lambda _: None)
    if report is not None:
        pages.write_html(result, report)
    if markdown is not None:
        pages.write_markdown(result, markdown)
    if as_json:
        sys.stdout.write(json.dumps(result.json(), indent=1) + "\n")
    else:
        sys.stdout.write(summary(result) + "\n")
    return sum(not outcome.ok and not outcome.skipped for outcome in result.outcomes)
