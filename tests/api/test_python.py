"""The functions of the package: what the commands do, typed, silent, with one kind of error."""

from __future__ import annotations

import inspect
import json
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import ptshare_plugin as pt
from ptshare_plugin.api import RunOptions
from ptshare_plugin.runs.options import STATED

COMMAND = Path(sysconfig.get_path("scripts"), "ptshare")
SMALL: dict[str, Any] = {"procs": 2, "region": "2MiB", "work": 2}


def told(*words: str) -> Any:
    done = subprocess.run([COMMAND, *words, "--json"], text=True, capture_output=True, check=True)
    return json.loads(done.stdout)


def figures(values: Any) -> dict[str, float]:
    """Metrics alone, without those of the host."""
    return {
        name: value
        for name, value in values.items()
        if "." in name and not name.startswith(("host.", "program."))
    }


def test_every_option_of_a_run_is_taken() -> None:
    assert set(RunOptions.__annotations__) == STATED.keys() - {"program", "policy"}
    for function in (pt.run, pt.compare):
        parameters = inspect.signature(function).parameters
        assert STATED.keys() <= parameters.keys()
        for name, stated in STATED.items():
            if name != "policy":  # compare has several
                assert parameters[name].default == stated.default
            assert f":param {name}: " in str(function.__doc__)


def test_compare_is_the_command(capfd: pytest.CaptureFixture[str]) -> None:
    private, shared = pt.compare("scan", policy=["private", "ptshare"], **SMALL)
    assert capfd.readouterr() == ("", "")
    words = ("compare", "scan", "--procs", "2", "--region", "2MiB", "--work", "2")
    assert {result.spec.name: figures(result.metrics) for result in (private, shared)} == {
        name: figures(row) for name, row in told(*words).items()
    }
    assert private.run.command[:3] == ["ptshare", "compare", "scan"]
    again = told(*private.run.command[1:])
    assert figures(again["ptshare"]) == figures(shared.metrics)
    assert private.output == shared.output and len(private.output) == 2
    assert shared.by_process.keys() == {0, 1}


def test_compare_without_policies_takes_the_command_s() -> None:
    results = pt.compare("scan", **SMALL)
    assert [result.spec.policy for result in results] == ["private", "ptshare"]


def test_compare_varies_keys() -> None:
    results = pt.compare(
        "scan", policy="ptshare", vary={"share.level": ["pte", "pmd"], "mmu.pcids": [0, 6]}, **SMALL
    )
    assert [result.spec.varied for result in results] == [
        (f"share.level={level}", f"mmu.pcids={pcids}")
        for level in ("pte", "pmd")
        for pcids in (0, 6)
    ]
    assert results[0].metrics["pt.bytes"] != results[2].metrics["pt.bytes"]


def test_a_run_is_kept_and_loaded(tmp_path: Path) -> None:
    done = pt.run("scan", set={"mmu.stlb.entries": 1024, "mmu.shared_tags": True}, **SMALL)
    assert (done.spec.config.mmu.stlb.entries, done.spec.config.mmu.shared_tags) == (1024, True)
    assert done.spec.overrides == ("mmu.stlb.entries=1024", "mmu.shared_tags=true")
    frame = pt.load(done.write(tmp_path / "out"))
    assert frame.columns.tolist() == done.frame.columns.tolist()
    columns = ["process", "metric", "value", "unit"]
    pd.testing.assert_frame_equal(frame[columns], done.frame[columns])
    assert set(done.frame["run"]) == {done.spec.run_id()}
    with pytest.raises(pt.UserError, match=r"output .*out: is not empty"):
        done.write(tmp_path / "out")
    done.write(tmp_path / "out", force=True)
    record = json.loads((tmp_path / "out" / "run.json").read_text())
    assert record["command"] == done.run.command
    assert done.run.command[:3] == ["ptshare", "run", "scan"]


