"""Recordings that results rest on: made when they are not there; figures by what clients had done.

``ptshare recording DIR`` says how many transactions, or requests, the clients of one counted.
"""

from __future__ import annotations

import re
import shlex
import subprocess
import tomllib
from pathlib import Path

import pandas as pd

from ptshare_plugin.machine.schema import KEYS
from ptshare_plugin.recording.folder import Work, read_manifest

HERE = Path(__file__).resolve().parent
KEPT = HERE.parent / "build" / "recordings"
RECORDINGS, EACH = "recordings.toml", "per-unit.csv"
METRICS = (
    *("instructions", "access.data"),
    *(f"fault.{kind}" for kind in ("total", "link", "host", "file", "anon", "cow")),
    *("tlb.dtlb.misses", "tlb.stlb.misses", "walk.faulted", "walk.data", "walk.cycles"),
    *(f"walk.reads.pte.{place}" for place in ("l1", "l2", "llc", "dram", "transfers")),
    *(f"cycles.{part}" for part in ("total", "data", "walk", "fault", "syscall")),
)


def commands(name: str) -> dict[str, list[str]]:
    """What ``ptshare record`` is given for each recording of a folder."""
    path = HERE / name / RECORDINGS
    if not path.exists():
        return {}
    return {key: shlex.split(value) for key, value in tomllib.loads(path.read_text()).items()}


def make(name: str) -> None:
    """Make the recordings of a folder that are not there."""
    for recording, words in commands(name).items():
        if not (KEPT / recording).exists():
            subprocess.run(["ptshare", "record", *words, "-o", KEPT / recording], check=True)


def per_unit(frame: pd.DataFrame) -> pd.DataFrame:
    """For each run, all of it and its region of interest: metrics by transaction or request."""
    lines, varied = [], _varied(frame)
    for _, row in frame.iterrows():
        work = read_manifest(KEPT / row["program"]).work
        assert work is not None
        for part, prefix, count in _parts(work, row["args"]):
            line = {key: row[key] for key in ("run", "policy", "program", "procs", *varied)}
            line |= {"part": part, work.unit + "s": count}
            line |= {metric: row[prefix + metric] / count for metric in METRICS}
            lines.append(line)
    return pd.DataFrame(lines).round(4)


def _varied(frame: pd.DataFrame) -> list[str]:
    """What the machines of the runs differ in: keys that vary under one preset, and the preset."""
    keys = [key for key in ("cores", *KEYS) if key in frame]
    under = frame.groupby("preset")[keys].nunique()
    presets = ["preset"] if frame["preset"].nunique() > 1 else []
    return presets + [key for key in keys if (under[key] > 1).any()]


def _parts(work: Work, args: str) -> list[tuple[str, str, int]]:
    times = re.search(r"--procs x(\d+)", args)
    copies = int(times[1]) if times else 1
    parts = [("whole run", "", work.total * copies), ("region", "roi.", work.roi * copies)]
    return [part for part in parts if part[2]]


def without_places(commands_of_runs: pd.Series[str]) -> pd.Series[str]:
    """As they would be typed in the source's folder."""
    return commands_of_runs.str.replace(r"\S*/results/[^/]+/\.\./\.\./", "", regex=True)
