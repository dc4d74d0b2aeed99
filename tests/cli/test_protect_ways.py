"""``ptshare protect-ways``: what it measures, writes and refuses."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from ptshare_plugin.studies import protect_ways

COMMAND = Path(sys.executable).with_name("ptshare")
SMALL = ("--procs", "2,4,12", "--cores", "4", "--region", "2MiB", "--piece", "64KiB")


def run(*args: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [COMMAND, "protect-ways", *map(str, args)], text=True, capture_output=True, timeout=300
    )


def measured(*args: object) -> dict[str, Any]:
    done = run(*args, "--json")
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.fixture(scope="module")
def small() -> dict[str, Any]:
    return measured(*SMALL)


def test_every_point_is_there_once(small: dict[str, Any]) -> None:
    keys = [(p["direction"], p["way"], p["procs"]) for p in small["points"]]
    assert keys == [
        (direction, way, procs)
        for direction in protect_ways.DIRECTIONS
        for way in protect_ways.WAYS
        for procs in (2, 4, 12)
    ]


def test_counts(small: dict[str, Any]) -> None:
    for point in small["points"]:
        n, loosened = point["procs"], point["direction"] == "read-write"
        trapped = n - 1 if loosened else 0
        calls, messages, signals = {
            "shared": (1, 0, 0),
            "message": (2 * n + 1, n, n - 1),
            "trap": (1 + trapped, 0, trapped),
        }[point["way"]]
        assert point["syscalls"] == calls
        assert (point["messages"], point["signals"]) == (messages, signals)
        assert point["ipis"] == (min(n, 4) - 1 if point["way"] == "shared" else 0)
        assert point["stale_hits"] == 0
        never = point["way"] == "trap" and not loosened
        assert point["adopted"] == (1 if never else n)
        assert (point["hold_cycles"] is None) == never
        assert point["work_cycles"] == (
            point["change_cycles"] + point["touch_cycles"] - point["baseline_cycles"]
        )
        assert point["caller_us"] == point["caller_cycles"] / 3000


def test_crossovers_are_where_the_measured_costs_cross(small: dict[str, Any]) -> None:
    for item in small["crossovers"]:
        tightening_trap = item["way"] == "trap" and item["direction"] == "read-only"
        assert (item["procs"] is None) == tightening_trap
        assert bool(item["reason"]) == tightening_trap
        if not item["procs"] or item["procs"] == 2:
            continue
        around = measured(*SMALL[2:], "--procs", f"{item['procs'] - 1},{item['procs']}")["points"]
        cost = {
            (point["way"], point["procs"]): point[f"{item['figure']}_cycles"]
            for point in around
            if point["direction"] == item["direction"]
        }
        before, at = item["procs"] - 1, item["procs"]
        assert cost["shared", at] < cost[item["way"], at]
        assert cost["shared", before] >= cost[item["way"], before]
    assert any(item["procs"] and item["procs"] > 2 for item in small["crossovers"])


@pytest.mark.parametrize(
    ("first", "expected"), [(2, 2), (3, 3), (8, 8), (9, 9), (100, 100), (101, 0)]
)
def test_first_from_finds_a_single_change(first: int, expected: int) -> None:
    assert protect_ways.first_from((2, 8, 32, 100), lambda n: n >= first) == expected


def test_the_number_of_cores_is_looked_at_unasked() -> None:
    # Of 2 MiB at 2 and at 32 processes the shared call is done first, with one on each of 16 cores
    # the messages are: they run at once, while its interrupts follow each other.
    found = measured("--procs", "2,32", "--cores", "16", "--region", "2MiB", "--piece", "2MiB")
    (item,) = (
        item
        for item in found["crossovers"]
        if (item["direction"], item["figure"], item["way"]) == ("read-only", "hold", "message")
    )
    points = {(p["way"], p["procs"]): p for p in found["points"] if p["direction"] == "read-only"}
    for procs in (2, 32):
        assert points["shared", procs]["hold_cycles"] < points["message", procs]["hold_cycles"]
    assert item["procs"] > 16


def test_first_from_wants_it_to_last() -> None:
    asked: list[int] = []

    def holds(n: int) -> bool:
        asked.append(n)
        return n < 5 or n > 20

    assert protect_ways.first_from((2, 8, 32), holds) == 21
    assert 2 not in asked


def test_costs_are_those_of_the_machine(small: dict[str, Any]) -> None:
    dearer = measured(*SMALL, "--set", "cost.signal=1002500", "--set", "cost.message=3500")
    for point, base in zip(dearer["points"], small["points"], strict=True):
        assert point["change_cycles"] + point["touch_cycles"] == (
            base["change_cycles"]
            + base["touch_cycles"]
            + 1_000_000 * point["signals"]
            + 2_000 * point["messages"]
        )


def test_files(small: dict[str, Any], tmp_path: Path) -> None:
    table, svg = tmp_path / "ways.csv", tmp_path / "ways.svg"
    done = run(*SMALL, "-o", table, "--plot", svg)
    assert done.returncode == 0, done.stderr
    assert "To read-only" in done.stdout
    assert "shared (ptshare) beats message (private) from 2 processes on" in done.stdout
    assert "trap (private) does not reach all processes" in done.stdout
    frame = pd.read_csv(table)
    assert frame["work_cycles"].tolist() == [point["work_cycles"] for point in small["points"]]
    assert frame["hold_cycles"].isna().sum() == 3
    assert "processes" in svg.read_text()

    first = table.read_bytes(), svg.read_bytes()
    refused = run(*SMALL, "-o", table)
    assert refused.returncode == 1
    assert "--force replaces it" in refused.stderr
    parquet, pdf = tmp_path / "ways.parquet", tmp_path / "ways.pdf"
    assert run(*SMALL, "-o", parquet, "--plot", pdf).returncode == 0
    assert pd.read_parquet(parquet)["work_cycles"].tolist() == frame["work_cycles"].tolist()
    assert pdf.read_bytes().startswith(b"%PDF")
    assert run(*SMALL, "-o", table, "--plot", svg, "--force").returncode == 0
    assert (table.read_bytes(), svg.read_bytes()) == first


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("--procs", "1,2"), "--procs 1,2: must be numbers from 2 to 32768"),
        (("--procs", "2,,4"), "--procs 2,,4: must be numbers"),
        (("--cores", "65"), "--cores 65: must be 1 to 64"),
        (("--region", "3MiB"), "--region 3MiB: must be a multiple of 2MiB"),
        (("--region", "big"), "--region: 'big' is not a size"),
        (("--piece", "4097B"), "--piece 4097B: must be a multiple of 4KiB"),
        (("--piece", "0"), "--piece 0: must be a multiple of 4KiB, and not 0"),
        (("--region", "2MiB", "--piece", "4MiB"), "--piece 4MiB: must not exceed the region"),
        (("--ways", "shared,messages"), "unknown 'messages' (did you mean message?)"),
        (("--policy", "ptshared"), "unknown 'ptshared' (did you mean ptshare?)"),
        (("--policy", "private"), "way shared needs a policy that shares tables, like ptshare"),
        (("--policy", "ptshare"), "way message needs a policy with tables of each process's own"),
        (("-o", "ways.txt"), "-o ways.txt: must end with .csv or .parquet"),
        (("--plot", "ways.png"), "--plot ways.png: must end with .svg or .pdf"),
        (("-o", "none/ways.csv"), "no such folder: none"),
        (("--set", "cost.signal=-1"), "cost.signal"),
        (
            ("--region", "64MiB", "--procs", "4", "--set", "kernel.memory_bytes=16MiB"),
            "simulated memory of 16 MiB",
        ),
    ],
)
def test_wrong_input_is_one_line(args: tuple[str, ...], message: str) -> None:
    done = run(*args)
    assert done.returncode in (1, 2)
    assert done.stdout == ""
    assert message in done.stderr
    assert done.stderr.startswith("ptshare: error: ")
    assert done.stderr.count("\n") == 1


def test_a_way_alone_needs_its_policy_alone() -> None:
    alone = measured(*SMALL, "--ways", "message", "--policy", "private")
    assert {point["way"] for point in alone["points"]} == {"message"}
    assert alone["crossovers"] == []


def test_other_policies() -> None:
    found = measured(*SMALL[:-1], "2MiB", "--policy", "mshare,rfc-v2,huge-2m")
    points = {(p["direction"], p["way"], p["policy"], p["procs"]): p for p in found["points"]}
    for procs in (2, 4, 12):
        mshare = points["read-only", "shared", "mshare", procs]
        huge = points["read-only", "message", "huge-2m", procs]
        for point in (mshare, huge):
            assert point["adopted"] == procs
            assert point["stale_hits"] == 0
            assert point["hold_cycles"] is not None
        # As posted only the caller's CPU flushes: those that run meanwhile write on, page by page.
        posted = points["read-only", "shared", "rfc-v2", procs]
        assert posted["ipis"] == 0
        assert posted["stale_hits"] >= 512 * (min(procs, 4) - 1)
        assert posted["hold_cycles"] is None
        # One entry for each process, not 512.
        assert huge["work_cycles"] < procs * 512 * 50


def test_a_part_of_a_huge_page_is_refused() -> None:
    done = run(*SMALL, "--policy", "huge-2m", "--ways", "message")
    assert done.returncode == 1
    assert done.stderr == (
        "ptshare: error: message, huge-2m, 2 processes: mprotect of the piece is refused (errno"
        " 22): it must consist of whole pages of the policy\n"
    )