def test_sizes_and_settings_may_be_numbers_or_texts() -> None:
    one = pt.run("scan", procs=1, region=2 << 20, work=1, set=["kernel.fault_around_bytes=4KiB"])
    two = pt.run("scan", procs=1, region="2MiB", work=1, set={"kernel.fault_around_bytes": 4096})
    assert one.spec.identity() == two.spec.identity()
    assert figures(one.metrics) == figures(two.metrics)


def test_progress_is_shown_only_when_asked(capfd: pytest.CaptureFixture[str]) -> None:
    seen: list[tuple[str, int, int]] = []
    pt.run("scan", progress=lambda *call: seen.append(call), **SMALL)
    assert seen and all(label == "scan, ptshare" for label, _, _ in seen)
    assert [count for _, count, _ in seen] == sorted(count for _, count, _ in seen)
    assert capfd.readouterr() == ("", "")


def test_a_trace(tmp_path: Path) -> None:
    trace = tmp_path / "t.lackey"
    trace.write_text("I  00400000,4\n L 40000000,8\n S 40000000,8\n")
    done = pt.run(trace=trace, trace_share="0x40000000-0x40200000", procs=2)
    assert (done.spec.engine, done.metrics["access.data"]) == ("stream", 4)


def test_plan_is_the_command() -> None:
    asked = {"procs": 20, "region": "1GiB", "memory": "4GiB"}
    planned = pt.plan(**asked)  # type: ignore[arg-type]
    words = [word for name, value in asked.items() for word in (f"--{name}", str(value))]
    assert planned.rows == told("plan", *words)
    frame = planned.frame
    assert frame["policy"].tolist() == list(planned.rows)
    assert frame["pt.bytes"].tolist() == [row["pt.bytes"] for row in planned.rows.values()]
    assert pt.plan(policy="private", **asked).frame["policy"].tolist() == ["private"]  # type: ignore[arg-type]


SWEEP = """\
[base]
workload = "scan"
engine = "stream"
region = "2MiB"
work = 1
procs = 1
[axes]
policy = ["private", "ptshare"]
"""


def test_a_script_sweeps(tmp_path: Path) -> None:
    """As a script without a guard of its own, from which Dask's workers must not start again."""
    (tmp_path / "sweep.toml").write_text(SWEEP)
    (tmp_path / "script.py").write_text(
        "import ptshare_plugin as pt\n"
        "for made in (2, 0):\n"
        "    done = pt.sweep('sweep.toml', 'out', workers=1)\n"
        "    assert (done.total, done.made, done.before) == (2, made, 2 - made), done\n"
        "assert sorted(done.frame['policy'].unique()) == ['private', 'ptshare']\n"
        "print('whole')\n"
    )
    done = subprocess.run(
        [sys.executable, "script.py"], text=True, capture_output=True, cwd=tmp_path, timeout=120
    )
    assert (done.stdout, done.stderr) == ("whole\n", "")


