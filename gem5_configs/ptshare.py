"""One gem5 run of a program in several processes, with ptshare's model of page tables.

Usage::

    gem5.opt gem5_configs/ptshare.py scan --procs 4 --region 16MiB

Statistics go to m5out/stats.txt as usual, in three parts: before the region of interest that the
program marks, inside it, and after it. ``ptshare summary m5out`` reads all of them.
"""

from __future__ import annotations

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
from ptshare_options import Asked, parse

from ptshare_plugin.common.errors import UserError
from ptshare_plugin.engines.gem5.engine import ERROR, FILES
from ptshare_plugin.engines.gem5.stats import RECORD
from ptshare_plugin.runs.options import spell
from ptshare_plugin.spec import workloads
from ptshare_plugin.spec.run import RunSpec

FIRST_PID = 1000
ROI_BEGINS = "ptshare: the region of interest begins"
ROI_ENDS = "ptshare: the region of interest ends"
AT_LIMIT = "simulate() limit reached"


def processes(spec: RunSpec) -> list[Process]:
    """One process a rank."""
    return [
        Process(
            pid=FIRST_PID + rank,
            executable=spec.program.path,
            cmd=spec.argv(rank),
            env=spec.env(rank),
            output=f"process{rank}.out",
            errout=f"process{rank}.err",
        )
        for rank in range(spec.procs)
    ]


def identity(asked: Asked) -> dict[str, Any]:
    """What is run, by the names of ``run.json``."""
    return {**asked.spec.identity(), **({"policy": None} if asked.stock else {})}


def check_restore(folder: Path, what: dict[str, Any]) -> bool:
    """Refuse a checkpoint of another run; the machine may be another, as far as core allows it.

    :return: whether the checkpoint was taken inside the region of interest.
    """
    path = folder / RECORD
    try:
        saved = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise _not_restored(folder, f"{path.name} there cannot be read: {error}") from error
    for key, value in what.items():
        if key != "config" and saved.get(key) != value:
            raise _not_restored(
                folder, f"its run had {key} = {saved.get(key)}, not {value}; give the same options"
            )
    return bool(saved["inside"])


def _not_restored(folder: Path, why: str) -> UserError:
    return UserError(why, option="restore", value=folder)


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
    out = Path(m5.options.outdir)
    try:
        if "--stock" not in sys.argv:
            board.load_module()  # which knows the policies
        asked = parse(sys.argv[1:])
        spec = asked.spec
        what = identity(asked)
        started = processes(spec)
        inside = check_restore(Path(asked.restore), what) if asked.restore else False
    except UserError as error:
        print(f"{ERROR}{error.told(spell)}", file=sys.stderr)
        return 2
    except board.BoardError as error:
        print(f"{ERROR}{error}", file=sys.stderr)
        return 2
    if asked.debug:
        m5.debug.flags["Ptshare"].enable()
    system = board.make_system(
        spec.config, started, policy=None if asked.stock else spec.policy, cores=spec.cores
    )
    # What the workloads call /ptshare is a folder of this run; a checkpoint names its own.
    files = out / FILES
    files.mkdir(exist_ok=True)
    if not asked.restore:
        for old in files.iterdir():
            old.unlink()
    shared = os.path.dirname(workloads.FILE_PATH)
    system.redirect_paths = [RedirectPath(app_path=shared, host_paths=[str(files.resolve())])]
    Root(full_system=False, system=system)
    m5.instantiate(asked.restore)
    cause, code, labels = simulate(asked.checkpoint, out / "checkpoint", what, inside)
    statuses = [] if asked.stock else [system.kernel.status(rank) for rank in range(spec.procs)]
    record = {
        **what,
        "preset": spec.preset,
        "contexts": len(system.cpu),
        "restored": asked.restore,
        "cause": cause,
        "dumps": labels,
        "first_pid": FIRST_PID,
        "statuses": statuses,
        "samples": [] if asked.stock else system.kernel.samples(),
        "gem5": _m5.core.gem5Version,
        "compiled": _m5.core.compileDate,
    }
    (out / RECORD).write_text(json.dumps(record, indent=1), encoding="utf-8")
    return ended(spec, out, statuses, cause, code)


def ended(spec: RunSpec, out: Path, statuses: list[int], cause: str, code: int) -> int:
    """Say what went wrong on standard error; the exit status of gem5."""
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
    if spec.procs > 1 and spec.kill_is_expected(spec.procs - 1):
        statuses, code = statuses[:-1], 0
    return code or max((abs(status) for status in statuses), default=0)


if __name__ == "__m5_main__":
    sys.exit(main())
