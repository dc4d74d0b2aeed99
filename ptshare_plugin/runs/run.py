"""Execute a run and keep what came of it in memory."""

from __future__ import annotations

import dataclasses
import datetime
import platform
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ptshare_plugin import __version__
from ptshare_plugin.common.errors import UserError
from ptshare_plugin.common.progress import Progress, silent
from ptshare_plugin.engines import registry as engines
from ptshare_plugin.engines.result import ProcessResult, RunResult
from ptshare_plugin.metrics import registry as metrics
from ptshare_plugin.metrics.registry import ALL
from ptshare_plugin.spec.run import RunSpec

SCHEMA = 1
"""Version of a run folder's files; readers refuse others."""

Number = int | float


@dataclass(frozen=True, slots=True)
class Run:
    """A finished run.

    :param values: metrics, derived ones included, for each process index and for ``ALL``.
    :param command: that made it, for the record.
    """

    spec: RunSpec
    result: RunResult
    started: str
    values: Mapping[int, Mapping[str, Number]]
    command: Sequence[str]

    @property
    def ranks(self) -> list[ProcessResult]:
        """The processes that were asked for, without those that they forked."""
        return self.result.processes[: self.spec.procs]

    def output_lines(self) -> list[str]:
        """Lines of standard output, in rank order."""
        return [line for rank in self.ranks for line in text_lines(rank.stdout)]

    def failures(self) -> list[tuple[int, ProcessResult]]:
        """Ranks that did not end as they should; recorded processes end as they did."""
        if self.spec.recording is not None:
            return []
        return [
            (rank, process)
            for rank, process in enumerate(self.ranks)
            if process.status != 0
            and not (process.signal == 9 and self.spec.kill_is_expected(rank))
        ]

    def has_roi(self) -> bool:
        """Whether the program marked a region of interest."""
        return any(
            value > 0 for name, value in self.values[ALL].items() if name.startswith(metrics.ROI)
        )

    def wide(self) -> dict[str, Any]:
        """One row: what was run, every metric for all processes, and how the program ended."""
        row = identity_columns(self.record())
        row.update(in_order(self.values[ALL]))
        row["program.output"] = self.output_lines()
        row["program.exit"] = [rank.status for rank in self.ranks]
        return row

    def record(self) -> dict[str, Any]:
        """Content of ``run.json``."""
        return {
            "schema": SCHEMA,
            "run": self.spec.run_id(),
            "command": list(self.command),
            "started": self.started,
            "seconds": self.result.seconds,
            "versions": {
                "ptshare": __version__,
                "python": platform.python_version(),
                **self.result.versions,
            },
            "program_path": self.spec.program.path,
            "preset": self.spec.preset,
            "overrides": [*self.spec.overrides, *self.spec.varied],
            **self.spec.identity(),
            "failed": len(self.failures()),
            "settings": self.result.settings,
            "remarks": list(self.result.remarks),
            "marks": [dataclasses.asdict(sample) for sample in self.result.samples],
            "processes": [
                {"pid": process.pid, "status": process.status, "note": process.note}
                for process in self.result.processes
            ],
        }


def execute(
    spec: RunSpec,
    command: Sequence[str],
    progress: Progress = silent,
    keep: Path | None = None,
) -> Run:
    """Check ``spec`` and run it to its end.

    :param command: that makes the run, for its record.
    :param keep: new folder for the engine's own files, where it has some to keep.
    """
    engines.check(spec)
    started = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    result = engines.get(spec.engine).run(spec, progress, keep)
    return Run(spec, result, started, collect(result), command)


def collect(result: RunResult) -> dict[int, dict[str, Number]]:
    """All metrics by process index, ``ALL`` last: sums, derived and ``host.*`` ones added."""
    collected = collect_rows(result.statistics)
    collected[ALL].update(_host(result, collected[ALL]))
    return collected


def collect_rows(statistics: Iterable[tuple[int, str, Number]]) -> dict[int, dict[str, Number]]:
    """The same of raw metrics alone, without ``host.*``."""
    known = metrics.registry()
    processes: dict[int, dict[str, Number]] = {}
    whole: dict[str, Number] = {}
    for index, name, value in statistics:
        if name not in known:
            raise UserError(
                f"the engine counts {name}, which the vocabulary does not know; "
                "ptshare's parts are of different versions: install it again"
            )
        (whole if index == ALL else processes.setdefault(index, {}))[name] = value
    for values in processes.values():
        for name in values:
            if known[name].scope != "process":
                raise UserError(f"the engine gives {name} for one process; install ptshare again")
    sums: dict[str, Number] = {}
    for values in processes.values():
        for name, value in values.items():
            sums[name] = sums.get(name, 0) + value
    # An engine that also gives a sum may know of processes that it does not list one by one.
    everything = metrics.with_derived(metrics.with_derived({**sums, **whole}, "process"), "machine")
    collected = {
        index: metrics.with_derived(values, "process")
        for index, values in sorted(processes.items())
    }
    collected[ALL] = everything
    return collected


def _host(result: RunResult, values: Mapping[str, Number]) -> dict[str, Number]:
    found: dict[str, Number] = {"host.seconds": result.seconds}
    if result.peak_rss_bytes:
        found["host.peak_rss_bytes"] = result.peak_rss_bytes
    if result.seconds > 0:
        for name in ("instructions", "accesses"):
            counted = "access.data" if name == "accesses" else name
            if counted in values:  # real Linux may not count them
                found[f"host.{name}_per_second"] = values[counted] / result.seconds
    return found


def in_order(values: Mapping[str, Number]) -> dict[str, Number]:
    """``values`` in the order of the vocabulary."""
    return {name: values[name] for name in metrics.registry() if name in values}


def identity_columns(record: Mapping[str, Any]) -> dict[str, Any]:
    """Columns of the wide frame that say what was run, from the content of a ``run.json``."""
    return {
        "run": record["run"],
        "engine": record["engine"],
        "policy": record["policy"],
        "program": record["program"]["name"],
        "args": " ".join(record["args"]),
        "procs": record["procs"],
        "cores": record["cores"],
        "region_bytes": record["region_bytes"],
        "share": record["share"],
        "seed": record["seed"],
        "work": record["work"],
        "preset": record["preset"],
    }


def text_lines(data: bytes) -> list[str]:
    """Lines that a process wrote, whatever bytes they hold."""
    return data.decode("utf-8", "backslashreplace").splitlines()


def report_lines(runs: Sequence[Run]) -> list[str]:
    """One line for each run in which a rank failed."""
    lines = []
    for run in runs:
        if failures := run.failures():
            rank, process = _first(failures)
            others = f" (and {len(failures) - 1} more ranks failed)" if len(failures) > 1 else ""
            lines.append(
                f"{run.spec.program.name} under {run.spec.heading}: "
                f"rank {rank} {process.how}{others}"
            )
    return lines


def report_failures(runs: Sequence[Run]) -> list[str]:
    """The same, and to standard error what the first rank that failed had written there."""
    for run in runs:
        if failures := run.failures():
            rank, process = _first(failures)
            for line in text_lines(process.stderr)[-20:]:
                sys.stderr.write(f"rank {rank}: {line}\n")
    return report_lines(runs)


def _first(failures: Sequence[tuple[int, ProcessResult]]) -> tuple[int, ProcessResult]:
    # Those that only followed another's failure come last.
    return min(failures, key=lambda item: (item[1].followed, item[0]))
