"""Execute what is not finished of a sweep, by Dask."""

from __future__ import annotations

import datetime
import logging
import os
import signal
import sys
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import CancelledError
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from ptshare_plugin.common.errors import EXIT_USAGE, UserError, UserErrors
from ptshare_plugin.records.folders import sync_entry
from ptshare_plugin.sweeps import store, worker
from ptshare_plugin.sweeps.plan import Plan, Point

if TYPE_CHECKING:
    from distributed import Client, LocalCluster

_CONNECT_SECONDS = 10
_SAY_SECONDS = 10.0


@dataclass(slots=True)
class Report:
    """What came of a sweep.

    :param before: runs that were finished when it began.
    :param without_m5out: of these, runs in gem5 without its own files, where they are to be kept.
    :param skipped: runs that had failed before and were not tried again.
    :param failures: run and reason of each that failed now.
    """

    total: int
    before: int
    without_m5out: int
    skipped: int
    made: int = 0
    failures: list[tuple[str, str]] = field(default_factory=list)
    seconds: float = 0.0

    def line(self) -> str:
        """All of it, for people."""
        parts = [f"{self.total:,} runs: {self.made:,} made in {self.seconds:.1f} s"]
        parts += [f"{self.before:,} were there"] if self.before else []
        if (count := self.without_m5out) > 0:
            parts.append(f"{count:,} of them without m5out (remove their folders to have it)")
        parts += [f"{len(self.failures):,} failed"] if self.failures else []
        if self.skipped:
            parts.append(f"{self.skipped:,} had failed before (--retry-failed tries them again)")
        return ", ".join(parts)

    def raise_failures(self, out: Path) -> None:
        """A UserError when runs failed, now or before."""
        if self.failures or self.skipped:
            raise UserError(
                f"{len(self.failures) + self.skipped} runs failed: {out / store.FAILED}"
            )


def sweep(
    plan: Plan,
    out: Path,
    workers: int | None,
    address: str | None,
    retry: bool,
    shown: bool = True,
) -> Report:
    """Make all runs of ``plan`` in ``out`` that are not there.

    :param shown: whether progress is, on standard error.
    """
    if workers is not None and (type(workers) is not int or not 1 <= workers <= 1024):
        raise UserError(
            "must be a whole number, 1 to 1024",
            EXIT_USAGE,
            option="workers",
            value=workers,
        )
    if address is not None and (not isinstance(address, str) or not address):
        raise UserError(
            "must be the address of a scheduler, like tcp://host:8786",
            EXIT_USAGE,
            option="dask",
            value=repr(address),
        )
    if workers is not None and address is not None:
        raise UserError(
            "the cluster of --dask has its own",
            EXIT_USAGE,
            option="workers",
        )
    out = out.absolute()
    with store.locked(out):
        worker.remove_stale(out)
        done = store.finished(out, plan.points)
        failed = store.failed(out, plan.points) - done
        skipped = set() if retry else failed
        todo = [point for point in plan.points if point.run not in done | skipped]
        there = [point for point in plan.points if point.run in done]
        bare = store.without_m5out(out, there) if plan.m5out else 0
        report = Report(len(plan.points), len(done), bare, len(skipped))
        if todo:
            start = time.monotonic()
            try:
                with (
                    _without_main(),
                    _client(min(workers or _cores(), len(todo)), address) as client,
                ):
                    try:
                        _execute(client, plan, todo, out, report, shown)
                    except KeyboardInterrupt:
                        # What it has started ends now; another Ctrl-C would leave some of it.
                        signal.signal(signal.SIGINT, signal.SIG_IGN)
                        raise
            finally:
                sync_entry(out / store.RUNS)
            report.seconds = time.monotonic() - start
        return report


def _cores() -> int:
    return len(os.sched_getaffinity(0))


@contextmanager
def _client(workers: int, address: str | None) -> Iterator[Client]:
    from multiprocessing import resource_tracker

    import dask
    from distributed import Client, LocalCluster

    # Its own messages are about connections; what they mean for runs is said here.
    dask.config.set({"distributed.logging.distributed": "critical"})
    for name in list(logging.root.manager.loggerDict):  # some have levels of their own
        if name.partition(".")[0] == "distributed":
            logging.getLogger(name).setLevel(logging.CRITICAL)
    if address is not None:
        try:
            client = Client(address, timeout=_CONNECT_SECONDS)
        except (OSError, ValueError, TimeoutError) as error:
            raise UserError(
                "no scheduler answers there",
                option="dask",
                value=address,
            ) from error
        with client:
            yield client
        return
    resource_tracker.ensure_running()  # unblocks SIGINT when it starts
    # The cluster's thread, and so the workers that it starts, never see Ctrl-C: it is this one's.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        cluster = LocalCluster(
            n_workers=workers,
            threads_per_worker=1,
            processes=True,
            memory_limit=0,  # runs have their own
            dashboard_address="127.0.0.1:0",
            silence_logs=logging.CRITICAL,
        )
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    with cluster, Client(cluster) as client:
        try:
            yield client
        except BaseException:
            _kill_workers(cluster)
            raise


