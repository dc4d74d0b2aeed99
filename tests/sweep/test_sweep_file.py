"""Sweep files: what they make, and what is refused, with its line."""

from __future__ import annotations

from pathlib import Path

import pytest

from ptshare_plugin.common.errors import UserError
from ptshare_plugin.engines.gem5.engine import Gem5Engine
from ptshare_plugin.sweeps import plan
from ptshare_plugin.sweeps.lines import Lines

BASE = """\
[base]
workload = "scan"
engine = "stream"
region = "4MiB"
"""


def load(folder: Path, text: str) -> plan.Plan:
    path = folder / "sweep.toml"
    path.write_text(text)
    return plan.load(path)


def values(folder: Path, text: str) -> list[dict[str, object]]:
    return [point.varying for point in load(folder, BASE + text).points]


def errors(folder: Path, text: str) -> list[tuple[int, str]]:
    """Line and text of each error."""
    with pytest.raises(UserError) as caught:
        load(folder, text)
    assert caught.value.exit_code == 2
    found = []
    for line in caught.value.lines:
        place, _, message = line.removeprefix(f"{folder}/sweep.toml:").partition(": ")
        found.append((int(place), message))
    return found


def test_lines_of_keys() -> None:
    lines = Lines(
        "top = 1 # [no]\n"
        "[a.'b c']\n"
        'x = """\n[q]\ny = 2\n"""\n'
        'list = [ # ]\n  1, "]",\n  { z = [2] },\n]\n'
        "d.e.\"f\\t\" = '#'\n"
        "[[t]]\nk = 1\n[[t]]\nk = 2\n[t.u]\nv = 3\n"
    )
    assert lines.of(("top",)) == 1
    assert lines.of(("a",)) == lines.of(("a", "b c")) == 2
    assert lines.of(("a", "b c", "x")) == 3
    assert lines.of(("a", "b c", "list")) == 7
    values = [lines.of(("a", "b c", "list", i)) for i in range(4)]
    assert values == [8, 8, 9, 7]
    assert lines.of(("a", "b c", "d", "e", "f\t")) == 11
    assert [lines.of(("t", i, "k")) for i in (0, 1)] == [13, 15]
    assert lines.of(("t", 1, "u", "v")) == 17
    assert lines.of(("t", 1, "u", "v", "inside")) == 17
    assert lines.of(("absent",)) == 1


def test_axes_are_combined_and_seeds_vary_fastest(tmp_path: Path) -> None:
    found = values(tmp_path, "[axes]\nprocs = [1, 2]\npolicy = ['private']\n[repeat]\nseeds = 2\n")
    assert found == [
        {"procs": procs, "policy": "private", "seed": seed} for procs in (1, 2) for seed in (1, 2)
    ]


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("{ from = 1, to = 4 }", [1, 2, 3, 4]),
        ("{ from = 1, to = 8, step = 3 }", [1, 4, 7]),
        ("{ from = 1, to = 1000, factor = 10 }", [1, 10, 100, 1000]),
        ("{ from = 1, to = 6, factor = 1.5 }", [1, 2, 3, 5]),
    ],
)
def test_ranges(tmp_path: Path, written: str, expected: list[int]) -> None:
    assert [each["procs"] for each in values(tmp_path, f"[axes]\nprocs = {written}\n")] == expected


def test_a_range_of_sizes(tmp_path: Path) -> None:
    text = BASE.replace('region = "4MiB"\n', "") + (
        '[axes]\nregion = { from = "2MiB", to = "16MiB", factor = 2 }\n'
    )
    assert [point.options.region >> 20 for point in load(tmp_path, text).points] == [2, 4, 8, 16]


def test_zipped_axes_vary_together_and_exclusions_drop(tmp_path: Path) -> None:
    text = (
        "[axes]\npolicy = ['private', 'ptshare']\n"
        "[[zip]]\nprocs = [1, 2]\ncores = [1, 1]\n"
        "[[exclude]]\npolicy = 'ptshare'\nprocs = [1]\n"
    )
    found = [(each["policy"], each["procs"]) for each in values(tmp_path, text)]
    assert found == [("private", 1), ("private", 2), ("ptshare", 2)]


def test_keys_of_the_machine(tmp_path: Path) -> None:
    text = (
        BASE + "[base.machine.mmu.stlb]\nentries = 1024\n"
        "[base.machine]\n'kernel.fault_around_bytes' = '4KiB'\n"
        "[axes]\n'mmu.pcids' = [0, 6]\nshare.level = ['pte', 'pmd']\n"
    )
    machines = [point.options.spec().config for point in load(tmp_path, text).points]
    assert {machine.mmu.stlb.entries for machine in machines} == {1024}
    assert {machine.kernel.fault_around_bytes for machine in machines} == {4096}
    assert [(machine.mmu.pcids, machine.share.level) for machine in machines] == [
        (0, "pte"),
        (0, "pmd"),
        (6, "pte"),
        (6, "pmd"),
    ]


def test_a_run_is_the_one_of_ptshare_run(tmp_path: Path) -> None:
    (point,) = load(tmp_path, BASE).points
    spec = point.options.spec()
    assert point.run == spec.run_id()
    assert (spec.policy, spec.procs, spec.cores, spec.seed) == ("ptshare", 4, 4, 1)
    assert point.options.command()[:5] == ["ptshare", "run", "scan", "--engine", "stream"]


def test_equal_runs_are_one(tmp_path: Path) -> None:
    (tmp_path / "same.toml").write_text('base = "server"\n')
    made = load(tmp_path, BASE + "[axes]\npreset = ['server', './same.toml']\n")
    assert (made.combinations, len(made.points)) == (2, 1)


