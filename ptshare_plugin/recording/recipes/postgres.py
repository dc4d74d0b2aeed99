"""PostgreSQL with pgbench: a scratch cluster, whose server alone is recorded."""

from __future__ import annotations

import os
import pwd
import re
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ptshare_plugin.common.errors import EXIT_USAGE, UserError, os_reason
from ptshare_plugin.common.units import parse_size
from ptshare_plugin.recording.folder import BEGIN, END, Work
from ptshare_plugin.recording.recipes import Option
from ptshare_plugin.recording.record import Recording, say

NAME = "postgres"
DESCRIPTION = "PostgreSQL's server under pgbench, on a scratch cluster of its own"
OPTIONS = (
    Option("clients", int, 8, "N", "Clients of pgbench at once.  [default: 8]"),
    Option("transactions", int, 500, "N", "Transactions of each client.  [default: 500]"),
    Option("scale", int, 10, "N", "pgbench's scale: 100,000 rows each.  [default: 10]"),
    Option("buffers", str, "256MiB", "SIZE", "shared_buffers.  [default: 256MiB]"),
    Option(
        "mix",
        str,
        "select",
        "select|default",
        "Transactions: reads alone (pgbench -S), or pgbench's own.  [default: select]",
    ),
    Option(
        "warmup",
        int,
        None,
        "N",
        "The region of interest begins when each client has done N transactions; 0: when all"
        " are connected.  [default: half of them]",
    ),
    Option(
        "prewarm",
        bool,
        False,
        None,
        "Read pgbench's tables into shared_buffers before the clients come (pg_prewarm).",
    ),
)

_BASE = "/usr/lib/postgresql"
_USER = "postgres"
_DATABASE = "ptshare"
_MIXES: dict[str, tuple[str, ...]] = {"select": ("-S",), "default": ()}
_READY = "database system is ready to accept connections"
_READY_SECONDS = 120.0
_PREWARM = (
    "SELECT sum(pg_prewarm(oid)) FROM pg_class"
    " WHERE relname LIKE 'pgbench_%' AND relkind IN ('r', 'i')"
)
# Of pgbench's log: client, which transaction of it, its time in us, script, when it ended.
_LOGGED = re.compile(r"^(\d+) (\d+) (\d+) \d+ (\d+) (\d+)\n", re.MULTILINE)
_CONFIGURATION = """
listen_addresses = ''
unix_socket_directories = '{folder}'
shared_buffers = {buffers}MB
max_connections = {connections}
jit = off
autovacuum = off
fsync = off
"""


def record(
    output: Path, force: bool, roi_after: float | None, given: Mapping[str, Any]
) -> Recording:
    """Set up, record, take down."""
    _check(given)
    owner = user()
    output = Path(os.path.abspath(output))
    folder = Path(tempfile.mkdtemp(prefix="ptshare-postgres-"))
    cluster = Cluster(folder, programs(), owner)
    try:
        recording = Recording(
            cluster.server(),
            output,
            force=force,
            user=owner,
            roi_after=roi_after,
            environment=cluster.environment,
            said=cluster.log,
        )
        cluster.make(given)
        with recording:
            cluster.wait_until_ready(recording)
            if given["prewarm"]:
                say("pg_prewarm")
                cluster.run_beside(recording, "psql", "--no-psqlrc", "-c", _PREWARM)
            say(f"pgbench: {given['clients']} clients, {given['transactions']} transactions each")
            cluster.run_beside(recording, "pgbench", *load(given), *cluster.logged())
            if recording.interrupted is None:
                count(recording, cluster.transactions(), given, roi_after is None)
            recording.stop(signal.SIGINT)  # PostgreSQL's fast shutdown
        say(cluster.rate())
        return recording
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@dataclass(frozen=True, slots=True)
class Transaction:
    """When a client's ``number``-th transaction, from 1, began and ended: CLOCK_MONOTONIC, ns."""

    client: int
    number: int
    began: int
    ended: int


