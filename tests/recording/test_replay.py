"""Is a replay the recorded processes again, and do policies share what rules choose?"""

from __future__ import annotations

import dataclasses
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from recordings import COMMAND, PAGES

import ptshare_plugin as pt
from ptshare_plugin.common.errors import UserError
from ptshare_plugin.recording import reading, rules
from ptshare_plugin.recording.space import Area
from ptshare_plugin.runs.options import Options

CHOSEN: dict[str, Any] = {"share_rules": ["anonymous>=2MiB"], "align": True}
ANONYMOUS = {"share.anonymous": True}


def test_processes_run_again_as_they_were(folder: Path) -> None:
    done = pt.run(recording=folder, policy="private")
    assert done.spec.procs == 3
    assert done.run.result.remarks == ()
    pids = [process.pid for process in done.run.result.processes]
    streams = json.loads((folder / "manifest.json").read_text())["streams"]
    assert sorted(pids) == sorted(stream["pid"] for stream in streams)
    assert done.metrics["instructions"] == sum(stream["instructions"] for stream in streams)
    parent, *children = done.by_process.values()
    assert parent["fault.file"] >= PAGES  # written one by one
    for child in children:
        # Read, with all pages in the page cache: 16 for each fault.
        assert PAGES // 16 <= child["fault.file"] < PAGES // 16 + 60
        assert child["fault.cow"] >= 1


def figures(done: pt.Result) -> dict[str, float]:
    """All that is simulated."""
    return {name: value for name, value in done.metrics.items() if not name.startswith("host.")}


def test_two_replays_are_equal(folder: Path) -> None:
    one, other = (pt.run(recording=folder, policy="ptshare", **CHOSEN) for _ in range(2))
    assert figures(one) == figures(other)


def test_what_is_chosen_and_aligned_is_shared(folder: Path) -> None:
    private, shared, huge = pt.compare(
        recording=folder, policy=["private", "ptshare", "huge-2m"], set=ANONYMOUS, **CHOSEN
    )
    assert [done.run.result.remarks for done in (private, shared, huge)] == [()] * 3
    assert shared.metrics["pt.host_mms"] == 1
    # One table in place of one or two (where it lay) for each that runs at the peak.
    less = private.metrics["pt.tables.pte"] - shared.metrics["pt.tables.pte"]
    assert 1 <= less <= 5
    for child in (1, 2):
        assert shared.by_process[child]["fault.link"] == 1
        assert huge.by_process[child]["fault.file"] < private.by_process[child]["fault.file"]


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"policy": "ptshare"}, "anonymous memory is not shared (--set share.anonymous=true)"),
        ({"policy": "mshare", "align": False}, "misaligned (--align)"),
    ],
)
def test_what_is_chosen_and_not_shared_says_why(
    folder: Path, given: dict[str, Any], told: str
) -> None:
    done = pt.run(recording=folder, **{**CHOSEN, **given})
    (remark,) = done.run.result.remarks
    assert remark.startswith(f"anonymous memory: chosen, and not shared: {told}: once, 2.0 MiB")
    assert done.metrics["pt.host_mms"] == 0


def test_copies_run_beside_the_recorded_ones(folder: Path) -> None:
    done = pt.run(recording=folder, policy="ptshare", procs="x3", set=ANONYMOUS, **CHOSEN)  # type: ignore[arg-type]
    assert done.spec.procs == 3 + 2 * 2
    assert sum(process["fault.link"] for process in done.by_process.values()) == 3 * 2


def test_the_recorded_kernel_had_these_pages(folder: Path, tmp_path: Path) -> None:
    table = tmp_path / "table.md"
    words = [str(COMMAND), "validate", "--recording", str(folder), "--json"]
    words += ["--markdown", str(table)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr + done.stdout
    cases = json.loads(done.stdout)["cases"]
    assert len(cases) == 3
    for case in cases:
        tables = case["metrics"]["pt_bytes.present"]
        assert tables["measured"] == tables["modelled"]
        pages = case["metrics"]["pages.present"]
        assert abs(pages["measured"] - pages["modelled"]) < 100
        faults = case["metrics"]["fault.minor"]
        # Valgrind's own, when it starts; hardly any in a forked child.
        most = 10_000 if case is cases[0] else 100
        assert abs(faults["measured"] - faults["modelled"]) < most
        assert f"| {case['name']} | {tables['measured']:,} | " in table.read_text()


def test_the_command_line_is_the_same_run(folder: Path) -> None:
    asked = Options.of({"recording": str(folder), "procs": "x2", "policy": "ptshare", **CHOSEN})
    words = asked.command()
    assert words[:2] == ["ptshare", "run"]
    assert words[2:8] == [
        *("--recording", str(folder), "--share", "anonymous>=2MiB", "--align", "--procs")
    ]
    assert Options.of_json(json.loads(json.dumps(dataclasses.asdict(asked)))) == asked


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"share_rules": ["shred"]}, "unknown kind shred (did you mean shared?)"),
        ({"share_rules": [""]}, "is empty; a rule is KIND"),
        ({"share_rules": ["shared>=x"]}, "'x' is not a size"),
        ({"share_rules": ["file owner=me"]}, "owner=me: after the kind, path=GLOB"),
        ({"share_rules": ["system-v"]}, "chooses nothing; shared are anonymous (2.0 MiB)"),
        ({"procs": 4}, "a recording has its own processes"),
        ({"procs": "x0"}, "must be x1 or more"),
        ({"args": ["a"]}, "arguments are for programs; there is a recording"),
        ({"region": "2MiB"}, "is for programs; of a recording, --share chooses"),
        ({"engine": "linux"}, "engine linux replays no traces"),
    ],
)
def test_wrong_requests_are_one_line(folder: Path, given: dict[str, Any], told: str) -> None:
    with pytest.raises(UserError, match=re.escape(told)):
        pt.run(recording=folder, **given)


def test_without_a_recording_its_options_are_refused() -> None:
    for given in ({"share_rules": ["shared"]}, {"align": True}, {"procs": "x2"}):
        with pytest.raises(UserError, match="is for recordings; there is none"):
            Options.of({"program": "scan", **given})


def test_rules_ask_for_kind_size_path_and_process() -> None:
    area = Area(0, 4096, 3, True, ("file", 1, 2), "/dev/shm/a", 0, (0, 1 << 21), (0, 5))
    assert rules.kind_of(area) == "memory"
    maker = type("Maker", (), {"shown": "postgres: writer"})()
    for text, chosen in (
        ("shared", True),
        ("memory>=2MiB", True),
        ("memory>=3MiB", False),
        ("file", False),
        ("memory path=/dev/shm/* process=postgres*", True),
        ("memory path=/tmp/*", False),
        ("memory process=redis*", False),
    ):
        assert rules.parse(text).chooses(area, maker) is chosen, text


def test_streams_that_are_not_what_was_written_end_in_one_line(
    folder: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    shutil.copytree(folder, other)
    manifest = json.loads((other / "manifest.json").read_text())
    manifest["streams"][0]["instructions"] += 1
    (other / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(UserError, match=r"damaged, or written by another ptshare: .*instructions"):
        pt.run(recording=other, policy="private")


def test_more_streams_than_files_that_may_be_open(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = pt.run(recording=folder, policy="private")
    monkeypatch.setattr(reading, "_OPEN_FILES", 1)
    other = pt.run(recording=folder, policy="private")
    assert figures(one) == figures(other)
