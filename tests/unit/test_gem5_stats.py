"""Is gem5's statistics file read into the vocabulary, every dump of it?"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from ptshare_plugin.common.errors import UserError
from ptshare_plugin.engines.gem5 import stats
from ptshare_plugin.records import dataset, frames

STATS = """
---------- Begin Simulation Statistics ----------
simSeconds  0.000010  # Number of seconds simulated (Second)
system.cpu0.dcache.overallAccesses::total  100  # overall accesses (Count)
system.cpu0.dcache.overallMisses::total  10  # overall misses (Count)
system.kernel.pt.bytes  4096  # metric pt.bytes (Byte)
system.kernel.process0.fault.file  7  # metric fault.file (Count)
system.kernel.process0.roi.fault.file  0  # metric fault.file (Count)
system.kernel.power_state.pwrStateResidencyTicks::UNDEFINED  10000000  # ticks in it (Tick)
system.cpu0.ipc  nan  # no number (Rate)

---------- End Simulation Statistics   ----------

---------- Begin Simulation Statistics ----------
system.cpu0.dcache.overallAccesses::total  500  # overall accesses (Count)
system.cpu0.dcache.overallMisses::total  20  # overall misses (Count)
system.cpu1.dcache.overallAccesses::total  50  # overall accesses (Count)
system.llc.overallAccesses::total  30  # overall accesses (Count)
system.kernel.pt.bytes  8192  # metric pt.bytes (Byte)
system.kernel.process0.fault.file  2  # metric fault.file (Count)
system.kernel.process0.roi.fault.file  2  # metric fault.file (Count)

---------- End Simulation Statistics   ----------
"""


def folder(tmp_path: Path, **changes: Any) -> Path:
    record = {
        "engine": "gem5",
        "policy": "private",
        "program": {"name": "scan", "sha256": "0" * 64, "workload": True},
        "args": [],
        "cores": 2,
        "region_bytes": 4096,
        "share": True,
        "seed": 1,
        "work": None,
        "preset": "gem5-x86",
        "procs": 2,
        "dumps": ["outside", "roi"],
        "statuses": [0, -11],
        "first_pid": 1000,
        "cause": "ptshare: process 1 was killed by SIGSEGV (read of 0x8 at ip 0x401000)",
    } | changes
    (tmp_path / "ptshare.json").write_text(json.dumps(record))
    (tmp_path / "stats.txt").write_text(STATS)
    (tmp_path / "process0.out").write_bytes(b"scan: ok\n")
    return tmp_path


def test_dumps_are_added_or_taken_from_the_last(tmp_path: Path) -> None:
    place = folder(tmp_path)
    rows = stats.statistics(place, stats.read_record(place))
    assert len(rows) == len(set(row[:2] for row in rows))
    values = {(process, name): value for process, name, value in rows}
    assert values[-1, "pt.bytes"] == 8192
    assert values[0, "fault.file"] == 9
    assert values[0, "roi.fault.file"] == 2
    assert values[0, "cache.l1d.accesses"] == 600
    assert values[0, "cache.l1d.misses"] == 30
    assert values[0, "roi.cache.l1d.accesses"] == 500
    assert values[1, "cache.l1d.accesses"] == 50
    assert values[-1, "cache.llc.accesses"] == 30
    # What gem5 gives any object is no metric.
    assert not any("power_state" in name for _, name in values)


@pytest.mark.parametrize("statistic", ["process0.exit_code", "process1.roi.fault.new", "pt.new"])
def test_a_statistic_of_the_kernel_that_is_no_metric_is_refused(
    tmp_path: Path, statistic: str
) -> None:
    place = folder(tmp_path)
    line = f"system.kernel.{statistic}  0  # of another version (Count)\n"
    last = "system.kernel.pt.bytes  8192"
    (place / "stats.txt").write_text(STATS.replace(last, line + last))
    metric = statistic.removeprefix("process0.").removeprefix("process1.")
    with pytest.raises(UserError) as error:
        stats.statistics(place, stats.read_record(place))
    told = f"system.kernel.{statistic}: the vocabulary has no metric {metric};"
    assert told in str(error.value) and str(place / "stats.txt") in str(error.value)


def test_what_runs_on_spare_cores_is_in_the_sum_alone(tmp_path: Path) -> None:
    place = folder(tmp_path, procs=1, cores=2)
    rows = stats.statistics(place, stats.read_record(place))
    values = {(process, name): value for process, name, value in rows}
    assert values[0, "cache.l1d.accesses"] == 600
    assert values[-1, "cache.l1d.accesses"] == 650
    assert (1, "cache.l1d.accesses") not in values


def test_processes_that_were_left_when_one_crashed(tmp_path: Path) -> None:
    place = folder(tmp_path, statuses=[-1000, -11])
    first, second = stats.processes(place, stats.read_record(place))
    assert first.followed and first.status == -9
    assert not second.followed


def test_processes_tell_how_they_ended(tmp_path: Path) -> None:
    place = folder(tmp_path)
    first, second = stats.processes(place, stats.read_record(place))
    assert (first.status, first.stdout, first.pid) == (0, b"scan: ok\n", 1000)
    assert (second.status, second.note) == (-11, "read of 0x8 at ip 0x401000")
    assert second.stdout == b""


def test_summary_reads_m5out_as_a_run(tmp_path: Path) -> None:
    place = folder(tmp_path)
    (found,) = frames.find(tmp_path)
    loaded = frames.read(found)
    wide = frames.wide([loaded]).iloc[0]
    assert (wide["engine"], wide["program"], wide["fault.file"]) == ("gem5", "scan", 9)
    assert wide["roi.fault.file"] == 2
    assert set(loaded.tidy["run"]) == {loaded.record["run"]}
    other = stats.read_record(folder(tmp_path, seed=2))
    assert other["run"] != loaded.record["run"]
    folder(tmp_path, policy=None)
    with pytest.raises(UserError, match="stock gem5"):
        frames.read(place)


def test_a_dataset_takes_m5out_as_a_run(tmp_path: Path) -> None:
    (tmp_path / "m5out").mkdir()
    folder(tmp_path / "m5out", config={"mmu.pcids": 6})
    assert dataset.gather([tmp_path], tmp_path / "summary").skipped == []
    row = dataset.load(tmp_path / "summary").iloc[0]
    assert (row["run"], row["engine"], row["fault.file"]) == ("m5out", "gem5", 9)
    assert row["mmu.pcids"] == 6
    assert pd.isna(row["failed"]) and pd.isna(row["started"])


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("ptshare.json", "{", "not JSON"),
        ("ptshare.json", "[]", "not the record"),
        ("stats.txt", "", "0 dumps where ptshare.json has 2"),
    ],
)
def test_damaged_folders_are_named(tmp_path: Path, name: str, text: str, told: str) -> None:
    place = folder(tmp_path)
    (place / name).write_text(text)
    with pytest.raises(UserError, match=told) as error:
        stats.statistics(place, stats.read_record(place))
    assert str(place / name) in str(error.value)
