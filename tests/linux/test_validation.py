"""Is the model's private baseline this kernel's?

The quick cases of ``ptshare validate``, sequences of memory calls drawn at random, and whether the
comparison would notice a difference.
"""

from __future__ import annotations

import dataclasses
import json
import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ptshare_plugin.engines.gem5.engine import Gem5Engine
from ptshare_plugin.runs.run import Run
from ptshare_plugin.studies.validation import cases, sequences, validate
from ptshare_plugin.studies.validation.cases import Case
from ptshare_plugin.studies.validation.outcome import MARKS, METRICS, PTE_MARKS, Outcome, Pair

COMMAND = Path(sys.executable).with_name("ptshare")
EXAMPLES = int(os.environ.get("PTSHARE_EXAMPLES", "25"))
MODELLED = (6, 17)
RELEASE = tuple(int(part) for part in platform.release().split("-")[0].split(".")[:2])
QUICK = cases.select(True, [])
OLDER = pytest.mark.skipif(
    RELEASE < MODELLED,
    reason=f"memory calls are modelled after Linux 6.18; this is {platform.release()}",
)


@pytest.fixture(scope="module")
def outcomes() -> dict[str, Outcome]:
    result = validate.validate(QUICK, ["embedded"], lambda _: None)
    return {outcome.case.name: outcome for outcome in result.outcomes}


@OLDER
@pytest.mark.parametrize("name", [case.name for case in QUICK])
def test_the_model_agrees_with_this_kernel(name: str, outcomes: dict[str, Outcome]) -> None:
    outcome = outcomes[name]
    if outcome.skipped:
        pytest.skip(outcome.skipped)
    assert outcome.problems == []
    assert outcome.metrics["vm.pte_bytes.end"].measured > 0


GEM5 = Gem5Engine().missing()


@OLDER
@pytest.mark.gem5
@pytest.mark.skipif(GEM5 is not None, reason=GEM5 or "")
def test_gem5_agrees_with_this_kernel() -> None:
    chosen = [case for case in QUICK if case.gem5]
    assert len(chosen) >= 5
    result = validate.validate(chosen, ["gem5"], lambda _: None)
    assert [(outcome.name, outcome.cause) for outcome in result.outcomes if not outcome.ok] == []


@OLDER
@given(data=st.data())
@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
def test_any_sequence_of_memory_calls(data: st.DataObject) -> None:
    calls = sequences.draw(lambda low, high: data.draw(st.integers(low, high)), 1024, 12)
    case = Case("drawn", "calls", calls=calls)
    (outcome,) = validate.validate([case], ["embedded"], lambda _: None).outcomes
    assert outcome.problems == [], calls


# ---- Would a difference be noticed?


@pytest.fixture(scope="module")
def pair() -> tuple[Case, Run, Run]:
    case = Case("fork", "calls", calls="m0.600.3.2.0,w0.300.1,f,w0.10.1,e,w0.300.1")
    runs = [validate.attempt(case, engine, ()) for engine in ("linux", "embedded")]
    assert all(isinstance(run, Run) for run in runs)
    return case, runs[0], runs[1]  # type: ignore[return-value]


def judged(case: Case, linux: Run, modelled: Run) -> Outcome:
    outcome = Outcome(case, "embedded")
    validate.compare(outcome, linux, modelled)
    return outcome


def changed(run: Run, which: int, **fields: int) -> Run:
    samples = list(run.result.samples)
    samples[which] = dataclasses.replace(samples[which], **fields)
    return dataclasses.replace(run, result=dataclasses.replace(run.result, samples=samples))


def test_equal_runs_are_judged_equal(pair: tuple[Case, Run, Run]) -> None:
    outcome = judged(*pair)
    assert outcome.ok and not outcome.cause
    marks = len(pair[1].result.samples)
    assert outcome.metrics[MARKS] == Pair(marks, marks)