def _kill_workers(cluster: LocalCluster) -> None:
    """End them and their runs at once: closing waits for seconds until they have nothing to do."""
    for nanny in cluster.workers.values():
        nanny.auto_restart = False
        if nanny.process is not None and (pid := nanny.process.pid) is not None:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


@contextmanager
def _without_main() -> Iterator[None]:
    """Hide the caller's script, which each worker that starts would run as its own otherwise.

    ``multiprocessing`` asks scripts to guard themselves; users of a function do not know.
    """
    main, sys.modules["__main__"] = sys.modules["__main__"], ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


def _execute(
    client: Client, plan: Plan, todo: list[Point], out: Path, report: Report, shown: bool
) -> None:
    from distributed import as_completed

    session = uuid.uuid4().hex  # a run that an earlier client has left on the cluster is not ours
    points: dict[str, Point] = {f"{point.run}-{session}": point for point in todo}
    setting = worker.Setting(out, plan.limits, plan.m5out)
    _check_workers(client, setting, sorted({point.options.engine for point in todo}))
    futures = [
        client.submit(worker.perform, point.run, point.options, setting, key=key, pure=False)
        for key, point in points.items()
    ]
    with _progress(len(todo), report) if shown else nullcontext(_nothing) as advance:
        for future in as_completed(futures):
            point = points[str(future.key)]
            outcome = _outcome(future, point, out)
            future.release()
            if outcome.reason is None:
                report.made += 1
                store.forget_failure(out, point.run)
            elif outcome.fatal:
                client.cancel([each for each in futures if not each.done()])
                raise UserError(
                    f"{outcome.reason}; what is made stays, and once that is mended the same "
                    "command goes on"
                )
            else:
                report.failures.append((point.run, outcome.reason))
            advance()


def _check_workers(client: Client, setting: worker.Setting, engines: list[str]) -> None:
    """Refuse workers that could not make the runs; those that come later look themselves."""
    answers = client.run(worker.lack, setting, engines, on_error="return")
    wrong: dict[str, list[str]] = {}
    for address, answer in answers.items():
        if isinstance(answer, OSError):  # it is gone
            continue
        if isinstance(answer, BaseException):  # ptshare is not there, or not this one
            answer = f"{type(answer).__name__}: {answer}; it needs ptshare {setting.version}"
        if answer is not None:
            wrong.setdefault(answer, []).append(address)
    if wrong:
        raise UserErrors(
            f"worker {addresses[0]}"
            + (f" and {len(addresses) - 1} more" if addresses[1:] else "")
            + f": {answer}"
            for answer, addresses in wrong.items()
        )


def _outcome(future: Any, point: Point, out: Path) -> worker.Outcome:
    from distributed import KilledWorker

    try:
        outcome = future.result()
        assert isinstance(outcome, worker.Outcome)
        return outcome
    except KilledWorker:
        reason = "its Dask worker died, again and again"
        store.record_failure(out, point.run, point.options, reason, 0, [])
        return worker.Outcome(point.run, reason)
    except (CancelledError, OSError):  # the latter: Dask's CommClosedError
        return worker.Outcome(point.run, "the scheduler has ended or is out of reach", fatal=True)
    except Exception as error:
        # Not the run's fault: ptshare is not there, or another version, or the cluster has ended.
        reason = f"Dask: {type(error).__name__}: {error}"
        return worker.Outcome(point.run, reason, fatal=True)


def _nothing() -> None:
    """Progress that nobody wants to see."""


@contextmanager
def _progress(total: int, report: Report) -> Iterator[Any]:
    """A bar on a terminal, a line now and then elsewhere; on standard error."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
    )

    if not sys.stderr.isatty():
        last = time.monotonic()

        def say() -> None:
            nonlocal last
            if time.monotonic() - last >= _SAY_SECONDS:
                last = time.monotonic()
                count = report.made + len(report.failures)
                sys.stderr.write(f"{count} of {total} runs, {len(report.failures)} failed\n")

        yield say
        return
    columns = (
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("runs{task.fields[failed]},"),
        TimeElapsedColumn(),
        TextColumn("{task.fields[left]}"),
    )
    start = time.monotonic()
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, refresh_per_second=2) as bar:
        task = bar.add_task("", total=total, failed="", left="")

        def advance() -> None:
            failed = f", {len(report.failures):,} failed" if report.failures else ""
            done = report.made + len(report.failures)
            # Rich estimates by the last ones alone, and runs that began together end together.
            seconds = round((time.monotonic() - start) / done * (total - done))
            left = f"about {datetime.timedelta(seconds=seconds)} left"
            bar.update(task, advance=1, failed=failed, left=left)

        yield advance
