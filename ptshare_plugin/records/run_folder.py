"""A run's folder: its files, and writing them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ptshare_plugin.metrics import registry as metrics
from ptshare_plugin.runs.run import Number, Run, in_order, text_lines

if TYPE_CHECKING:
    import pyarrow as pa

RUN_JSON, STATS, OUTPUT = "run.json", "stats.parquet", "output.txt"
M5OUT = "m5out"
"""Folder of gem5's own files in a run folder, where they are kept."""
COLUMNS = ("run", "engine", "policy", "process", "component", "metric", "value", "unit")


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
    (folder / OUTPUT).write_text(outputtext_lines(run), encoding="utf-8")
    (folder / RUN_JSON).write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


def outputtext_lines(run: Run) -> str:
    """Every line that the processes wrote, each marked with its process, in rank order."""
    lines = []
    for index, process in enumerate(run.result.processes):
        lines += [f"{index}: {line}" for line in text_lines(process.stdout)]
        lines += [f"{index} stderr: {line}" for line in text_lines(process.stderr)]
    return "".join(line + "\n" for line in lines)
