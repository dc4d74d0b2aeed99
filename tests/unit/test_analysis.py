import math
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

import ptshare_plugin
from ptshare_plugin.common.errors import UserError
from ptshare_plugin.records import analysis, dataset, folders
from ptshare_plugin.records.run_folder import write
from ptshare_plugin.runs.run import Run

MakeRun = Callable[..., Run]
BYTES, SEEDS = "pt.region.pte_tables", (1, 2, 3)


@pytest.fixture
def frame(tmp_path: Path, make_run: MakeRun) -> pd.DataFrame:
    """Two policies, two numbers of processes, three seeds.

    Tables: 100 a process and seed privately, 10 in all and one a seed when shared.
    """
    for procs in (1, 2):
        for seed in SEEDS:
            for policy, count in (("private", 100 * procs * seed), ("ptshare", 10 * seed)):
                run = make_run(
                    policy=policy, procs=procs, cores=1, seed=seed, counts={BYTES: count}
                )
                with folders.whole(tmp_path / "out" / run.spec.run_id(), False) as place:
                    write(run, place)
    dataset.gather([tmp_path / "out"], tmp_path / "summary")
    return ptshare_plugin.load(tmp_path / "summary")


def test_axes_are_what_varies(frame: pd.DataFrame) -> None:
    assert analysis.axes(frame) == ["policy", "procs", "seed"]
    assert "mmu.pcids" in analysis.parameters(frame)
    assert analysis.axes(frame[frame.policy == "private"]) == ["procs", "seed"]
    frame.loc[0, "work"] = 5  # the others have the workload's default, which is missing
    assert analysis.axes(frame) == ["policy", "procs", "seed", "work"]


def test_savings_are_against_the_run_with_the_same_other_parameters(frame: pd.DataFrame) -> None:
    found = analysis.savings(frame.sample(frac=1, random_state=1), BYTES)
    assert len(found) == 6 and set(found["policy"]) == {"ptshare"}
    for row in found.itertuples():
        assert row.metric == BYTES
        assert row.value == 10 * row.seed and row.baseline == 100 * row.procs * row.seed
        assert row.saving == pytest.approx(0.9 if row.procs == 1 else 0.95)
    assert set(found["run"]) == set(frame["run"][frame.policy == "ptshare"])


def test_savings_of_several_metrics_and_of_nothing(frame: pd.DataFrame) -> None:
    frame["fault.link"] = frame["fault.link"].where(frame["policy"] == "ptshare", 0)
    found = analysis.savings(frame, [BYTES, "fault.link"]).set_index("metric")
    assert len(found) == 12
    assert found.loc["fault.link", "saving"].isna().all()  # of a baseline of 0
    assert (found.loc["fault.link", "baseline"] == 0).all()
    assert found.loc[BYTES, "saving"].notna().all()


def test_savings_along_another_axis(frame: pd.DataFrame) -> None:
    found = analysis.savings(frame, BYTES, baseline=1, axis="procs")
    assert found.groupby("policy")["saving"].mean().to_dict() == {"private": -1, "ptshare": 0}


def test_several_baselines_are_averaged(frame: pd.DataFrame) -> None:
    again = frame[frame.policy == "private"].assign(run="again")
    again[BYTES] *= 3
    found = analysis.savings(pd.concat([frame, again]), BYTES)
    assert (found["baseline"] == 200 * found["procs"] * found["seed"]).all()


def test_a_run_without_a_baseline_is_named_with_what_differs(frame: pd.DataFrame) -> None:
    two = frame[frame["procs"] == 2]
    lone = (two["policy"] == "private") & (two["seed"] == 3)
    with pytest.raises(UserError, match=r"1 of 3 runs have no policy private .*out/.* \(seed 3\)"):
        analysis.savings(two[~lone], BYTES)
    frame.loc[frame["policy"] == "ptshare", "share.level"] = "pmd"
    with pytest.raises(UserError, match=r"6 of 6 runs have .*\(share\.level pmd\)"):
        analysis.savings(frame, BYTES)
    assert len(analysis.savings(frame, BYTES, ignore=["share.level"])) == 6


def test_pivot_is_the_mean_over_repeats(frame: pd.DataFrame) -> None:
    found = analysis.pivot(frame, BYTES, "procs", "policy")
    assert found.index.tolist() == [1, 2] and found.columns.tolist() == ["private", "ptshare"]
    assert found.loc[1].tolist() == [200, 20] and found.loc[2].tolist() == [400, 20]
    saved = analysis.pivot(analysis.savings(frame, BYTES), "saving", "procs", "policy")
    assert saved["ptshare"].tolist() == pytest.approx([0.9, 0.95])
    both = analysis.pivot(frame, BYTES, ["procs", "seed"], "policy")
    assert both.loc[(2, 3), "private"] == 600
    one = frame[frame["procs"] == 1]
    assert analysis.pivot(one, BYTES, "seed", "policy")["private"].tolist() == [100, 200, 300]