@pytest.mark.parametrize(
    ("function", "options", "message"),
    [
        (pt.run, {}, "the program is missing"),
        (pt.run, {"program": "scna"}, "program: unknown workload scna (did you mean scan?)"),
        (pt.run, {"program": "./none"}, "/none: no such file"),
        (pt.run, {"program": "scan", "bogus": 1}, "unknown option bogus"),
        (pt.run, {"program": "scan", "proc": 1}, "unknown option proc (did you mean procs?)"),
        (pt.run, {"program": "scan", "procs": 0}, "procs 0: must be 1 to"),
        (pt.run, {"program": "scan", "procs": "4"}, "procs: must be a whole number, not '4'"),
        (pt.run, {"program": "scan", "region": "big"}, "region: 'big' is not a size"),
        (pt.run, {"program": "scan", "region": "3MiB"}, "region 3MiB: MAP_SHARED_PT needs"),
        (pt.run, {"program": "scan", "share": 0}, "share: must be true or false, not 0"),
        (pt.run, {"program": "scan", "policy": "ptshar"}, "(did you mean ptshare?)"),
        (pt.run, {"program": "scan", "engine": "gem"}, "engine: unknown engine gem"),
        (pt.run, {"program": "scan", "set": {"mmu.pcid": 1}}, "(did you mean mmu.pcids?)"),
        (pt.run, {"program": "scan", "set": {"share.level": "x"}}, "share.level is x, but must"),
        (pt.run, {"program": "scan", "set": "mmu.pcids=1"}, "set: must be a list of words"),
        (pt.run, {"program": "scan", "preset": "nope"}, "unknown preset nope"),
        (
            pt.run,
            {"program": "scan", "args": ["--bogus"]},
            "rank 0 exited with status 2 (and 3 more ranks failed); scan: --bogus: unknown",
        ),
        (pt.run, {"program": "scan", "trace": "/none"}, "trace: replaces the program; leave scan"),
        (pt.run, {"trace": "/none"}, "trace: /none: cannot be read"),
        (pt.run, {"program": "scan", "workload": "zipf"}, "workload: is another name of program"),
        (pt.run, {"program": "scan", "args": ["--work", "3"]}, "args: --work: a workload has it"),
        (pt.run, {"program": "scan", "seed": True}, "seed: must be a whole number, not True"),
        (pt.run, {"program": "./a\0b"}, "program: must be text without NUL characters"),
        (pt.run, {"program": 5}, "program: must be a word, not 5"),
        (pt.run, {"program": "scan", "set": {5: 4}}, "set: must be keys of the machine"),
        (pt.run, {"program": "scan", "progress": 1}, "progress: must be True, False or a function"),
        (pt.compare, {"program": "scan", "policy": 5}, "policy: must be names of policies"),
        (pt.compare, {"program": "scan", "vary": ["x"]}, "vary: must be lists of values by key"),
        (pt.compare, {"program": "scan", "policy": ["private"] * 2}, "policy: private is named"),
        (pt.compare, {"program": "scan", "vary": {"mmu.pcids": 3}}, "must be a list of values"),
        (pt.compare, {"program": "scan", "vary": {"mmu.pcids": [1, 1]}}, "different values"),
        (pt.plan, {"procs": 0}, "procs 0: must be 1 to"),
        (pt.plan, {"access": "look"}, "access look: must be read or write"),
        (pt.plan, {"procs": 2.0}, "procs: must be a whole number, not 2.0"),
        (pt.plan, {"cpus": True}, "cpus: must be a whole number, not True"),
        (pt.plan, {"memory": 1.5}, "memory: must be a size, like 4MiB, not 1.5"),
        (pt.plan, {"pattern": 1}, "pattern: must be a word, not 1"),
        (pt.plan, {"policy": ["private"] * 2}, "policy: private is named twice"),
        (pt.plan, {"policy": "none"}, "policy: unknown policy none"),
        (pt.sweep, {"file": "/none.toml", "output": "/none"}, "/none.toml: cannot be read"),
        (pt.load, {"path": "/none"}, "/none: no such folder"),
    ],
)
def test_one_kind_of_error(function: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(pt.UserError) as caught:
        function(**options)
    assert message in str(caught.value)
    assert "--procs" not in str(caught.value) and "\n" not in str(caught.value)


def test_what_a_callback_raises_is_its_own() -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("mine")

    with pytest.raises(RuntimeError, match="mine"):
        pt.run("scan", progress=broken, **SMALL)


def test_a_program_that_fails_raises_unless_it_may() -> None:
    done = pt.run("scan", args=["--bogus"], check=False, **SMALL)
    assert done.run.ranks[0].status == 2


def test_the_package_imports_nothing_heavy_and_lists_what_it_has() -> None:
    code = (
        "import sys, ptshare_plugin as pt; print(dir(pt) == pt.__all__,"
        " [m for m in ('pandas', 'numpy', 'typer', 'rich') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], text=True, capture_output=True, check=True)
    assert done.stdout == "True []\n"
    with pytest.raises(AttributeError, match="no attribute 'bogus'"):
        _ = pt.bogus
