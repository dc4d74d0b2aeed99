"""One gem5 run of a program in several processes, with ptshare's model of page tables.

Usage::

    gem5.opt gem5_configs/ptshare.py --procs 4 --policy ptshare --workload scan --region 16MiB

Statistics go to m5out/stats.txt as usual, in three parts: before the region of interest that the
program marks, inside it, and after it. ``ptshare summary m5out`` reads all of them.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

import _m5.core
import m5
import ptshare_board as board
from m5.objects import Process, RedirectPath, Root

from ptshare_plugin.common.errors import UserError
from ptshare_plugin.common.units import parse_size
from ptshare_plugin.engines.gem5.engine import ERROR, FILES, check_contexts, contexts
from ptshare_plugin.engines.gem5.stats import RECORD
from ptshare_plugin.machine import config
from ptshare_plugin.machine.schema import KEYS, flatten
from ptshare_plugin.spec import about, workloads
from ptshare_plugin.spec import run as spec

BUILT = HERE.parent / "build"
FIRST_PID = 1000
ROI_BEGINS = "ptshare: the region of interest begins"
ROI_ENDS = "ptshare: the region of interest ends"
AT_LIMIT = "simulate() limit reached"


def arguments() -> argparse.Namespace:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0], allow_abbrev=False)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--workload", help="a program of se_workloads/ by name")
    what.add_argument("--program", help="a static x86-64 program of your own")
    parser.add_argument("--workloads", metavar="DIR", help="folder of the workloads' binaries")
    parser.add_argument("--procs", type=int, default=4, help="processes, each on a CPU context")
    parser.add_argument("--cores", type=int, help="physical cores, which contexts share")
    parser.add_argument("--policy", default="private", help="sharing policy")
    parser.add_argument("--stock", action="store_true", help="gem5 without ptshare's module")
    parser.add_argument("--region", default="64MiB", help="size of the shared region")
    parser.add_argument("--no-share", action="store_true", help="do not ask for MAP_SHARED_PT")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--work", type=int, help="amount of work; the workload's own default")
    parser.add_argument("--preset", default="gem5-x86", help="machine: a preset or a TOML file")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    for key in ("cpu", "memory"):
        parser.add_argument(
            f"--{key}", choices=KEYS[f"gem5.{key}"].choices, help=f"short for --set gem5.{key}=..."
        )
    parser.add_argument("--checkpoint", metavar="WHEN", help="roi (where it begins), or a tick")
    parser.add_argument("--restore", metavar="DIR", help="go on from a checkpoint")
    parser.add_argument("--debug", action="store_true", help="trace faults (flag Ptshare)")
    parser.add_argument("arguments", nargs="*", help="the program's own, after --")
    args = parser.parse_args()
    args.set += [
        f"gem5.{key}={getattr(args, key)}" for key in ("cpu", "memory") if getattr(args, key)
    ]
    if args.cores is None:
        args.cores = args.procs
    return args


def check(args: argparse.Namespace) -> None:
    """Refuse what cannot be run, in one line."""
    if args.procs < 1:
        raise UserError(f"--procs {args.procs}: must be at least 1")
    if args.cores < 1:
        raise UserError(f"--cores {args.cores}: must be at least 1")
    when = args.checkpoint
    if when is not None and when != "roi" and not when.isdecimal():
        raise UserError(f"--checkpoint {when}: roi, or a tick (a whole number)")
    if args.stock and args.workload:
        raise UserError(
            "--stock ends at the workloads' marks, which gem5 does not know; use --program"
        )
    if args.stock and (args.cores > args.procs or args.checkpoint or args.restore):
        raise UserError("--stock takes no spare --cores and no checkpoints")


def check_sharing(args: argparse.Namespace, machine: Any) -> None:
    """Refuse what does not work when CPU contexts share cores."""
    check_contexts(machine, args.procs, args.cores, None if args.stock else args.policy)
    count = contexts(machine, args.procs, args.cores)
    if count > args.cores and (args.checkpoint or args.restore):
        raise UserError(
            f"checkpoints need a core for each CPU context: give --cores {count}, not {args.cores}"
        )


def check_policy(args: argparse.Namespace, machine: Any) -> None:
    """Refuse a policy that there is not, and a region that it would refuse."""
    known = board.policies()
    if args.policy not in known:
        raise UserError(f"--policy {args.policy}: there are {', '.join(known)}")
    if args.workload:
        strict = not args.no_share and known[args.policy].strict_alignment
        spec.check_region(parse_size(args.region), strict, machine)


def binary(args: argparse.Namespace) -> Path:
    """The program to run."""
    if args.program:
        place = Path(args.program).resolve()
        if not place.is_file():
            raise UserError(f"--program {args.program}: no such file")
        return place
    # Where the package's build leaves them; gem5's Python does not know where it is installed.
    folders = [Path(args.workloads)] if args.workloads else BUILT.glob("*/se_workloads/bin")
    folder = max(folders, key=lambda place: place.stat().st_mtime, default=None)
    if folder is None:
        raise UserError(f"no workloads below {BUILT}: run 'pip install -e .', or give --workloads")
    place = folder / args.workload
    if not place.is_file():
        known = ", ".join(sorted(item.name for item in folder.glob("*") if item.is_file()))
        raise UserError(f"--workload {args.workload}: there are {known}")
    return place.resolve()


def processes(args: argparse.Namespace, program: Path) -> list[Process]:
    """One process a rank."""
    region = parse_size(args.region)
    made = []
    for rank in range(args.procs):
        own = workloads.own_arguments(
            args.arguments, rank=rank, procs=args.procs, seed=args.seed, region=region
        )
        given = []
        if args.workload:
            given = workloads.arguments(
                region=region,
                share=not args.no_share,
                rank=rank,
                procs=args.procs,
                seed=args.seed,
                work=args.work,
            )
        made.append(
            Process(
                pid=FIRST_PID + rank,
                executable=str(program),
                cmd=[program.name, *given, *own],
                env=workloads.environment(rank, args.procs),
                output=f"process{rank}.out",
                errout=f"process{rank}.err",
            )
        )
    return made


def identity(args: argparse.Namespace, program: Path) -> dict[str, Any]:
    """What is run, by the names of ``run.json``, but for the machine."""
    return {
        "engine": "gem5",
        "policy": None if args.stock else args.policy,
        "program": {
            "name": program.name,
            "sha256": hashlib.sha256(program.read_bytes()).hexdigest(),
            "workload": args.workload is not None,
        },
        "args": args.arguments,
        "procs": args.procs,
        "cores": args.cores,
        "region_bytes": parse_size(args.region),
        "share": not args.no_share,
        "seed": args.seed,
        "work": args.work,
    }


def check_restore(folder: Path, what: dict[str, Any]) -> bool:
    """Refuse a checkpoint of another run; the machine may be another, as far as core allows it.

    :return: whether the checkpoint was taken inside the region of interest.
    """
    path = folder / RECORD
    try:
        saved = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"--restore {folder}: {path.name} there cannot be read: {error}") from error
    for key, value in what.items():
        if saved.get(key) != value:
            raise UserError(
                f"--restore {folder}: its run had {key} = {saved.get(key)}, not {value};"
                " give the same options"
            )
    return bool(saved["inside"])


def take_checkpoint(folder: Path, what: dict[str, Any], inside: bool) -> None:
    """Write one that ``--restore`` takes."""
    m5.checkpoint(str(folder))
    record = {**what, "inside": inside}
    (folder / RECORD).write_text(json.dumps(record, indent=1), encoding="utf-8")


def simulate(
    checkpoint: str | None, folder: Path, what: dict[str, Any], inside: bool
) -> tuple[str, int, list[str]]:
    """Run to the end; statistics are dumped where the region of interest begins and ends.

    :return: why it ended, its exit code, what each dump covers.
    """
    labels: list[str] = []
    limit = int(checkpoint) if checkpoint not in (None, "roi") else None
    last_dump = -1
    while True:
        event = m5.simulate() if limit is None else m5.simulate(max(0, limit - m5.curTick()))
        cause = event.getCause()
        if cause == AT_LIMIT and limit is not None:
            take_checkpoint(folder, what, inside)
            limit = None
            continue
        # gem5 dumps once a tick. The end of the region may come unseen, with the end of the run.
        if m5.curTick() != last_dump:
            labels.append("roi" if inside else "outside")
            m5.stats.dump()
            last_dump = m5.curTick()
        if cause not in (ROI_BEGINS, ROI_ENDS):
            return cause, event.getCode(), labels
        inside = cause == ROI_BEGINS
        if inside and checkpoint == "roi":
            take_checkpoint(folder, what, inside)
            checkpoint = None
        m5.stats.reset()


def main() -> int:
    """Whole run; the exit status of gem5."""
    args = arguments()
    out = Path(m5.options.outdir)
    try:
        check(args)
        machine = config.load(args.preset, args.set)
        check_sharing(args, machine)
        if not args.stock:
            board.load_module()
            check_policy(args, machine)
        program = binary(args)
        last_dies = bool(args.workload) and about.read(program).kills_itself
        what = identity(args, program)
        started = processes(args, program)
        inside = check_restore(Path(args.restore), what) if args.restore else False
    except (UserError, board.BoardError) as error:
        print(f"{ERROR}{error}", file=sys.stderr)
        return 2
    if args.debug:
        m5.debug.flags["Ptshare"].enable()
    system = board.make_system(
        machine, started, policy=None if args.stock else args.policy, cores=args.cores
    )
    # What the workloads call /ptshare is a folder of this run; a checkpoint names its own.
    files = out / FILES
    files.mkdir(exist_ok=True)
    if not args.restore:
        for old in files.iterdir():
            old.unlink()
    shared = os.path.dirname(workloads.FILE_PATH)
    system.redirect_paths = [RedirectPath(app_path=shared, host_paths=[str(files.resolve())])]
    Root(full_system=False, system=system)
    m5.instantiate(args.restore)
    cause, code, labels = simulate(args.checkpoint, out / "checkpoint", what, inside)
    statuses = [] if args.stock else [system.kernel.status(rank) for rank in range(args.procs)]
    record = {
        **what,
        "preset": args.preset,
        "contexts": len(system.cpu),
        "restored": args.restore,
        "cause": cause,
        "dumps": labels,
        "first_pid": FIRST_PID,
        "statuses": statuses,
        "samples": [] if args.stock else system.kernel.samples(),
        "gem5": _m5.core.gem5Version,
        "compiled": _m5.core.compileDate,
        "config": flatten(machine),
    }
    (out / RECORD).write_text(json.dumps(record, indent=1), encoding="utf-8")
    for rank, status in enumerate(statuses):
        errors = out / f"process{rank}.err"
        if status <= 0 or not errors.is_file():
            continue
        if told := errors.read_text(encoding="utf-8", errors="replace"):
            print(f"process {rank}, exit status {status}: {told.rstrip()}", file=sys.stderr)
    if cause.startswith("ptshare: process"):
        print(cause, file=sys.stderr)
        return code
    if "last active thread context" not in cause:
        if cause == AT_LIMIT:
            cause = "all processes wait, for ever"
        print(f"{ERROR}the simulation ended early: {cause}", file=sys.stderr)
        return 1
    if last_dies and args.procs > 1:
        statuses, code = statuses[:-1], 0
    return code or max((abs(status) for status in statuses), default=0)


if __name__ == "__m5_main__":
    sys.exit(main())