@pytest.mark.parametrize(
    ("field", "metric"),
    [
        ("vm_pte_bytes", PTE_MARKS),
        ("minor_faults", MARKS),
        ("rss_anon_bytes", MARKS),
        ("rss_file_bytes", MARKS),
    ],
)
def test_one_other_figure_at_one_mark_is_noticed(
    field: str, metric: str, pair: tuple[Case, Run, Run]
) -> None:
    case, linux, modelled = pair
    outcome = judged(case, linux, changed(modelled, 4, **{field: 1}))
    assert not outcome.ok and f"{metric} differs" in outcome.cause


def test_of_several_ranks_faults_count_from_the_region_of_interest() -> None:
    if not validate.userfaultfd():
        pytest.skip("no userfaultfd for tmpfs here")
    case = Case("scan", "scan", procs=2, around=False, work=1)
    linux, modelled = (validate.attempt(case, engine, ()) for engine in ("linux", "embedded"))
    assert isinstance(linux, Run) and isinstance(modelled, Run)
    assert judged(case, linux, modelled).ok
    both = [index for index, mark in enumerate(linux.result.samples) if mark.rank == 1]
    later = linux
    for index in both:  # one fault more, at the start
        faults = linux.result.samples[index].minor_faults
        later = changed(later, index, minor_faults=faults + 1)
    assert judged(case, later, modelled).ok
    inside = changed(linux, both[1], minor_faults=linux.result.samples[both[1]].minor_faults + 1)
    assert not judged(case, inside, modelled).ok


def test_page_table_bytes_may_never_differ(pair: tuple[Case, Run, Run]) -> None:
    case, linux, modelled = pair
    lenient = dataclasses.replace(case, may_differ=(*METRICS, MARKS, PTE_MARKS), cause="luck")
    assert not judged(lenient, linux, changed(modelled, 2, vm_pte_bytes=4096)).ok
    other_faults = judged(lenient, linux, changed(modelled, 2, minor_faults=0))
    assert other_faults.ok and other_faults.cause == "luck"


def test_a_lost_mark_and_other_output_are_noticed(pair: tuple[Case, Run, Run]) -> None:
    case, linux, modelled = pair
    shorter = dataclasses.replace(
        modelled,
        result=dataclasses.replace(modelled.result, samples=modelled.result.samples[:-1]),
    )
    assert not judged(case, linux, shorter).ok
    silent = [dataclasses.replace(process, stdout=b"") for process in modelled.result.processes]
    quiet = dataclasses.replace(
        modelled, result=dataclasses.replace(modelled.result, processes=silent)
    )
    assert "the program's output differs" in judged(case, linux, quiet).problems


# ---- The command


def ptshare(*args: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([COMMAND, *args], capture_output=True, text=True, timeout=300)


@OLDER
def test_json_report_and_table(tmp_path: Path) -> None:
    page, table = tmp_path / "v.html", tmp_path / "v.md"
    done = ptshare(
        *("validate", "--quick", "--no-gem5", "--case", "scan, 1*", "--json"),
        *("--report", page, "--markdown", table),
    )
    assert done.returncode == 0, done.stderr
    cases = json.loads(done.stdout)["cases"]
    assert len(cases) == 2
    for case in cases:
        assert case["ok"] and case["name"].startswith("scan, 1") and case["cause"] == ""
        assert {"measured", "modelled"} == set(case["metrics"]["vm.pte_bytes.end"])
    text = page.read_text()
    assert text.count("<svg") == 2
    assert not any(word in text for word in ("<script", "<link", "src=", "@import"))
    assert all(case["name"] in text and case["name"] in table.read_text() for case in cases)


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("--case", "scann*"), "--case scann*: matches none of the "),
        (("--quick", "--report", "/none/x"), "--report /none/x: no such folder"),
    ],
)
def test_wrong_input_is_one_clear_line(args: tuple[str, ...], message: str) -> None:
    done = ptshare("validate", "--no-gem5", *args)
    assert done.returncode != 0
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"ptshare: error: {message}")
