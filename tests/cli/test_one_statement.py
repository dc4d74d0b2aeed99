"""The options of a run are the same for the command line, sweep files, gem5's script and Python."""

from __future__ import annotations

import argparse
import dataclasses
import subprocess
import sys
from pathlib import Path

import fake_gem5
import pytest
import typer
from hypothesis import given
from hypothesis import strategies as st

from ptshare_plugin.cli.main import app
from ptshare_plugin.cli.options import given_options
from ptshare_plugin.common.errors import UserError
from ptshare_plugin.machine import config
from ptshare_plugin.runs.options import ALIASES, STATED, Options, flag
from ptshare_plugin.sweeps.file import NAMES

sys.path.append(str(Path(__file__).parents[2] / "gem5_configs"))
import ptshare_options as in_gem5

RUN, COMPARE = (typer.main.get_command(app).commands[name] for name in ("run", "compare"))  # type: ignore[attr-defined]

options = st.builds(
    Options,
    program=st.sampled_from(["scan", "zipf", "random"]),
    args=st.sampled_from([(), ("--around", "0"), ("-x", "{rank}")]),
    engine=st.sampled_from(["embedded", "stream"]),
    policy=st.sampled_from([None, "private", "mshare"]),
    procs=st.integers(1, 9),
    cores=st.sampled_from([None, 1, 3]),
    region=st.integers(1, 64).map(lambda count: count << 21),
    preset=st.sampled_from(["server", "gem5-x86"]),
    set=st.sampled_from([(), ("mmu.pcids=0",), ("mmu.pcids=4", "share.level=pte")]),
    seed=st.integers(0, 99),
    work=st.sampled_from([None, 3]),
    share=st.booleans(),
)


@pytest.mark.parametrize("command", [RUN, COMPARE])
def test_the_commands_have_every_option_with_its_default(command: typer.core.TyperCommand) -> None:
    found = {parameter.name: parameter for parameter in command.params}
    for name, stated in STATED.items():
        parameter = found[f"no_{name}" if stated.turns_off else name]
        if name not in ("program", "args"):
            assert flag(name) in parameter.opts
        if name == "policy" and command is COMPARE:
            continue  # which has several
        assert given_options({parameter.name or "": parameter.default}) == {}
        told = stated.off or stated.help
        assert str(parameter.help).startswith(told)  # type: ignore[attr-defined]


@given(asked=options)
def test_a_command_makes_the_same_options(asked: Options) -> None:
    words = asked.command()
    assert words[:2] == ["ptshare", "run"]
    context = RUN.make_context("run", words[2:])
    assert Options.of(given_options(context.params)) == asked
    assert Options.of_json(dataclasses.asdict(asked)) == asked


def test_sweep_files_have_every_option() -> None:
    assert set(NAMES) == {*STATED, *ALIASES} - {"set"}


def test_gem5_s_script_has_every_option_but_its_own_engine_and_traces() -> None:
    found: dict[str, argparse.Action] = {}
    for action in in_gem5.parser()._actions:
        found.setdefault(action.dest, action)
    assert STATED.keys() - found.keys() == {
        *("args", "engine", "trace", "trace_share", "trace_end"),
        *("recording", "share_rules", "align", "times"),
    }
    for name in STATED.keys() & found.keys():
        action = found[name]
        assert action.default is argparse.SUPPRESS  # so that the default is the statement's
        assert name == "program" or flag(name) in action.option_strings


def test_gem5_s_script_makes_the_same_run(tmp_path: Path) -> None:
    words = ["scan", "--procs", "3", "--region", "2MiB", "--no-share", "--seed", "5", "--cpu", "o3"]
    asked = in_gem5.parse([*words, "--set", "mmu.pcids=4", "--cores", "3", "--", "-x", "{rank}"])
    same = Options.of(
        {
            "program": "scan",
            "procs": 3,
            "cores": 3,
            "region": "2MiB",
            "share": False,
            "seed": 5,
            "set": {"mmu.pcids": 4, "gem5.cpu": "o3"},
            "args": ["-x", "{rank}"],
        }
    )
    spec = dataclasses.replace(same, engine="gem5").spec()
    assert asked.spec.identity() == spec.identity()
    assert [asked.spec.argv(rank) for rank in range(3)] == [spec.argv(rank) for rank in range(3)]
    # Handed over in one file, it is the same again.
    import json

    request = tmp_path / "request.json"
    request.write_text(json.dumps(spec.request()))
    assert in_gem5.parse(["--run", str(request)]).spec.identity() == spec.identity()
    with pytest.raises(UserError, match="run: says all of the run; leave procs out"):
        in_gem5.parse(["--run", str(request), "--procs", "3"])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--procs", "1"], "the program is missing"),
        (["scna"], "unknown workload scna; there are "),
        (["/none"], "/none: no such file"),
        (["scan", "--region", "3MiB"], "region 3MiB: MAP_SHARED_PT needs a multiple of 2MiB"),
        (["scan", "--policy", "ptshar"], "policy: unknown policy ptshar (did you mean ptshare?)"),
        (["scan", "--set", "share.level=x"], "set: share.level is x, but must be"),
        (["scan", "--cores", "2", "--cpu", "o3"], "an O3 CPU cannot be stopped"),
        (["scan", "--stock"], "stock: ends at the workloads' marks"),
        (["scan", "--checkpoint", "soon"], "checkpoint soon: must be roi, or a tick"),
        (["scan", "--cores", "2", "--restore", "x"], "checkpoints need a core for each"),
    ],
)
def test_gem5_s_script_refuses_in_one_line(words: list[str], message: str) -> None:
    with pytest.raises(UserError) as caught:
        in_gem5.parse(words)
    assert message in str(caught.value)


def test_defaults_are_those_of_every_face() -> None:
    plain = Options.of({"program": "scan"})
    assert (
        in_gem5.parse(["scan"]).spec.identity()
        == dataclasses.replace(plain, engine="gem5").spec().identity()
    )
    assert plain.preset == config.DEFAULT_PRESET


# What gem5 was asked for, and what it ran --------------------------------------------------------


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return fake_gem5.installed(tmp_path / "bin", monkeypatch)


def ptshare(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "ptshare_plugin.cli.main", *words]
    return subprocess.run(command, text=True, capture_output=True)


GEM5 = ("scan", "--engine", "gem5", "--procs", "2", "--cores", "2", "--region", "2MiB")


def test_each_varied_machine_reaches_gem5(tmp_path: Path, fake: Path) -> None:
    out = tmp_path / "out"
    vary = ("--policy", "ptshare", "--vary", "share.level=pte,pmd")
    done = ptshare("compare", *GEM5, *vary, "-o", str(out), "--keep-m5out")
    assert (done.returncode, done.stderr) == (0, "")
    import json

    for level in ("pte", "pmd"):
        folder = out / f"ptshare,share.level={level}"
        asked = json.loads((folder / "m5out" / "request.json").read_text())["identity"]
        ran = json.loads((folder / "m5out" / "ptshare.json").read_text())
        kept = json.loads((folder / "run.json").read_text())
        assert asked["config"] == ran["config"] == kept["config"]
        assert ran["config"]["share.level"] == level


def test_a_record_of_another_run_is_one_clear_error(tmp_path: Path, fake: Path) -> None:
    done = ptshare("run", *GEM5, "--seed", str(fake_gem5.MISLED), "-o", str(tmp_path / "out"))
    assert (done.returncode, done.stdout) == (1, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith(
        "ptshare: error: engine gem5: it ran mmu.pcids = 7 where 6 was asked for"
    )
    assert not (tmp_path / "out").exists()