def test_a_pivot_of_different_runs_is_refused(frame: pd.DataFrame) -> None:
    with pytest.raises(UserError, match=r"^procs varies among runs that would be averaged"):
        analysis.pivot(frame, BYTES, "seed", "policy")
    with pytest.raises(UserError, match=r"^metric varies"):
        analysis.mean_ci(analysis.savings(frame, [BYTES, "pt.bytes"]), "saving", by="procs")


def test_mean_and_interval_over_seeds(frame: pd.DataFrame) -> None:
    found = analysis.mean_ci(frame, BYTES).set_index(["policy", "procs"])
    assert found.columns.tolist() == ["n", "mean", "low", "high"]
    row = found.loc[("private", 2)]
    half = 4.302653 * 200 / math.sqrt(3)  # 200, 400, 600; t of 2 degrees of freedom
    assert row.tolist() == pytest.approx([3, 400, 400 - half, 400 + half])
    narrow = analysis.mean_ci(frame, BYTES, confidence=0.5).set_index(["policy", "procs"])
    assert narrow.loc[("private", 2), "high"] < row["high"]


def test_intervals_of_savings(frame: pd.DataFrame) -> None:
    found = analysis.mean_ci(analysis.savings(frame, [BYTES, "pt.bytes"]), "saving")
    assert found.columns.tolist() == ["procs", "metric", "n", "mean", "low", "high"]
    row = found[(found["metric"] == BYTES) & (found["procs"] == 2)].iloc[0]
    assert row["mean"] == pytest.approx(0.95) and row["high"] == pytest.approx(row["low"])


def test_one_repeat_has_no_interval_and_a_missing_value_does_not_count(
    frame: pd.DataFrame,
) -> None:
    one = analysis.mean_ci(frame[frame["seed"] == 1], BYTES)
    assert set(one["n"]) == {1} and one["low"].isna().all() and one["mean"].notna().all()
    frame.loc[frame["seed"] == 2, BYTES] = pd.NA
    two = analysis.mean_ci(frame, BYTES).set_index(["policy", "procs"])
    assert set(two["n"]) == {2} and two.loc[("private", 1), "mean"] == 200
    frame[BYTES] = pd.NA
    with pytest.raises(UserError, match=f"{BYTES}: is no column of numbers"):
        analysis.mean_ci(frame.astype({BYTES: object}), BYTES)


def test_all_runs_may_be_repeats_of_one(frame: pd.DataFrame) -> None:
    same = frame[(frame["policy"] == "private") & (frame["procs"] == 1)]
    found = analysis.mean_ci(same, BYTES)
    assert found.columns.tolist() == ["n", "mean", "low", "high"]
    assert found["n"].tolist() == [3] and found["mean"].tolist() == [200]


@pytest.mark.parametrize(
    ("confidence", "freedom", "expected"),  # of printed tables
    [
        *[(0.95, 1, 12.706), (0.95, 2, 4.303), (0.95, 3, 3.182), (0.95, 4, 2.776)],
        *[(0.95, 9, 2.262), (0.95, 10, 2.228), (0.95, 30, 2.042), (0.95, 120, 1.980)],
        *[(0.99, 7, 3.499), (0.9, 5, 2.015), (0.999, 2, 31.599)],
    ],
)
def test_quantiles_of_students_t(confidence: float, freedom: int, expected: float) -> None:
    assert analysis.t_quantile(confidence, freedom) == pytest.approx(expected, abs=6e-4)


def test_wrong_names_are_one_line(frame: pd.DataFrame) -> None:
    with pytest.raises(UserError, match=r"unknown metric pt\.byte \(did you mean pt\.bytes"):
        analysis.savings(frame, "pt.byte")
    with pytest.raises(UserError, match=r"pt\.bytes: no run of the frame has this metric"):
        analysis.savings(frame.drop(columns="pt.bytes"), "pt.bytes")
    with pytest.raises(UserError, match=r"no run with policy privat; there are private, ptshare"):
        analysis.savings(frame, BYTES, baseline="privat")
    with pytest.raises(UserError, match=r"unknown parameter polcy \(did you mean policy\?\)"):
        analysis.savings(frame, BYTES, axis="polcy")
    with pytest.raises(UserError, match=r"unknown parameter proc \(did you mean procs\?\)"):
        analysis.pivot(frame, BYTES, "proc", "policy")
    with pytest.raises(UserError, match="unknown column savin"):
        analysis.mean_ci(frame, "savin")
    with pytest.raises(UserError, match=r"confidence 95: must be between 0 and 1"):
        analysis.mean_ci(frame, BYTES, confidence=95)
    with pytest.raises(UserError, match="the frame has no column engine; load a dataset"):
        analysis.axes(frame.drop(columns="engine"))
