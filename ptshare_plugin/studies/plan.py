"""``ptshare plan``: what many clients of one large file need, by the model's core at full size.

The core's own operations are driven (mmap, faults, mprotect); no figure here is a formula's. There
is no time in it: no CPU executes anything, so costs are those of the kernel's work alone.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ptshare_plugin import policies as all_policies
from ptshare_plugin.common import units
from ptshare_plugin.common.errors import EXIT_USAGE, UserError
from ptshare_plugin.common.units import PAGE_BYTES, PMD_BYTES, exact_size, short_size
from ptshare_plugin.machine.schema import KEYS, Machine, flatten
from ptshare_plugin.metrics.vocabulary import MINOR_FAULTS, PTE_LEVELS
from ptshare_plugin.spec.run import MAX_PROCS, unknown_policy

if TYPE_CHECKING:
    from ptshare_plugin import _core

PROT_READ = 1
# The steps, in 2 MiB, in which all clients touch more of the region until memory runs out. Each is
# a fraction of the one before: after running out, the next kernel starts where that step began.
_LARGEST_REGION = 127 << 40
_MOST_IN_MEMORY = 8 << 40  # of the file: seconds, and a gigabyte of this machine's memory
_COVERAGE_STEPS = (512, 32, 1)
# Pages touched one by one, clients times pages: minutes.
_MOST_SINGLE_PAGES = 1 << 28


@dataclass(frozen=True, slots=True)
class Pattern:
    """Which pages of the region each client touches.

    :param kind: ``all``; ``fraction``: the first ``pages``; ``spread``: ``pages`` at even
        distances; ``zipf``: those of ``visits`` of the workload of that name, other ones a client.
    """

    kind: str
    pages: int = 0
    visits: int = 0


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be computed; sizes in bytes.

    :param resident: ``all``: the file is in the page cache from the start; ``touched``: what
        clients touch.
    :param cpus: CPUs that run a client each while a protection changes.
    :param own_tables: page tables of each client beside those of the region.
    :param own_memory: other memory that each client has for itself.
    """

    procs: int
    region: int
    memory: int
    pattern: Pattern
    write: bool
    resident: str
    cpus: int
    seed: int
    machine: Machine
    own_tables: int = 0
    own_memory: int = 0


@dataclass(frozen=True, slots=True)
class Defaults:
    """What is asked where nothing else is; sizes in bytes."""

    procs: int = 1500
    region: int = 300 << 30
    memory: int = 512 << 30
    pattern: str = "all"
    access: str = "read"
    resident: str = "all"
    cpus: int = 64
    seed: int = 1
    # An idle PostgreSQL 15 backend has 176 to 180 kB of VmPTE beside its shared segment's (measured
    # on Linux; after scans 348 to 476 kB).
    own_tables: int = 176 << 10
    own_memory: int = 0


DEFAULTS = Defaults()
"""The seed's case: 1,500 clients of a 300 GiB file on a machine of 512 GiB."""


def asked(
    *,
    procs: int,
    region: int | str,
    memory: int | str,
    pattern: str,
    access: str,
    resident: str,
    cpus: int,
    seed: int,
    machine: Machine,
    own_tables: int | str,
    own_memory: int | str,
) -> Plan:
    """What is to be computed, from options as they are written; ``check`` looks at the rest."""
    if access not in ("read", "write"):
        raise _usage("must be read or write", option="access", value=access)
    for option, value, kind in (
        ("procs", procs, int),
        ("cpus", cpus, int),
        ("seed", seed, int),
        ("pattern", pattern, str),
        ("resident", resident, str),
    ):
        if type(value) is not kind:
            words = "a whole number" if kind is int else "a word"
            raise _usage(f"must be {words}, not {value!r}", option=option)
    size = _size_of("region", region)
    return Plan(
        procs=procs,
        region=size,
        memory=_size_of("memory", memory),
        pattern=parse_pattern(pattern, size),
        write=access == "write",
        resident=resident,
        cpus=cpus,
        seed=seed,
        machine=machine,
        own_tables=_size_of("own_tables", own_tables),
        own_memory=_size_of("own_memory", own_memory),
    )


