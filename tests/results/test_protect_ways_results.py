"""Do the committed figures of ways to change a protection hold together, and come out again?"""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from ptshare_plugin.machine import config
from ptshare_plugin.studies import protect_ways

FOLDER = Path(__file__).parents[2] / "results" / "protect-ways"
# By file: the piece, and the policies.
MADE = {
    "4KiB": ("4KiB", "ptshare,private"),
    "2MiB": ("2MiB", "ptshare,private"),
    "2MiB-huge": ("2MiB", "ptshare,huge-2m"),
}
PROCS = (2, 8, 16, 32, 128, 512, 2000)
AGAIN = 32  # processes of the largest rows that are measured again without --rerun


def read(name: str) -> pd.DataFrame:
    return pd.read_csv(FOLDER / f"{name}.csv")


@pytest.mark.parametrize("name", MADE)
def test_rows(name: str) -> None:
    frame = read(name)
    keys = ["direction", "way", "procs"]
    assert len(frame) == 2 * 3 * len(PROCS) == len(frame[keys].drop_duplicates())
    assert set(frame["procs"]) == set(PROCS)
    assert set(protect_ways.MEANINGS) <= set(frame)
    assert (frame["stale_hits"] == 0).all()
    shared = frame[frame["way"] == "shared"]
    assert (shared["syscalls"] == 1).all()
    never = (frame["way"] == "trap") & (frame["direction"] == "read-only")
    assert (frame["hold_cycles"].isna() == never).all()
    assert (frame.loc[~never, "adopted"] == frame.loc[~never, "procs"]).all()
    assert (frame.loc[never, "adopted"] == 1).all()
    assert (
        frame["work_cycles"]
        == frame["change_cycles"] + frame["touch_cycles"] - frame["baseline_cycles"]
    ).all()


@pytest.mark.parametrize("name", MADE)
def test_what_the_page_says(name: str) -> None:
    frame = read(name).set_index(["direction", "way", "procs"]).sort_index()
    for direction in protect_ways.DIRECTIONS:
        shared = frame.loc[direction, "shared"]
        message = frame.loc[direction, "message"]
        # Once all cores run a guest, the shared call does not grow with processes.
        assert shared["hold_cycles"].loc[32:].nunique() == 1
        assert (shared["work_cycles"].loc[32:] < message["work_cycles"].loc[32:]).all()
        # Messages grow with them, process by process.
        growth = message["work_cycles"].loc[2000] / message["work_cycles"].loc[512]
        assert 0.8 * 2000 / 512 < growth < 1.2 * 2000 / 512


@pytest.mark.parametrize("name", MADE)
def test_again(name: str, request: pytest.FixtureRequest) -> None:
    frame = read(name)
    if not request.config.getoption("--rerun"):
        frame = frame[frame["procs"] <= AGAIN]
    procs = ",".join(str(n) for n in sorted(set(frame["procs"])))
    piece, policies = MADE[name]
    setting = protect_ways.parse(procs, 16, "64MiB", piece, "shared,message,trap", policies)
    rows = protect_ways.Measurement(setting, config.load("server")).rows()
    now = protect_ways.frame(rows)
    assert now["direction"].tolist() == frame["direction"].tolist()
    for column in protect_ways.MEANINGS:
        then = frame[column].astype("Int64").reset_index(drop=True)
        pd.testing.assert_series_equal(now[column].astype("Int64"), then, check_names=False)