def count(
    recording: Recording, done: Sequence[Transaction], given: Mapping[str, Any], marks: bool
) -> None:
    """Note in the recording how many transactions there were, and where it is of interest."""
    if not done:
        raise UserError("pgbench's log has no transaction that is understood")
    begin, end = region(done, _warmup(given))
    if marks:
        recording.mark(BEGIN, begin)
        recording.mark(END, end)
    inside = sum(begin < each.ended for each in done) if marks else 0
    recording.manifest.work = Work("transaction", len(done), inside, f"postgres: * {_DATABASE} *")


def region(done: Sequence[Transaction], warmup: int) -> tuple[int, int]:
    """From when every client has done ``warmup`` transactions, until all have done theirs."""
    if warmup:
        begin = max(each.ended for each in done if each.number == warmup)
    else:  # pgbench connects all of its clients before the first one begins
        begin = min(each.began for each in done)
    return begin, max(each.ended for each in done)


class Cluster:
    """A cluster in a folder that is removed with it."""

    def __init__(self, folder: Path, programs: Mapping[str, Path], user: tuple[int, int] | None):
        self._folder, self._programs, self._user = folder, programs, user
        self._data = folder / "data"
        self.log = folder / "log"
        self.environment = {**os.environ, "LC_ALL": "C", "HOME": str(folder)}
        if user is not None:
            os.chown(folder, *user)

    def server(self) -> list[str]:
        """The command that is recorded."""
        return [str(self._programs["postgres"]), "-D", str(self._data)]

    def make(self, given: Mapping[str, Any]) -> None:
        """Make it, with pgbench's tables in it."""
        say("making a scratch cluster")
        self._run("initdb", "--no-sync", "--auth=trust", "-D", str(self._data))
        with open(self._data / "postgresql.conf", "a", encoding="utf-8") as file:
            file.write(
                _CONFIGURATION.format(
                    folder=self._folder,
                    buffers=parse_size(given["buffers"]) >> 20,
                    connections=given["clients"] + 10,
                )
            )
        self._run(
            "pg_ctl", "-w", "-D", str(self._data), "-l", str(self._folder / "native"), "start"
        )
        try:
            self._run("createdb", *self._at(), _DATABASE)
            scale = str(given["scale"])
            self._run(
                "pgbench", "--initialize", "--quiet", "--scale", scale, *self._at(), _DATABASE
            )
            if given["prewarm"]:
                make = "CREATE EXTENSION pg_prewarm"
                self._run("psql", "--no-psqlrc", "-c", make, *self._at(), _DATABASE)
        finally:
            self._run("pg_ctl", "-w", "-D", str(self._data), "-m", "fast", "stop")

    def wait_until_ready(self, recording: Recording) -> None:
        """Until the recorded server takes connections."""
        end = time.monotonic() + _READY_SECONDS
        while recording.status(recording.pid) is None and time.monotonic() < end:
            # Not asked: each question would be a process of the server's, and recorded.
            if recording.interrupted is not None or _READY in _text(self.log):
                return
            recording.pause()
        raise UserError(f"the recorded server does not come up: {_last_line(self.log)}")

    def run_beside(self, recording: Recording, name: str, *arguments: str) -> None:
        """Run a program natively while the server is recorded."""
        command = [str(self._programs[name]), *arguments, *self._at(), _DATABASE]
        pid = recording.spawn(command, self.environment, self._user, self._folder / "said")
        if recording.wait_for(pid):
            raise UserError(f"{name} failed: {_last_line(self._folder / 'said')}")

    def logged(self) -> tuple[str, ...]:
        """Options of pgbench, to write when each transaction ended."""
        return ("--log", f"--log-prefix={self._folder / 'transactions'}")

    def transactions(self) -> list[Transaction]:
        """What it then wrote, in its order."""
        behind = time.time_ns() - time.monotonic_ns()
        found = []
        for path in self._folder.glob("transactions.*"):
            for fields in _LOGGED.findall(_text(path)):
                client, number, took, seconds, micros = map(int, fields)
                ended = (seconds * 1_000_000 + micros) * 1000 - behind
                found.append(Transaction(client, number, ended - took * 1000, ended))
        return found

    def rate(self) -> str:
        """What pgbench says of its speed."""
        said = _text(self._folder / "said")
        return next((line for line in said.splitlines() if line.startswith("tps")), "no rate told")

    def _at(self) -> tuple[str, ...]:
        return ("-h", str(self._folder))

    def _run(self, name: str, *arguments: str) -> None:
        user, group = self._user or (None, None)
        try:
            done = subprocess.run(
                [self._programs[name], *arguments],
                env=self.environment,
                cwd=self._folder,
                user=user,
                group=group,
                extra_groups=None if user is None else [],
                stdin=subprocess.DEVNULL,
                # pg_ctl's server would keep a pipe open.
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL if name == "pg_ctl" else subprocess.PIPE,
                text=True,
            )
        except OSError as error:
            raise UserError(f"{name}: cannot be run: {os_reason(error)}") from error
        if done.returncode != 0:
            native = _last_line(self._folder / "native")
            told = (done.stderr or "").strip().splitlines() or [native]
            raise UserError(f"{name} failed: {told[-1]}")