def parse_pattern(text: str, region: int) -> Pattern:
    """Pattern of ``all``, ``fraction:F``, ``spread:F`` (0 < F <= 1) or ``zipf:VISITS``."""
    kind, colon, value = text.partition(":")
    try:
        if text == "all":
            return Pattern("all", pages=region // PAGE_BYTES)
        if kind == "zipf" and colon and 0 < int(value) < 1 << 63:
            return Pattern("zipf", visits=int(value))
        if kind in ("fraction", "spread") and colon and 0 < float(value) <= 1:
            return Pattern(kind, pages=max(1, int(float(value) * (region // PAGE_BYTES))))
    except ValueError:
        pass
    raise UserError(
        "write all, fraction:0.25, spread:0.01 (above 0, at most 1) or"
        " zipf:10000 (visits a client)",
        EXIT_USAGE,
        option="pattern",
        value=text,
    )


def check(plan: Plan, policies: Sequence[str]) -> None:
    """Refuse what cannot be computed; a UserError names the option."""
    known = all_policies.names()
    all_policies.check_distinct(policies)
    for name in policies:
        if name not in known:
            raise _usage(
                unknown_policy(name, known),
                option="policy",
            )
    if not 1 <= plan.procs <= MAX_PROCS:
        raise _usage(
            f"must be 1 to {MAX_PROCS}",
            option="procs",
            value=plan.procs,
        )
    if plan.region < PMD_BYTES or plan.region % PMD_BYTES:
        raise _usage(
            "must be a multiple of 2MiB, not 0",
            option="region",
            value=exact_size(plan.region),
        )
    if plan.region > _LARGEST_REGION:
        raise _usage(
            f"must be at most {exact_size(_LARGEST_REGION)}: a process has less than 128TiB of"
            " addresses",
            option="region",
            value=exact_size(plan.region),
        )
    for option, value in (("own_tables", plan.own_tables), ("own_memory", plan.own_memory)):
        if not 0 <= value <= plan.memory or value % PAGE_BYTES:
            raise _usage(
                f"must be a multiple of 4KiB, at most the memory, {exact_size(plan.memory)}",
                option=option,
                value=exact_size(value),
            )
    key = KEYS["kernel.memory_bytes"]
    assert key.low is not None and key.high is not None
    if not key.low <= plan.memory <= key.high:
        raise _usage(
            f"must be {exact_size(int(key.low))} to {exact_size(int(key.high))}",
            option="memory",
            value=exact_size(plan.memory),
        )
    if min(plan.region, plan.memory) > _MOST_IN_MEMORY:
        raise _usage(
            f"the coverage would bring {exact_size(min(plan.region, plan.memory))} of it into"
            f" memory; at most {exact_size(_MOST_IN_MEMORY)}: take less, or less --memory",
            option="region",
            value=exact_size(plan.region),
        )
    if plan.resident not in ("all", "touched"):
        raise _usage(
            "must be all or touched",
            option="resident",
            value=plan.resident,
        )
    if plan.resident == "all" and plan.memory <= plan.region:
        raise _usage(
            f"the file of {exact_size(plan.region)} does not fit; take more, or --resident touched",
            option="memory",
            value=exact_size(plan.memory),
        )
    if not 1 <= plan.cpus <= MAX_PROCS:
        raise _usage(
            f"must be 1 to {MAX_PROCS}",
            option="cpus",
            value=plan.cpus,
        )
    if not 0 <= plan.seed < 1 << 64:
        raise _usage(
            "must be 0 to 2^64 - 1",
            option="seed",
            value=plan.seed,
        )


def left_out(plan: Plan, policies: Sequence[str]) -> dict[str, str]:
    """Why policies cannot be computed, of those that ``check`` let pass.

    Raises UserError when none is left.
    """
    reasons = {name: reason for name in policies if (reason := _too_many_accesses(plan, name))}
    if policies and len(reasons) == len(policies):
        raise _usage(reasons[policies[0]])
    return reasons


def _too_many_accesses(plan: Plan, policy: str) -> str | None:
    pattern = plan.pattern
    # Core touches whole tables at once where the policy lets it. Of a set of pages, that takes a
    # file whose frames follow each other.
    page_by_page = all_policies.known()[policy].page_by_page
    at_once = pattern.kind in ("all", "fraction") or (
        pattern.kind == "spread" and plan.resident == "all"
    )
    if at_once and not page_by_page:
        return None
    # The coverage touches all of the region where memory lets it.
    whole = plan.region // PAGE_BYTES if page_by_page else 0
    single = plan.procs * max(pattern.pages, pattern.visits, whole)
    if single <= _MOST_SINGLE_PAGES:
        return None
    return (
        f"{policy}: {single:,} accesses would be served one by one, at most"
        f" {_MOST_SINGLE_PAGES:,}: take fewer --procs, a smaller --region or --pattern"
    )


class Stop:
    """Ends what threads compute, from another one."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._stopped = False
        self._running: list[weakref.ref[_core.Deployment]] = []

    def watch(self, made: _core.Deployment) -> None:
        """It is stopped when all is."""
        with self._lock:
            self._running = [each for each in self._running if each() is not None]
            self._running.append(weakref.ref(made))
            if self._stopped:
                made.stop()

    def set(self) -> None:
        """Whatever is under way, or begins, ends with an error."""
        with self._lock:
            self._stopped = True
            for each in self._running:
                if (made := each()) is not None:
                    made.stop()


def compute_all(plan: Plan, policies: Sequence[str]) -> dict[str, dict[str, Any]]:
    """``compute`` for each policy, side by side; raises what the first of them raises."""
    stop = Stop()
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        try:
            found = pool.map(lambda policy: compute(plan, policy, stop), policies)
            rows = dict(zip(policies, found, strict=True))
        except BaseException:  # Ctrl-C, too: the others shall not go on to their end
            stop.set()
            raise
    if (baseline := rows.get(all_policies.BASELINE)) is not None:
        for row in rows.values():
            row["pt.saved_bytes"] = baseline["pt.bytes.total"] - row["pt.bytes.total"]
    return rows


def compute(plan: Plan, policy: str, stop: Stop) -> dict[str, Any]:
    """All figures of one policy: by name, in bytes, counts, ratios and cycles.

    :param stop: whereby another thread ends the computation.

    Raises UserError when the simulator's own memory would not hold the touched tables.
    """
    try:
        return _compute(plan, policy, stop)
    except RuntimeError as error:
        raise UserError(f"{policy}: {error}") from error


def _compute(plan: Plan, policy: str, stop: Stop) -> dict[str, Any]:
    made = _deployment(plan, policy, plan.memory, stop)
    fits = _start(plan, made, plan.procs)
    left = made.frames_left * PAGE_BYTES
    if fits < plan.procs:
        # Once more with memory for all of them.
        high = KEYS["kernel.memory_bytes"].high
        assert high is not None
        made = _deployment(plan, policy, int(high), stop)
        if _start(plan, made, plan.procs) < plan.procs:
            raise UserError(
                f"{policy}: {plan.procs} clients need more than {exact_size(int(high))} of memory"
            )
    row = {
        **_tables_and_faults(plan, made),
        **_protection(plan, made),
        "memory.clients": fits,
        "memory.runs_out": fits < plan.procs,
        "memory.left_bytes": left,
    }
    del made  # a second one beside it would need memory of ours
    chunks = plan.region // PMD_BYTES
    whole = fits == plan.procs and plan.pattern.kind == "all"
    touched = chunks if whole else _coverage(plan, policy, chunks, stop)
    row["coverage.bytes"] = touched * PMD_BYTES
    row["coverage.ratio"] = touched / chunks
    return row


def _tables_and_faults(plan: Plan, made: _core.Deployment) -> dict[str, Any]:
    by_owner = made.tables()
    row: dict[str, Any] = {}
    row["pt.bytes"] = PAGE_BYTES * sum(sum(levels.values()) for levels in by_owner.values())
    row["pt.bytes.own"] = plan.procs * plan.own_tables
    row["pt.bytes.total"] = row["pt.bytes"] + row["pt.bytes.own"]
    for owner, levels in by_owner.items():
        row[f"pt.bytes.{owner}"] = PAGE_BYTES * sum(levels.values())
        for level in PTE_LEVELS:
            row[f"pt.bytes.{owner}.{level}"] = PAGE_BYTES * levels[level]
    faults = made.faults()
    row["fault.total"] = sum(faults[kind] for kind in MINOR_FAULTS)
    for kind in (*MINOR_FAULTS, "linked", "around_pages"):
        row[f"fault.{kind}"] = faults[kind]
    row["fault.cycles"] = made.fault_cycles
    return row


def _protection(plan: Plan, made: _core.Deployment) -> dict[str, Any]:
    """What one client's mprotect of the region to PROT_READ costs, and what every client's does."""
    before = made.write_protected()
    one = made.protect(0, 1, PROT_READ, plan.cpus)
    row: dict[str, Any] = {"mprotect.one.reached": made.write_protected() - before}
    rest = made.protect(1, plan.procs - 1, PROT_READ, plan.cpus)
    for name in one:
        row[f"mprotect.one.{name}"] = one[name]
        row[f"mprotect.each.{name}"] = one[name] + rest[name]
    return row


def _coverage(plan: Plan, policy: str, chunks: int, stop: Stop) -> int:
    """How many chunks of 2 MiB, from the region's start on, all clients can touch in memory."""
    done = 0
    for step in _COVERAGE_STEPS:
        made = _deployment(plan, policy, plan.memory, stop)
        if _attach(plan, made, plan.procs) != plan.procs:
            break
        if not all(
            made.touch(client, 0, done * PMD_BYTES, plan.write) for client in range(plan.procs)
        ):
            raise RuntimeError("what fitted before does not fit again")
        while done < chunks:
            more = min(step, chunks - done)
            at, length = done * PMD_BYTES, more * PMD_BYTES
            if not all(made.touch(client, at, length, plan.write) for client in range(plan.procs)):
                break
            done += more
        if done == chunks:
            break
        del made
    return done


def _deployment(plan: Plan, policy: str, memory: int, stop: Stop) -> _core.Deployment:
    from ptshare_plugin import _core

    parameters = {**flatten(plan.machine), "kernel.memory_bytes": memory}
    made = _core.Deployment(parameters, policy, plan.region)
    stop.watch(made)
    return made


def _own_pages(plan: Plan) -> int:
    return (plan.own_tables + plan.own_memory) // PAGE_BYTES


def _attach(plan: Plan, made: _core.Deployment, procs: int) -> int:
    """Attach clients until memory runs out; how many did."""
    for client in range(procs):
        if not made.attach(_own_pages(plan)):
            return client
        # Not before: it is the first mapping that decides which pages the file consists of.
        if client == 0 and plan.resident == "all" and not made.make_resident():
            return 0
    return procs


def _start(plan: Plan, made: _core.Deployment, procs: int) -> int:
    """Attach and touch, client after client, until memory runs out; how many were done."""
    limit = _holdable_bytes()
    for client in range(procs):
        if not made.attach(_own_pages(plan)):
            return client
        if client == 0 and plan.resident == "all" and not made.make_resident():
            return 0
        if not _touch(plan, made, client):
            return client
        if made.held_bytes > limit:
            raise UserError(
                f"after {client + 1} of {procs} clients the simulator holds"
                f" {short_size(made.held_bytes)} of page tables, more than half of what this"
                " machine has free: take fewer --procs, a smaller --region, or --pattern all or"
                " fraction, whose tables are kept as runs"
            )
    return procs


def _touch(plan: Plan, made: _core.Deployment, client: int) -> bool:
    pattern = plan.pattern
    if pattern.kind == "zipf":
        return made.visit(client, pattern.visits, plan.seed, plan.write)
    if pattern.kind == "spread":
        return made.touch_spread(client, pattern.pages, plan.write)
    return made.touch(client, 0, pattern.pages * PAGE_BYTES, plan.write)


def _holdable_bytes() -> int:
    return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2


def _usage(message: str, option: str | None = None, value: object = None) -> UserError:
    return UserError(message, EXIT_USAGE, option=option, value=value)


def _size_of(option: str, value: int | str) -> int:
    """Bytes that ``option`` gives; a UserError names it."""
    try:
        return units.read_size(value)
    except UserError as error:
        raise _usage(error.message, option=option) from error
