"""The gem5 engine: one run of ``gem5.opt gem5_configs/ptshare.py`` as a process of its own.

That script, inside gem5, imports this for what both must know: standard library only.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ptshare_plugin.common.errors import UserError
from ptshare_plugin.common.progress import Progress
from ptshare_plugin.common.tied import tied
from ptshare_plugin.engines.gem5 import stats
from ptshare_plugin.engines.result import RunResult
from ptshare_plugin.spec.run import flat_identity

if TYPE_CHECKING:
    from ptshare_plugin.machine.schema import Machine
    from ptshare_plugin.spec.run import RunSpec

_SOURCE = Path(__file__).resolve().parents[3]
_SCRIPT = _SOURCE / "gem5_configs" / "ptshare.py"
MODULE = _SOURCE / "build" / "gem5" / "ptshare_gem5.so"
"""Where ``SConstruct.local`` leaves the module."""
ERROR = "ptshare.py: error: "
"""How ``gem5_configs/ptshare.py`` begins the line that says what is wrong."""
REQUEST = "request.json"
"""File in m5out that says what is to be run, ``RunSpec.request()``; gem5's ``--run`` takes it."""
FILES = "files"
"""Folder in m5out of what the workloads share."""
_LOOK_SECONDS = 0.05
_SIMOUT = "simout.txt"  # as gem5 itself calls what it wrote


class Gem5Engine:
    """gem5's system-call emulation with core as a plugin; ``m5out`` is its own files."""

    name = "gem5"
    description = "gem5's syscall emulation with core as a plugin"
    default_policy = "ptshare"
    simulated = True
    replays_traces = False
    keeps_own_files = True

    def missing(self) -> str | None:
        """One of: ptshare's source folder, gem5, the module built for gem5."""
        if not _SCRIPT.is_file():
            return (
                "this ptshare is installed without its source folder, which has gem5_configs and"
                " what the module is built from: run 'pip install -e .' in a checkout"
            )
        if shutil.which("gem5.opt") is None:
            return (
                "no gem5.opt on PATH: build gem5 (X86) as https://www.gem5.org/documentation says"
                " and put it there"
            )
        if not MODULE.is_file():
            return f"the gem5 module is not built: run 'scons -f SConstruct.local' in {_SOURCE}"
        return None

    def policies(self) -> list[tuple[str, str]]:
        """Those of core, which is in the module too."""
        from ptshare_plugin import _core

        return _core.policies()

    def default_cores(self, procs: int) -> int:
        """One a process, which O3 CPUs need."""
        return procs

    def check(self, spec: RunSpec) -> None:
        """Refuse CPU contexts that cannot share the cores."""
        check_contexts(spec.config, spec.procs, spec.cores, spec.policy)

    def run(self, spec: RunSpec, progress: Progress, keep: Path | None = None) -> RunResult:
        """Run ``spec``, each process on a CPU context; contexts share the cores."""
        with _m5out(keep) as folder:
            start = time.perf_counter()
            request = folder / REQUEST
            request.write_text(json.dumps(spec.request(), indent=1), encoding="utf-8")
            command = ["gem5.opt", "-q", "-d", str(folder), str(_SCRIPT), "--run", str(request)]
            status, output, peak = _gem5(command, folder / _SIMOUT, progress)
            seconds = time.perf_counter() - start
            told = _told(output)
            if told is not None:
                raise UserError(f"engine gem5: {told}")
            if not (folder / stats.RECORD).is_file():
                raise UserError(f"engine gem5: gem5.opt ended with status {status}: {_why(output)}")
            record = stats.read_record(folder)
            _compare(spec.identity(), record)
            return RunResult(
                processes=stats.processes(folder, record),
                statistics=stats.statistics(folder, record),
                seconds=seconds,
                peak_rss_bytes=peak,
                samples=stats.samples(record),
                versions={"gem5": record["gem5"], "gem5_compiled": record["compiled"]},
            )


@contextmanager
def _m5out(keep: Path | None) -> Iterator[Path]:
    """gem5's output folder: ``keep``, which is made, or one that goes with the run."""
    if keep is None:
        with tempfile.TemporaryDirectory(prefix="ptshare-gem5-") as place:
            yield Path(place)
    else:
        keep.mkdir(parents=True)
        yield keep
        # As large as the region, and empty: what is written there stays in the simulation.
        shutil.rmtree(keep / FILES, ignore_errors=True)


def _compare(asked: Mapping[str, Any], record: Mapping[str, Any]) -> None:
    """Refuse the record of another run than the one that was asked for."""
    # As JSON has them.
    given = flat_identity(json.loads(json.dumps(asked)))
    made = flat_identity({name: record.get(name) for name in asked})
    for name in [*given, *(name for name in made if name not in given)]:
        if given.get(name) != made.get(name):
            raise UserError(
                f"engine gem5: it ran {name} = {made.get(name)} where {given.get(name)} was asked"
                " for: ptshare's parts are of different versions, install it and build the module"
                " again"
            )


def contexts(machine: Machine, procs: int, cores: int) -> int:
    """CPU contexts of a run: one a process and one a core at least."""
    return max(procs, cores, machine.gem5.contexts)


def check_contexts(machine: Machine, procs: int, cores: int, policy: str | None) -> None:
    """Refuse with a UserError contexts that cannot share the cores; no policy: stock gem5."""
    count = contexts(machine, procs, cores)
    if count <= cores:
        return
    what = f"{count} CPU contexts (the most of processes, cores and gem5.contexts)"
    if policy is None:
        raise UserError(
            f"{what} on {cores} cores: stock gem5 has no scheduler; give {count} cores",
            option="cores",
        )
    if machine.gem5.cpu == "o3":
        raise UserError(
            f"{what} on {cores} cores: an O3 CPU cannot be stopped between two instructions;"
            f" give {count} cores, or gem5.cpu atomic or timing",
            option="cores",
        )


def _gem5(command: list[str], simout: Path, progress: Progress) -> tuple[int, str, int]:
    """Status, output and peak of resident memory (bytes) of a run of gem5.

    :param simout: where its output is written.
    """
    with simout.open("w+b") as output:
        process = subprocess.Popen(tied(command), stdout=output, stderr=subprocess.STDOUT)
        try:
            while True:
                pid, status, usage = os.wait4(process.pid, os.WNOHANG)
                if pid:
                    break
                time.sleep(_LOOK_SECONDS)
                progress(0, 0)
        except BaseException:
            process.kill()
            process.wait()
            raise
        process.returncode = os.waitstatus_to_exitcode(status)
        output.seek(0)
        text = output.read().decode("utf-8", "backslashreplace")
    return process.returncode, text, usage.ru_maxrss * 1024


def _told(output: str) -> str | None:
    """What ``gem5_configs/ptshare.py`` says is wrong."""
    for line in output.splitlines():
        if line.startswith(ERROR):
            return line.removeprefix(ERROR)
    return None


def _why(output: str) -> str:
    """The line of gem5's own output that says why it ended."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    told = [line for line in lines if "fatal:" in line or "panic:" in line]
    return (told or lines or ["no output"])[-1]
