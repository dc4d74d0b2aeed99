"""What ``ptshare.py`` is asked for: a file of ``ptshare run``, or options of the command line.

A run's options are those of ``ptshare run``, as ``ptshare_plugin.runs.options`` states them; here
are only those of gem5 beside them.
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ptshare_plugin import policies
from ptshare_plugin.common.errors import UserError
from ptshare_plugin.common.files import read_json
from ptshare_plugin.engines.gem5.engine import check_contexts, contexts
from ptshare_plugin.engines.registry import by_name
from ptshare_plugin.machine.schema import KEYS
from ptshare_plugin.runs.options import (
    ALIASES,
    RECORDING_ONLY,
    STATED,
    TRACE_ONLY,
    Options,
    flag,
    read_option,
)
from ptshare_plugin.spec import program as programs
from ptshare_plugin.spec import workloads
from ptshare_plugin.spec.run import RunSpec, check

BUILT = Path(__file__).resolve().parent.parent / "build"
ENGINE = "gem5"
# The engine is this one, and it replays nothing.
_NOT_HERE = ("engine", "trace", "recording", *TRACE_ONLY, *RECORDING_ONLY)
_SHORT = ("cpu", "memory")


@dataclass(frozen=True)
class Asked:
    """A run, and what gem5 is to do beside it.

    :param stock: gem5 without ptshare's module; the spec's policy then counts for nothing.
    :param checkpoint: ``roi`` or a tick.
    :param debug: trace faults.
    """

    spec: RunSpec
    stock: bool = False
    checkpoint: str | None = None
    restore: str | None = None
    debug: bool = False


def parser() -> argparse.ArgumentParser:
    """Command line."""
    made = argparse.ArgumentParser(
        usage="gem5.opt gem5_configs/ptshare.py [options] PROGRAM [-- ARGS]",
        description="One gem5 run of a program in several processes, with ptshare's model of page"
        " tables. The options of a run are those of 'ptshare run'.",
        allow_abbrev=False,
        argument_default=argparse.SUPPRESS,
    )
    made.add_argument("--run", metavar="FILE", help="a run as ptshare writes it, in place of all")
    for name, stated in STATED.items():
        if name == "program":
            made.add_argument(name, nargs="?", help=stated.help)
            for alias in (*ALIASES, name):
                made.add_argument(f"--{alias}", dest=name, help="the same")
        elif name != "args" and name not in _NOT_HERE:
            told: dict[str, Any] = {"dest": name, "help": stated.off or stated.help}
            if stated.kind is bool:
                told |= {"action": "store_const", "const": not stated.default}
            elif stated.kind is list:
                told |= {"action": "append", "metavar": stated.metavar}
            else:
                told |= {"type": stated.parse or stated.kind}
            made.add_argument(flag(name), *stated.flags, **told)
    made.add_argument("--workloads", metavar="DIR", help="folder of the workloads' binaries")
    for key in _SHORT:
        made.add_argument(
            f"--{key}", choices=KEYS[f"gem5.{key}"].choices, help=f"short for --set gem5.{key}=..."
        )
    made.add_argument("--stock", action="store_true", help="gem5 without ptshare's module")
    made.add_argument("--checkpoint", metavar="WHEN", help="roi (where it begins), or a tick")
    made.add_argument("--restore", metavar="DIR", help="go on from a checkpoint")
    made.add_argument("--debug", action="store_true", help="trace faults (flag Ptshare)")
    return made


def parse(words: Sequence[str]) -> Asked:
    """What is asked for, checked; a UserError of one line otherwise."""
    own, args = _split(words)
    given = vars(parser().parse_args(own))
    if "run" in given:
        others = [*(name for name in given if name != "run"), *(["args"] if args else [])]
        if others:
            raise UserError(f"says all of the run; leave {others[0]} out", option="run")
        try:
            asked = Asked(RunSpec.of_request(read_json(Path(given["run"]))))
        except UserError as error:
            raise UserError(error.message, option="run", value=given["run"]) from error
    else:
        asked = _of_options(given, args)
    _check(asked)
    return asked


def _split(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """Words before and after the first ``--``."""
    at = words.index("--") if "--" in words else len(words)
    return list(words[:at]), list(words[at + 1 :])


def _of_options(given: dict[str, Any], args: list[str]) -> Asked:
    folder = given.pop("workloads", None)
    beside = {
        field.name: given.pop(field.name)
        for field in dataclasses.fields(Asked)
        if field.name in given
    }
    shorts = [f"gem5.{key}={given.pop(key)}" for key in _SHORT if key in given]
    given["set"] = [*given.get("set", []), *shorts]
    if beside.get("stock"):
        given.pop("policy", None)  # no module knows it, and it counts for nothing
    program = given.pop("program", None)
    if program is None:
        raise UserError("the program is missing: a workload's name or a path")
    read = {name: read_option(name, value) for name, value in {**given, "args": args}.items()}
    # The engine is what runs this, so nothing looks for it; the binary is found in another way.
    options = Options(**read, program=program, engine=ENGINE)
    path = Path(program).resolve() if "/" in program else _workload(program, folder)
    loaded = programs.unread(path)
    workload = None if "/" in program else workloads.at(program, path)
    return Asked(options.spec_of(loaded, workload), **beside)


def _workload(name: str, given: str | None) -> Path:
    """Binary of a workload; gem5's Python does not know where the package is installed."""
    if given and not Path(given).is_dir():
        raise UserError("no such folder", option="workloads", value=given)
    folders = [Path(given)] if given else BUILT.glob("*/se_workloads/bin")
    folder = max(folders, key=lambda place: place.stat().st_mtime, default=None)
    if folder is None:
        raise UserError(f"no workloads below {BUILT}: run 'pip install -e .', or give --workloads")
    place = folder / name
    if not place.is_file():
        known = ", ".join(sorted(item.name for item in folder.glob("*") if item.is_file()))
        raise UserError(f"unknown workload {name}; there are {known}", option="program")
    return place.resolve()


def _check(asked: Asked) -> None:
    """Refuse what cannot be run, in one line."""
    spec, when = asked.spec, asked.checkpoint
    if when is not None and when != "roi" and not when.isdecimal():
        raise UserError("must be roi, or a tick (a whole number)", option="checkpoint", value=when)
    if asked.stock:
        if spec.workload is not None:
            raise UserError(
                "ends at the workloads' marks, which gem5 does not know; give a program's path",
                option="stock",
            )
        if spec.cores > spec.procs or asked.checkpoint or asked.restore:
            raise UserError("takes no spare --cores and no checkpoints", option="stock")
        check_contexts(spec.config, spec.procs, spec.cores, None)
        check(spec, [spec.policy], simulated=True)
        return
    check(spec, policies.names(), simulated=True)
    by_name(ENGINE).check(spec)
    count = contexts(spec.config, spec.procs, spec.cores)
    if count > spec.cores and (asked.checkpoint or asked.restore):
        raise UserError(
            f"checkpoints need a core for each CPU context: give {count}",
            option="cores",
            value=spec.cores,
        )
