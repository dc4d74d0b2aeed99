"""``ptshare calibrate`` on the kernel that runs the tests.

Nothing here depends on speed: bounds are physical and wide.
"""

from __future__ import annotations

import json
import os
import signal
import statistics
import subprocess
import sys
import time
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from ptshare_plugin.engines.linux.helpers import helper
from ptshare_plugin.machine import config
from ptshare_plugin.machine.schema import KEYS, flatten

COMMAND = Path(sys.executable).with_name("ptshare")
Done = subprocess.CompletedProcess[str]

# What no x86-64 machine is outside of, in nanoseconds.
BOUNDS = {
    "cpu.frequency_mhz": (0.1, 2),  # one cycle
    "cache.l1d.latency": (0.2, 10),
    "cache.l2.latency": (0.5, 50),
    "cache.llc.latency": (2, 500),
    "cache.dram_latency": (20, 5_000),
    "cost.syscall": (20, 20_000),
    "cost.mmap": (50, 1e6),
    "cost.munmap": (50, 1e6),
    "cost.mprotect": (50, 1e6),
    "cost.pte_update": (0, 10_000),
    "cost.table_alloc": (0, 1e6),
    "cost.table_free": (0, 1e6),
    "cost.fork": (1_000, 1e9),
    "cost.fork_pte": (0.5, 10_000),
    "cost.exec": (10_000, 1e10),
    "cost.exit": (1_000, 1e9),
    "cost.switch": (50, 1e7),
    "cost.flush_page": (0, 10_000),
    "cost.fault.entry": (50, 100_000),
    "cost.fault.file_page": (0, 100_000),
    "cost.fault.around_page": (0, 10_000),
    "cost.fault.anon_page": (0, 100_000),
    "cost.fault.cow_page": (0, 100_000),
    "cost.fault.write_protect": (0, 100_000),
    "cost.shootdown.local": (0, 100_000),
    "cost.shootdown.first_cpu": (0, 1e6),
    "cost.shootdown.next_cpu": (0, 1e6),
    "cost.shootdown.receive": (0, 1e6),
}
NO_SERIES = {"kernel.fault_around_bytes"}


def ptshare(*args: object, cwd: Path | None = None) -> Done:
    return subprocess.run(
        [COMMAND, *map(str, args)], cwd=cwd, text=True, capture_output=True, timeout=300
    )


def one_line(done: Done) -> str:
    assert done.returncode != 0
    (text,) = done.stderr.splitlines()
    return text.removeprefix("ptshare: error: ")


@dataclass(frozen=True)
class Quick:
    path: Path
    document: dict[str, Any]
    stderr: str


@pytest.fixture(scope="session")
def quick(tmp_path_factory: pytest.TempPathFactory) -> Quick:
    path = tmp_path_factory.mktemp("calibrate") / "machine.toml"
    done = ptshare("calibrate", "--quick", "--json", "-o", path)
    assert done.returncode == 0, done.stderr
    return Quick(path, json.loads(done.stdout), done.stderr)


def test_the_file_holds_what_json_says(quick: Quick) -> None:
    machine = flatten(config.load(str(quick.path)))
    server = flatten(config.load("server"))
    keys = quick.document["keys"]
    for name in KEYS:
        value = keys[name]["value"] if name in keys else None
        assert machine[name] == (server[name] if value is None else value), name


def test_every_key_is_measured_or_says_why_not(quick: Quick) -> None:
    keys = quick.document["keys"]
    assert set(keys) == set(BOUNDS) | NO_SERIES
    text = quick.path.read_text()
    for name, key in keys.items():
        assert (key["value"] is None) == bool(key.get("left_to_base")), name
        if key["value"] is None:
            assert f"# {name} = {key['base']}: " in text
    # What needs nothing but a kernel.
    for name in ("cpu.frequency_mhz", "cost.syscall", "cost.fault.entry", "cost.exec"):
        assert keys[name]["value"] > 0, name


def test_measured_keys_are_physical(quick: Quick) -> None:
    keys = quick.document["keys"]
    clock = keys["cpu.frequency_mhz"]["value"]
    for name, (low, high) in BOUNDS.items():
        key = keys[name]
        if key["value"] is None:
            continue
        assert low <= key["median_ns"] <= high, name
        if name != "cpu.frequency_mhz":
            assert key["value"] == round(key["median_ns"] * clock / 1000), name
    window = keys["kernel.fault_around_bytes"]["value"]
    assert window is None or window % 4096 == 0