def test_every_wrong_key_and_value_is_named_with_its_line(tmp_path: Path) -> None:
    text = """\
[base]
workload = "scna"
engine = "stream"
region = "3 parsecs"
colour = 1
seed = "x"

[base.machine.mmu.stlb]
entriess = 1024

[axes]
policy = ["private", "ptshar"]
procs = { from = 8, to = 1 }
seed = [1, 1]
work = 3
"mmu.stlb.ways" = [
  1,
  "x",
]

[[zip]]
cores = [1, 2]
share = [true]

[[exclude]]
region = 1

[repeat]
seeds = 0

[limits]
seconds = -1
memory = "lots"

[nonsense]
"""
    found = errors(tmp_path, text)
    expected = {
        2: "did you mean scan?",
        4: "is not a size",
        5: "unknown key colour",
        6: "seed: must be a whole number",
        9: "did you mean mmu.stlb.entries?",
        12: "policy: unknown policy ptshar (did you mean ptshare?)",
        13: "before it begins",
        14: "a value is there twice",
        15: "must be a list or a range",
        18: "mmu.stlb.ways must be a whole number",
        21: "all keys need as many values",
        26: "region does not vary",
        29: "seeds must be 1 to",
        32: "seconds must be above 0",
        33: "is not a size",
        35: "unknown key nonsense",
    }
    assert {line for line, _ in found} == set(expected)
    for line, part in expected.items():
        assert any(part in message for at, message in found if at == line), part


def test_errors_of_values_name_their_lines(tmp_path: Path) -> None:
    text = (
        BASE + "[axes]\nprocs = [\n  1,\n  40000, # too many\n  2, 1,\n]\n"
        "args = [\n  ['--around', '1'],\n  ['--around',\n   7],\n]\n"
        "[[exclude]]\nprocs = [\n  2,\n  3,\n]\n"
    )
    assert [line for line, _ in errors(tmp_path, text)] == [9, 13, 19]
    # What each run is refused for is found once all values are right.
    right = text.replace("  2, 1,", "  2,").replace("   7", "   '1'").replace("'1'", "'0'", 1)
    assert [line for line, _ in errors(tmp_path, right.replace("  3,", ""))] == [8]
    wrong = right.replace("  3,", "").replace("40000", "4").replace("   '1'", "   '7'")
    assert [line for line, _ in errors(tmp_path, wrong)] == [13]


def test_wrong_combinations_are_named_with_the_line_of_their_key(tmp_path: Path) -> None:
    text = (
        "[base]\nworkload = 'scan'\nengine = 'stream'\n"
        "[axes]\npolicy = ['private', 'ptshare']\nregion = ['4MiB', '3MiB', '1KiB']\n"
        "mmu.stlb.entries = [1000]\nprocs = [1, 40000]\n"
    )
    found = errors(tmp_path, text)
    assert [line for line, _ in found] == [6, 6, 7, 8]


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("[base]\nengine = 'stream'\n", "workload is missing"),
        (BASE + "program = './a'\n", "no such file"),
        (BASE + "[[exclude]]\n[axes]\nprocs = [1]\n", "exclude: is empty"),
        (BASE + "[axes]\nprocs = [1]\n[[exclude]]\nprocs = 1\n", "nothing is left"),
        (BASE + "[axes]\nprocs = [1]\n[[exclude]]\nprocs = 2\n", "procs never is 2"),
        (BASE + "[axes]\nregion = ['2MiB']\n", "region is in line 4, too"),
        (BASE + "args = ['--nonsense']\n", "of scan's arguments it takes"),
        (BASE + "[axes]\nprocs = {}\n", "a range is"),
        (BASE + "[axes]\nprocs = { from = 1 }\n", "a range is"),
        (BASE.replace("scan", "misuse"), "has no access pattern"),
    ],
)
def test_refused(tmp_path: Path, text: str, part: str) -> None:
    assert any(part in message for _, message in errors(tmp_path, text))


def test_too_many_runs_are_refused_at_once(tmp_path: Path) -> None:
    text = BASE + "[axes]\nseed = { from = 1, to = 50000 }\nprocs = { from = 1, to = 50000 }\n"
    with pytest.raises(UserError, match="2,500,000,000 combinations"):
        load(tmp_path, text)


def test_what_is_no_toml(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"not TOML: .*line 2"):
        load(tmp_path, "[base]\nx = = 1\n")
    with pytest.raises(UserError, match="cannot be read"):
        plan.load(tmp_path / "absent.toml")


def test_a_missing_gem5_is_one_error_before_anything_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Gem5Engine, "missing", lambda _: "no gem5.opt on PATH")
    text = BASE.replace('engine = "stream"\n', "") + "[axes]\nengine = ['gem5']\n"
    found = errors(tmp_path, text)
    assert found == [(5, "axes: engine: engine gem5: no gem5.opt on PATH")]


def test_engine_linux_is_no_simulated_machine(tmp_path: Path) -> None:
    engine = BASE.replace("stream", "linux")
    text = engine + "[axes]\npolicy = ['private']\n'mmu.pcids' = [0, 6]\n"
    assert [line for line, _ in errors(tmp_path, text)] == [7]
    (found,) = errors(tmp_path, engine + "preset = 'gem5-x86'\n")
    assert found[0] == 5
    assert "this one is as it is" in found[1]


def test_cores_that_gem5_cannot_share(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Gem5Engine, "missing", lambda _: None)
    text = BASE.replace("stream", "gem5") + (
        "preset = 'gem5-x86'\nprocs = 4\n[axes]\ncores = [\n  4,\n  2,\n]\n"
        "'gem5.cpu' = ['timing', 'o3']\n"
    )
    (found,) = errors(tmp_path, text)
    assert found[0] == 10
    assert "an O3 CPU cannot be stopped" in found[1]
    load(tmp_path, text.replace(", 'o3'", ""))
