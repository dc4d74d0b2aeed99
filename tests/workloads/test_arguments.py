"""Wrong arguments of the workloads end in one line that names what is right."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from ptshare_plugin.spec import workloads

MIB = 1 << 20


def refuse(name: str, folder: Path, *arguments: str) -> str:
    """Standard error of a run that must refuse its arguments before it makes anything."""
    base = [str(workloads.path(name)), "--file", str(folder / "region"), "--size", str(4 * MIB)]
    return refuse_command([*base, *arguments], folder)


def refuse_command(command: list[str], folder: Path) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.endswith("\n")
    assert len(done.stderr.splitlines()) == 1
    assert list(folder.iterdir()) == []
    return done.stderr


NUMBER = "must be a whole number from"
ADDRESS = "must be a hexadecimal address from 0x10000 to below 0x7ffffffff000"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--size", "12k"], f"--size: 12k: {NUMBER} 4096 to "),
        (["--size", "5000"], "--size: 5000: must be a multiple of 4096"),
        (["--size", "0"], f"--size: 0: {NUMBER} 4096 to "),
        (["--size", ""], f"--size: {NUMBER} 4096 to "),
        (["--size", str(1 << 64)], f"--size: {1 << 64}: {NUMBER} 4096 to "),
        (["--rank", "4", "--count", "4"], "--rank: 4: must be less than --count"),
        (["--count", "0"], f"--count: 0: {NUMBER} 1 to "),
        (["--addr", "123"], f"--addr: 123: {ADDRESS}"),
        (["--addr", "0x"], f"--addr: 0x: {ADDRESS}"),
        (["--addr", "0x100000800"], f"--addr: 0x100000800: {ADDRESS}"),
        (["--addr", "0x7ffffffff000"], f"--addr: 0x7ffffffff000: {ADDRESS}"),
        (["--addr", "0x7fffffffe000"], "--addr: 0x7fffffffe000: must leave room for --size"),
        (["--addr", "0x200000"], "--addr: 0x200000: must keep the region off the program"),
        (["--share", "2"], f"--share: 2: {NUMBER} 0 to 1\n"),
        (["--work", "-1"], f"--work: -1: {NUMBER} 1 to "),
        (["--work", "0"], f"--work: 0: {NUMBER} 1 to "),
        (["--seed", "1 "], f"--seed: 1 : {NUMBER} 0 to {(1 << 64) - 1}\n"),
        (["--seed", "1\n2"], f"--seed: 1?2: {NUMBER}"),
        (["--seed"], "--seed: needs a value"),
        (["--file", ""], "--file: must be a path of 1 to 200 characters"),
        (["--file", "x" * 201], "--file: xxx"),
        (["--colour", "1"], "--colour: unknown argument; there are --file --addr --size "),
        (["--colour"], "--colour: unknown argument"),
        (["--a\nb", "1"], "--a?b: unknown argument"),
        (["x" * 5000, "1"], "xxx"),
    ],
)
@pytest.mark.parametrize("name", ["scan", "zipf"])
def test_arguments_of_all(name: str, arguments: list[str], said: str, tmp_path: Path) -> None:
    assert refuse(name, tmp_path, *arguments).startswith(f"{name}: {said}")


@pytest.mark.parametrize(
    ("name", "arguments", "said"),
    [
        ("random", ["--writes", "101"], f"--writes: 101: {NUMBER} 0 to 100\n"),
        ("zipf", ["--writes", "-1"], f"--writes: -1: {NUMBER} 0 to 100\n"),
        ("pingpong", ["--pages", "0"], f"--pages: 0: {NUMBER} 1 to "),
        ("churn", ["--pages", "0"], f"--pages: 0: {NUMBER} 1 to "),
        ("protect", ["--piece", "100"], f"--piece: 100: {NUMBER} 4096 to "),
        ("protect", ["--piece", "5000"], "--piece: 5000: must be a multiple of 4096"),
        ("misuse", ["--size", str(2 * MIB)], f"--size: {2 * MIB}: must be a multiple of 2097152"),
        ("misuse", ["--size", str(5 * MIB)], f"--size: {5 * MIB}: must be a multiple of 2097152"),
        ("scan", ["--writes", "1"], "--writes: unknown argument"),
        ("scan", ["--apart", "100"], "--apart: 100: must be a multiple of 4096\n"),
        (
            "preshare",
            ["--apart", str(1 << 45), "--count", "8"],
            f"--apart: {1 << 45}: must leave room for --count regions below 0x7ffffffff000\n",
        ),
        (
            "scan",  # rank 0 is below the program, and rank 2 would be in it
            ["--size", "4096", "--addr", "0x10000", "--apart", "2097152", "--count", "3"],
            "--addr: 0x10000: must keep the region off the program",
        ),
        ("zipf", ["--apart", "4096"], "--apart: unknown argument"),
    ],
)
def test_arguments_of_one(name: str, arguments: list[str], said: str, tmp_path: Path) -> None:
    assert refuse(name, tmp_path, *arguments).startswith(f"{name}: {said}")


def test_an_unknown_argument_is_answered_with_the_workloads_own(tmp_path: Path) -> None:
    assert refuse("zipf", tmp_path, "--theta", "1").endswith(" --work --around --writes\n")


@pytest.mark.parametrize("missing", ["--file", "--size"])
def test_what_must_be_given(missing: str, tmp_path: Path) -> None:
    given = {"--file": str(tmp_path / "region"), "--size": "4096"}
    del given[missing]
    command = [str(workloads.path("scan")), *(word for pair in given.items() for word in pair)]
    assert refuse_command(command, tmp_path).startswith(f"scan: {missing}: is needed: ")
