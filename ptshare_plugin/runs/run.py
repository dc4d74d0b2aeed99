"""Execute a run and keep what came of it, in memory or in a run folder."""

from __future__ import annotations

import dataclasses
import datetime
import json
import platform
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ptshare_plugin import __version__
from ptshare_plugin.common import progress
from ptshare_plugin.common.errors import UserError
from ptshare_plugin.engines import registry as engines
from ptshare_plugin.engines.gem5.engine import Gem5Engine
from ptshare_plugin.engines.registry import ProcessResult, RunResult
from ptshare_plugin.metrics import registry as metrics
from ptshare_plugin.metrics.registry import ALL
from ptshare_plugin.spec.run import RunSpec, check

if TYPE_CHECKING:
    import pyarrow as pa

SCHEMA = 1
"""Version of a run folder's files; readers refuse others."""

RUN_JSON, STATS, OUTPUT = "run.json", "stats.parquet", "output.txt"
M5OUT = "m5out"
"""Folder of gem5's own files in a run folder, where they are kept."""
COLUMNS = ("run", "engine", "policy", "process", "component", "metric", "value", "unit")

Number = int | float


@dataclass(frozen=True, slots=True)
class Run:
    """A finished run.

    :param values: metrics, derived ones included, for each process index and for ``ALL``.
    """

    spec: RunSpec
    result: RunResult
    started: str
    values: Mapping[int, Mapping[str, Number]]

    @property
    def ranks(self) -> list[ProcessResult]:
        """The processes that were asked for, without those that they forked."""
        return self.result.processes[: self.spec.procs]

    def output_lines(self) -> list[str]:
        """Lines of standard output, in rank order."""
        return [line for rank in self.ranks for line in _text(rank.stdout)]

    def failures(self) -> list[tuple[int, ProcessResult]]:
        """Ranks that did not end as they should."""
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
            "command": sys.argv,
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
            "marks": [dataclasses.asdict(sample) for sample in self.result.samples],
            "processes": [
                {"pid": process.pid, "status": process.status, "note": process.note}
                for process in self.result.processes
            ],
        }


def execute(spec: RunSpec, folder: Path | None = None) -> Run:
    """Run ``spec`` to its end, with progress on stderr.

    :param folder: run folder of a run in gem5 that keeps gem5's own files, as ``M5OUT`` there.
    """
    engine = engines.get(spec.engine)
    if folder is not None:
        engine = Gem5Engine(folder / M5OUT)
    check(spec, [name for name, _ in engine.policies()])
    started = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    with progress.show(f"{spec.program.name}, {spec.policy}") as report:
        result = engine.run(spec, report)
    return Run(spec=spec, result=result, started=started, values=collect(result))


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


def table(record: Mapping[str, Any], values: Mapping[int, Mapping[str, Number]]) -> pa.Table:
    """Rows of ``COLUMNS``, a row a value, of a run and its metrics by process."""
    import pyarrow as pa

    known = metrics.registry()
    process: list[int] = []
    metric: list[str] = []
    value: list[float] = []
    for index, found in values.items():
        ordered = in_order(found)
        process += [index] * len(ordered)
        metric += ordered.keys()
        value += (float(number) for number in ordered.values())
    count = len(metric)

    def words(items: list[str]) -> Any:
        # Words repeat in every row: dictionaries keep a thousand processes small.
        return pa.array(items, pa.string()).dictionary_encode()

    return pa.table(
        {
            "run": words([record["run"]] * count),
            "engine": words([record["engine"]] * count),
            "policy": words([record["policy"]] * count),
            "process": pa.array(process, pa.int32()),
            "component": words([known[name].component for name in metric]),
            "metric": words(metric),
            "value": pa.array(value, pa.float64()),
            "unit": words([known[name].unit for name in metric]),
        }
    )


def write(run: Run, folder: Path) -> None:
    """Write the three files of a run folder into ``folder``, which has none of them."""
    import pyarrow.parquet as pq

    record = run.record()
    pq.write_table(table(record, run.values), folder / STATS)
    (folder / OUTPUT).write_text(output_text(run), encoding="utf-8")
    (folder / RUN_JSON).write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


def output_text(run: Run) -> str:
    """Every line that the processes wrote, each marked with its process, in rank order."""
    lines = []
    for index, process in enumerate(run.result.processes):
        lines += [f"{index}: {line}" for line in _text(process.stdout)]
        lines += [f"{index} stderr: {line}" for line in _text(process.stderr)]
    return "".join(line + "\n" for line in lines)


def _text(data: bytes) -> list[str]:
    return data.decode("utf-8", "backslashreplace").splitlines()
