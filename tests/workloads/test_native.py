"""Every workload on this machine's kernel, which ignores the flag: are the programs right?"""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from native import command, run_natively, shared_folder

from ptshare_plugin import workloads

MIB = 1 << 20


@pytest.mark.parametrize("procs", [1, 2, 5])
@pytest.mark.parametrize("share", [False, True])
@pytest.mark.parametrize("name", workloads.names())
def test_ends_well(name: str, share: bool, procs: int) -> None:
    done = run_natively(name, procs, region=4 * MIB, share=share)
    killed = name == "churn" and procs > 1
    assert done.statuses == [0] * (procs - killed) + [-9] * killed
    assert done.errors == []
    assert len(done.lines) == procs
    for rank, line in enumerate(done.lines):
        assert line.startswith(f"{name}: ok of={procs} ") or f"rank={rank}" in line


def test_lines_depend_on_the_seed_alone() -> None:
    for name in ("scan", "random", "zipf", "churn"):
        one, two = (run_natively(name, 3, 4 * MIB, True, seed=5) for _ in range(2))
        assert one.lines == two.lines
        assert one.lines != run_natively(name, 3, 4 * MIB, True, seed=6).lines


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--size", "12k"], "--size"),
        (["--size", "5000"], "--size"),
        (["--size", "0"], "--size"),
        (["--rank", "4", "--count", "4"], "--rank"),
        (["--count", "0"], "--count"),
        (["--addr", "123"], "--addr"),
        (["--share", "2"], "--share"),
        (["--work", "-1"], "--work"),
        (["--seed"], "--seed"),
        (["--colour", "1"], "--colour"),
    ],
)
@pytest.mark.parametrize("name", ["scan", "zipf"])
def test_wrong_arguments_end_in_one_line(name: str, arguments: list[str], named: str) -> None:
    base = [str(workloads.path(name)), "--file", "/dev/shm/never-made", "--size", "4096"]
    done = subprocess.run([*base, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith(f"{name}: {named}: ")
    assert len(done.stderr.splitlines()) == 1
    assert not Path("/dev/shm/never-made").exists()


@pytest.mark.parametrize("name", ["scan", "random", "zipf"])
def test_a_wrong_datum_is_found(name: str) -> None:
    with shared_folder() as folder:
        (folder / "region").write_bytes(b"\x55" * (4 * MIB))
        done = subprocess.run(
            command(name, 0, 1, 4 * MIB, True, folder), capture_output=True, text=True, check=False
        )
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.startswith(f"{name}: FAIL rank=0")
    assert "expected=0x" in done.stderr


def test_zipf_follows_its_law() -> None:
    (line,) = run_natively("zipf", 1, 64 * MIB, True, work=1_000_000).lines
    hottest = int(dict(word.split("=") for word in line.split()[3:])["hottest"])
    # The page of rank 1 has probability log 2 / log N: here N = 16384, that is 1 in 14.
    assert 1_000_000 / 14 * 0.98 < hottest < 1_000_000 / 14 * 1.02


def test_programs_are_static_and_plain() -> None:
    from elftools.elf.elffile import ELFFile

    for name in workloads.names():
        with workloads.path(name).open("rb") as file:
            elf = ELFFile(file)
            assert elf["e_type"] == "ET_EXEC"
            assert {segment["p_type"] for segment in elf.iter_segments()}.isdisjoint(
                {"PT_INTERP", "PT_DYNAMIC"}
            )