def test_medians_are_those_of_the_repeats(quick: Quick) -> None:
    figures = quick.document["figures"]
    seen = 0
    for figure in figures.values():
        for entry in [figure, *figure.get("by_number", {}).values()]:
            if "values_ns" in entry:
                seen += 1
                assert entry["median_ns"] == statistics.median(entry["values_ns"])
                assert entry["repeats"] == len(entry["values_ns"]) > 0
    assert seen > 40
    assert figures["mprotect_shared_touch"]["not_measured"]


def test_the_head_names_the_machine(quick: Quick) -> None:
    head = quick.path.read_text().partition("base =")[0]
    for title in ("kernel", "CPU", "virtualised", "page size", "transparent huge pages", "date"):
        assert f"#   {title}: " in head
    assert f"kernel: Linux {os.uname().release}" in head
    document = tomllib.loads(quick.path.read_text())
    assert document["base"] == "server"


def test_standard_error_is_progress_and_one_warning(quick: Quick) -> None:
    lines = [text for text in quick.stderr.splitlines() if not text.startswith("calibrate: ")]
    assert len(lines) <= 1
    assert all(text.startswith("ptshare: warning: ") for text in lines)


def test_the_preset_runs(quick: Quick) -> None:
    args = ("run", "scan", "--procs", 2, "--region", "4MiB", "--json", "--preset")
    row = json.loads(ptshare(*args, quick.path).stdout)
    assert row["program.exit"] == [0, 0]
    plain = json.loads(ptshare(*args, "server").stdout)
    assert row["cycles.fault"] != plain["cycles.fault"]
    assert row["fault.total"] == plain["fault.total"]
    shown = ptshare("presets", "./machine.toml", cwd=quick.path.parent)
    assert shown.returncode == 0 and "Measured: " in shown.stdout


def test_tables_for_people(tmp_path: Path) -> None:
    done = ptshare("calibrate", "--quick", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    for title in ("Measured", "Keys of the preset", "cost.fault.entry", "A dependent load, ns"):
        assert title in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 100
    assert list(tmp_path.iterdir()) == []


def test_it_refuses_to_overwrite(quick: Quick) -> None:
    before = quick.path.read_bytes()
    assert "--force replaces it" in one_line(ptshare("calibrate", "--quick", "-o", quick.path))
    assert quick.path.read_bytes() == before


def test_force_replaces(tmp_path: Path) -> None:
    path = tmp_path / "m.toml"
    path.write_text("old")
    done = ptshare("calibrate", "--quick", "--force", "-o", "m.toml", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "--preset ./m.toml" in done.stdout
    config.load(str(path))
    assert [item.name for item in tmp_path.iterdir()] == ["m.toml"]


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("-o", "/none/m.toml"), "no such folder: /none"),
        (("-o", "/proc/m.toml"), "cannot be written"),
        (("-o", "/usr"), "something else than a file"),
        (("--bogus",), "No such option"),
        (("extra",), "unexpected extra argument"),
    ],
)
def test_wrong_input_is_one_line(args: tuple[str, ...], message: str) -> None:
    done = ptshare("calibrate", "--quick", *args)
    assert message.lower() in one_line(done).lower()
    assert done.stdout == ""


def measuring() -> set[int]:
    """Processes of this user that run the measuring program."""
    found = set()
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                if os.path.samefile(entry / "exe", helper("measure")):
                    found.add(int(entry.name))
            except OSError:
                continue
    return found


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_interrupted_nothing_is_left(tmp_path: Path, sent: signal.Signals) -> None:
    running = subprocess.Popen(
        [COMMAND, "calibrate", "-o", tmp_path / "m.toml"],
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )

    def children() -> set[int]:
        listed = Path(f"/proc/{running.pid}/task/{running.pid}/children")
        return measuring() & set(map(int, listed.read_text().split()))

    deadline = time.monotonic() + 60
    while not (started := children()):
        assert running.poll() is None and time.monotonic() < deadline
        time.sleep(0.02)
    running.send_signal(sent)
    _, errors = running.communicate(timeout=60)
    assert running.returncode != 0
    assert "Traceback" not in errors
    while started & measuring():  # a killed parent's child is killed by the kernel, in a moment
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert list(tmp_path.iterdir()) == []


def test_the_program_refuses_what_it_does_not_know() -> None:
    done = subprocess.run(
        [helper("measure"), "nothing", "1", "1", "/"], capture_output=True, text=True
    )
    assert done.returncode == 2 and done.stderr == "no measurement nothing\n"
