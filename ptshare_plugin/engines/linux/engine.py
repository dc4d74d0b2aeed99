"""The Linux engine: the program's ranks as real processes on this machine's kernel."""

from __future__ import annotations

import os
import platform
import resource
import stat
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from ptshare_plugin.common.errors import EXIT_USAGE, UserError, os_reason
from ptshare_plugin.common.progress import Progress
from ptshare_plugin.common.units import exact_size, short_size
from ptshare_plugin.engines.linux import hugetlb, perf, proc
from ptshare_plugin.engines.linux.helpers import helper
from ptshare_plugin.engines.linux.tracer import Rank, Tracer
from ptshare_plugin.engines.result import (
    MARK_BEGIN,
    MARK_END,
    ProcessResult,
    RunResult,
    Statistic,
    mark_statistics,
)
from ptshare_plugin.machine.config import DEFAULT_PRESET
from ptshare_plugin.metrics.registry import ALL, ROI

if TYPE_CHECKING:
    from ptshare_plugin.spec.run import RunSpec

_SHM = Path("/dev/shm")
PRIVATE, HUGETLB = "private", "hugetlb-pmd"


class LinuxEngine:
    """Real processes, pinned to cores and started together; the kernel counts."""

    name = "linux"
    description = "real processes on this machine's kernel"
    default_policy = PRIVATE
    simulated = False
    replays_traces = False
    keeps_own_files = False

    def missing(self) -> str | None:
        """One of: Linux on x86-64, a tmpfs at /dev/shm, the helper programs."""
        if (platform.system(), platform.machine()) != ("Linux", "x86_64"):
            return f"this is {platform.system()} {platform.machine()}, not Linux x86_64"
        if not os.access(_SHM, os.W_OK | os.X_OK):
            return f"{_SHM} is missing or cannot be written: shared memory lies there"
        if not stat.S_ISDIR(_SHM.stat().st_mode) or not _is_tmpfs(_SHM):
            return f"{_SHM} is not a tmpfs"
        try:
            helper("launch")
        except UserError as error:
            return str(error)
        return None

    def policies(self) -> list[tuple[str, str]]:
        """What this kernel can do."""
        return [
            (PRIVATE, "what the kernel does with MAP_SHARED: a table for each process"),
            (HUGETLB, "the region in hugetlbfs, whose PMD tables the kernel shares"),
        ]

    def default_cores(self, procs: int) -> int:
        """As many as processes, of the CPUs that this process may use."""
        return min(procs, len(os.sched_getaffinity(0)))

    def check(self, spec: RunSpec) -> None:
        """Refuse settings of a simulated machine, and cores that this one has not."""
        check(spec)
        _cpus(spec)

    def run(self, spec: RunSpec, progress: Progress, keep: Path | None = None) -> RunResult:
        """Run ``spec`` on as many of this machine's CPUs as it has cores."""
        cpus = _cpus(spec)
        _check_room(spec)
        Path(spec.program.path).read_bytes()  # into the page cache: no major faults
        settings = proc.settings()
        with (
            _shared_folder(spec) as folder,
            Tracer(
                launch=helper("launch"),
                folder=folder,
                gather=spec.workload is not None,
                cpus=cpus,
                may_die=[rank for rank in range(spec.procs) if spec.kill_is_expected(rank)],
            ) as tracer,
        ):
            before = proc.page_tables()
            try:
                for rank in range(spec.procs):
                    argv = spec.argv(rank, file=str(folder / "region"))
                    tracer.start(spec.program.path, argv, spec.env(rank))
                # Of ru_maxrss, exec leaves what there was before: this process's.
                own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
                tracer.run(lambda: progress(0, 0))
            except OSError as error:
                raise UserError(f"engine linux: {os_reason(error)}") from error
            return RunResult(
                processes=[_result(rank) for rank in tracer.ranks],
                statistics=_statistics(tracer, before),
                seconds=tracer.seconds,
                peak_rss_bytes=max(
                    [tracer.peak_rss]
                    + [
                        rank.usage.ru_maxrss * 1024
                        for rank in tracer.ranks
                        if rank.usage and rank.usage.ru_maxrss > own
                    ]
                ),
                versions={"linux": platform.release()},
                samples=tracer.samples,
                settings=settings,
            )


def _cpus(spec: RunSpec) -> list[int]:
    here = sorted(os.sched_getaffinity(0))
    if spec.cores > len(here):
        raise UserError(
            f"this machine lets ptshare run on {len(here)} CPUs",
            EXIT_USAGE,
            option="cores",
            value=spec.cores,
        )
    return here[: spec.cores]


