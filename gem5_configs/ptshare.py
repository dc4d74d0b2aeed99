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

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

import _m5.core
import m5
import ptshare_board as board
from m5.objects import Process, RedirectPath, Root

from ptshare_plugin import config, workloads
from ptshare_plugin.errors import UserError
from ptshare_plugin.machine import flatten
from ptshare_plugin.units import parse_size

BUILT = HERE.parent / "build"
RECORD = "ptshare.json"
FIRST_PID = 1000
ROI_BEGINS = "ptshare: the region of interest begins"
ROI_ENDS = "ptshare: the region of interest ends"


def arguments() -> argparse.Namespace:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--workload", help="a program of se_workloads/ by name")
    what.add_argument("--program", help="a static x86-64 program of your own")
    parser.add_argument("--workloads", help="folder of the workloads' binaries")
    parser.add_argument("--procs", type=int, default=4, help="processes, each on its own CPU")
    parser.add_argument("--policy", default="private", help="sharing policy")
    parser.add_argument("--stock", action="store_true", help="gem5 without ptshare's module")
    parser.add_argument("--region", default="64MiB", help="size of the shared region")
    parser.add_argument("--no-share", action="store_true", help="do not ask for MAP_SHARED_PT")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--work", type=int, help="amount of work; the workload's own default")
    parser.add_argument("--preset", default="gem5-x86", help="machine: a preset or a TOML file")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--cpu", choices=board.CPUS, default="timing")
    parser.add_argument("--memory", choices=board.MEMORIES, default="simple")
    parser.add_argument("--debug", action="store_true", help="trace faults (flag Ptshare)")
    parser.add_argument("arguments", nargs="*", help="the program's own, after --")
    return parser.parse_args()


def binary(args: argparse.Namespace) -> Path:
    """The program to run."""
    if args.program:
        return Path(args.program).resolve()
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
        own = [text.replace("{rank}", str(rank)) for text in args.arguments]
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
                env=[f"PTSHARE_RANK={rank}", f"PTSHARE_PROCS={args.procs}"],
                output=f"process{rank}.out",
                errout=f"process{rank}.err",
            )
        )
    return made


def simulate() -> tuple[str, int, list[str]]:
    """Run to the end; statistics are dumped where the region of interest begins and ends.

    :return: why it ended, its exit code, what each dump covers.
    """
    labels = []
    while True:
        event = m5.simulate()
        cause = event.getCause()
        labels.append("roi" if cause == ROI_ENDS else "outside")
        m5.stats.dump()
        if cause not in (ROI_BEGINS, ROI_ENDS):
            return cause, event.getCode(), labels
        m5.stats.reset()


def main() -> int:
    """Whole run; the exit status of gem5."""
    args = arguments()
    try:
        machine = config.load(args.preset, args.set)
        if args.stock and args.workload:
            raise UserError(
                "--stock ends at the workloads' marks, which gem5 does not know; use --program"
            )
        program = binary(args)
        started = processes(args, program)
        if not args.stock:
            board.load_module()
    except (UserError, board.BoardError) as error:
        print(f"ptshare.py: error: {error}", file=sys.stderr)
        return 2
    if args.debug:
        m5.debug.flags["Ptshare"].enable()
    out = Path(m5.options.outdir)
    system = board.make_system(
        machine,
        started,
        policy=None if args.stock else args.policy,
        cpu=args.cpu,
        memory=args.memory,
    )
    # What the workloads call /ptshare is a folder of this run.
    files = out / "files"
    files.mkdir(exist_ok=True)
    for old in files.iterdir():
        old.unlink()
    shared = os.path.dirname(workloads.FILE_PATH)
    system.redirect_paths = [RedirectPath(app_path=shared, host_paths=[str(files.resolve())])]
    Root(full_system=False, system=system)
    m5.instantiate()
    cause, code, labels = simulate()
    statuses = [] if args.stock else [system.kernel.status(rank) for rank in range(args.procs)]
    record = {
        "engine": "gem5",
        "policy": None if args.stock else args.policy,
        "program": {
            "name": program.name,
            "sha256": hashlib.sha256(program.read_bytes()).hexdigest(),
            "workload": args.workload is not None,
        },
        "args": args.arguments,
        "procs": args.procs,
        "cores": args.procs,
        "region_bytes": parse_size(args.region),
        "share": not args.no_share,
        "seed": args.seed,
        "work": args.work,
        "preset": args.preset,
        "cpu": args.cpu,
        "memory": args.memory,
        "cause": cause,
        "dumps": labels,
        "first_pid": FIRST_PID,
        "statuses": statuses,
        "gem5": _m5.core.gem5Version,
        "compiled": _m5.core.compileDate,
        "config": flatten(machine),
    }
    (out / RECORD).write_text(json.dumps(record, indent=1), encoding="utf-8")
    if cause.startswith("ptshare: process"):
        print(cause, file=sys.stderr)
    elif "last active thread context" not in cause:
        print(f"ptshare.py: the simulation ended early: {cause}", file=sys.stderr)
        return 1
    return code or max((abs(status) for status in statuses), default=0)


if __name__ == "__m5_main__":
    sys.exit(main())