def _check(given: Mapping[str, Any]) -> None:
    for name in ("clients", "transactions", "scale"):
        if not 1 <= given[name] <= 1_000_000:
            raise UserError("must be at least 1", EXIT_USAGE, option=name, value=given[name])
    if not 0 <= _warmup(given) < given["transactions"]:
        raise UserError(
            f"must be 0 to {given['transactions'] - 1}, less than --transactions",
            EXIT_USAGE,
            option="warmup",
            value=given["warmup"],
        )
    if given["mix"] not in _MIXES:
        raise UserError("must be select or default", EXIT_USAGE, option="mix", value=given["mix"])
    if parse_size(given["buffers"]) < 1 << 20:
        raise UserError(
            "must be at least 1MiB", EXIT_USAGE, option="buffers", value=given["buffers"]
        )


def _warmup(given: Mapping[str, Any]) -> int:
    warmup: int | None = given["warmup"]
    return given["transactions"] // 2 if warmup is None else warmup


def load(given: Mapping[str, Any]) -> tuple[str, ...]:
    """Options of pgbench."""
    clients, transactions = str(given["clients"]), str(given["transactions"])
    return ("-n", "-c", clients, "-t", transactions, *_MIXES[given["mix"]])


def programs() -> dict[str, Path]:
    """Programs of the newest PostgreSQL that there is."""
    places = sorted(
        Path(_BASE).glob("*/bin"),
        key=lambda place: [int(part) for part in re.findall(r"\d+", place.parent.name)],
        reverse=True,
    )
    found = shutil.which("postgres")
    if found is not None:
        places.append(Path(found).resolve().parent)
    for place in places:
        if (place / "postgres").is_file():
            break
    else:
        raise UserError("no PostgreSQL server: install Debian's or Ubuntu's postgresql")
    found_all = {}
    for name in ("postgres", "initdb", "pg_ctl", "pgbench", "createdb", "psql"):
        path = place / name if (place / name).is_file() else shutil.which(name)
        if path is None:
            raise UserError(f"PostgreSQL is there, but not its {name}: install postgresql-contrib")
        found_all[name] = Path(path)
    return found_all


def user() -> tuple[int, int] | None:
    """User and group that the server is to run as: it refuses root."""
    if os.geteuid() != 0:
        return None
    for name in (_USER, "nobody"):
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return entry.pw_uid, entry.pw_gid
    raise UserError("PostgreSQL does not run as root, and there is no user postgres: be another")


def _last_line(path: Path) -> str:
    lines = _text(path).strip().splitlines()
    return lines[-1] if lines else "no reason given"


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