def check(spec: RunSpec) -> None:
    """Refuse settings of a simulated machine."""
    if spec.overrides or spec.varied:
        raise UserError(
            "changes a simulated machine; with engine linux, this one is as it is",
            EXIT_USAGE,
            option="set" if spec.overrides else "vary",
            key=[*spec.overrides, *spec.varied][0].partition("=")[0].strip(),
        )
    if spec.preset != DEFAULT_PRESET:
        raise UserError(
            "is a simulated machine; with engine linux, this one is as it is",
            EXIT_USAGE,
            option="preset",
            value=spec.preset,
        )


def _check_room(spec: RunSpec) -> None:
    room = proc.available()
    if spec.workload is not None and spec.region > room:
        raise UserError(
            f"this machine has {short_size(room)} of memory available",
            EXIT_USAGE,
            option="region",
            value=exact_size(spec.region),
        )

    shared = os.statvfs(_SHM)
    room = shared.f_bavail * shared.f_frsize
    # Else a SIGBUS, which does not say why. No blocks: a tmpfs without a limit.
    if spec.workload and spec.policy == PRIVATE and shared.f_blocks and spec.region > room:
        raise UserError(
            f"{_SHM} has {short_size(room)} left",
            EXIT_USAGE,
            option="region",
            value=exact_size(spec.region),
        )


def _is_tmpfs(path: Path) -> bool:
    for line in Path("/proc/self/mounts").read_text(encoding="utf-8").splitlines():
        if line.split()[1:3] == [str(path), "tmpfs"]:
            return True
    return False


@contextmanager
def _shared_folder(spec: RunSpec) -> Iterator[Path]:
    """A folder in shared memory. It goes with whoever uses it, crashes included: see guard.c."""
    guard = helper("guard")
    with hugetlb.alone(spec.policy == HUGETLB) as lock:
        restore = hugetlb.setting_to_restore() if lock else []
        folder = Path(tempfile.mkdtemp(prefix="ptshare-", dir=_SHM))
        try:
            # The guard holds the lock until the setting is back.
            process = subprocess.Popen(
                [guard, folder, *restore], stdin=subprocess.PIPE, pass_fds=lock
            )
        except OSError as error:
            folder.rmdir()
            raise UserError(f"engine linux: {os_reason(error)}") from error
    try:
        if spec.policy == HUGETLB:
            with hugetlb.file(spec.region) as path:
                (folder / "region").symlink_to(path)
                yield folder
        else:
            yield folder
    finally:
        assert process.stdin is not None
        process.stdin.close()
        process.wait()


def _result(rank: Rank) -> ProcessResult:
    assert rank.status is not None
    killed = rank.status < 0
    return ProcessResult(
        pid=rank.pid,
        exit=0 if killed else rank.status,
        signal=-rank.status if killed else 0,
        stdout=rank.output.read_bytes(),
        stderr=rank.errors.read_bytes(),
        note=rank.note if killed else "",
    )


def _counted(counters: Sequence[perf.Counters | None]) -> list[Statistic]:
    """What was counted of every rank: a sum over some of them would pass for one over all."""
    whole = [each.read() if each else {} for each in counters]
    inside = [each.inside() if each else {} for each in counters]
    return [
        (index, prefix + name, value)
        for prefix, ranks in (("", whole), (ROI, inside))
        for index, values in enumerate(ranks)
        for name, value in values.items()
        if all(name in other for other in ranks)
    ]


def _statistics(tracer: Tracer, page_tables_before: int) -> list[Statistic]:
    rows: list[Statistic] = []
    faults = {(s.rank, s.mark): s.minor_faults for s in tracer.samples if s.process == 0}
    for index, rank in enumerate(tracer.ranks):
        if rank.usage is not None:
            minor, major = rank.faults_before
            rows += [
                (index, "fault.minor", rank.usage.ru_minflt - minor),
                (index, "fault.major", rank.usage.ru_majflt - major),
                (index, "sched.switches", rank.usage.ru_nvcsw + rank.usage.ru_nivcsw),
                (index, "time.user", rank.usage.ru_utime),
                (index, "time.system", rank.usage.ru_stime),
            ]
        begin, end = faults.get((index, MARK_BEGIN)), faults.get((index, MARK_END))
        if begin is not None and end is not None:
            rows.append((index, ROI + "fault.minor", end - begin))
    rows += _counted([rank.counters for rank in tracer.ranks])
    rows += mark_statistics(tracer.samples)
    if MARK_END in tracer.page_tables:
        rows.append((ALL, "pt.machine_growth", tracer.page_tables[MARK_END] - page_tables_before))
    return rows
