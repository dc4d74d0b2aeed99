"""The programs that come with ptshare, built from ``se_workloads/`` and installed with it."""

from __future__ import annotations

import functools
import importlib.util
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from ptshare_plugin.common.errors import NOT_BUILT, UserError, nearest, os_reason
from ptshare_plugin.spec import about

FILE_PATH = "/ptshare/region"
"""The file that all ranks map, inside the simulated machine."""

REGION_ADDRESS = 0x1000_0000_0000
"""Where all ranks map it (16 TiB): aligned to any level, far from program and stack."""

DEFAULT_REGION = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Workload:
    """One workload.

    :param work: default amount of work and its unit, as the binary states it.
    :param expected_kill: its last rank ends by a SIGKILL that it sends itself (S11).
    :param output_depends_on_policy: it prints what the policy answers, so outputs may differ.
    :param arguments: what a user may give it after ``--``: its own, then those of every workload.
    """

    name: str
    path: Path
    description: str
    work: str
    expected_kill: bool
    output_depends_on_policy: bool
    arguments: tuple[about.Argument, ...] = ()


def folder() -> Path:
    """Where the binaries are: ``workloads`` beside the extension module."""
    spec = importlib.util.find_spec("ptshare_plugin._core")
    if spec is None or spec.origin is None:
        raise UserError(NOT_BUILT)
    return Path(spec.origin).parent / "workloads"


def names() -> list[str]:
    """Names of the installed workloads."""
    place = folder()
    found = sorted(item.name for item in place.glob("*") if item.is_file())
    if not found:
        raise UserError(f"no workload in {place}: install ptshare again with 'pip install -e .'")
    return found


def path(name: str) -> Path:
    """Binary of workload ``name``; a UserError that names the nearest one when there is none."""
    known = names()
    if name not in known:
        raise UserError(
            f"unknown workload {name}{nearest(name, known)}; there are "
            f"{', '.join(known)}. A program of your own is given as a path: ./{name}"
        )
    return folder() / name


@functools.cache
def symbols(name: str) -> dict[str, int]:
    """Addresses of workload ``name``'s functions and variables, by ``nm`` when it was built."""
    place = folder().parent / "symbols" / name
    try:
        rows = [line.split() for line in place.read_text(encoding="ascii").splitlines()]
    except OSError as error:
        raise UserError(
            f"{place}: cannot be read: {os_reason(error)}; "
            "install ptshare again with 'pip install -e .'"
        ) from error
    return {row[2]: int(row[0], 16) for row in rows if len(row) == 3}


@functools.cache
def describe(name: str) -> Workload:
    """Everything known about workload ``name``."""
    return at(name, path(name))


def at(name: str, binary: Path) -> Workload:
    """The same of one whose binary is known, in gem5's Python, too."""
    said = about.read(binary)
    return Workload(
        name=name,
        path=binary,
        description=said.description,
        work=said.work,
        expected_kill=said.kills_itself,
        output_depends_on_policy=said.output_depends_on_policy,
        arguments=said.arguments,
    )


GIVEN = {
    "--file": "engine",
    "--size": "region",
    "--addr": "engine",
    "--share": "share",
    "--rank": "procs",
    "--count": "procs",
    "--seed": "seed",
    "--work": "work",
}
"""Arguments that a workload gets from ``arguments``, and the option that each comes from."""


def arguments(
    *,
    region: int,
    share: bool,
    rank: int,
    procs: int,
    seed: int,
    work: int | None,
    file: str = FILE_PATH,
) -> list[str]:
    """Command line of one rank, without the program's name and the user's extra arguments."""
    args = [
        "--file",
        file,
        "--size",
        str(region),
        "--addr",
        hex(REGION_ADDRESS),
        "--share",
        str(int(share)),
        "--rank",
        str(rank),
        "--count",
        str(procs),
        "--seed",
        str(seed),
    ]
    return args if work is None else [*args, "--work", str(work)]


def own_arguments(
    args: Iterable[str], *, rank: int, procs: int, seed: int, region: int
) -> list[str]:
    """Arguments that a user wrote, with {rank}, {procs}, {seed} and {region} filled in."""
    values = {"rank": rank, "procs": procs, "seed": seed, "region": region}
    filled = []
    for arg in args:
        for name, value in values.items():
            arg = arg.replace("{" + name + "}", str(value))
        filled.append(arg)
    return filled


def environment(rank: int, procs: int) -> list[str]:
    """Environment of process ``rank``: nothing of the host's, so that runs repeat."""
    return [f"PTSHARE_RANK={rank}", f"PTSHARE_PROCS={procs}"]
