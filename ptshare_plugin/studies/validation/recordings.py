"""``ptshare validate --recording``: a replay under ``private`` against the recorded kernel.

When a recorded program ended, the recorder noted which pages the kernel's tables held for its own
areas. The replay reads code when the recorder translated it, as it was then.
"""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from ptshare_plugin import policies
from ptshare_plugin.common.errors import UserError
from ptshare_plugin.common.progress import Progress
from ptshare_plugin.common.units import PAGE_BYTES
from ptshare_plugin.engines import registry as engines
from ptshare_plugin.engines.native import machine_parameters, require_core, told
from ptshare_plugin.runs.options import Options
from ptshare_plugin.studies.validation.cases import Case
from ptshare_plugin.studies.validation.outcome import Outcome, Pair, Validation

if TYPE_CHECKING:
    from ptshare_plugin.recording.folder import Stream
    from ptshare_plugin.recording.space import Area, History

TABLES, PAGES, FAULTS = "pt_bytes.present", "pages.present", "fault.minor"
_CAUSE = (
    "a fault maps pages around it that are in the page cache by then, but none with its read-ahead"
    " mark, which the model does not know; the recorder reads code beyond the blocks that ran;"
    " of Valgrind's own faults only those that are surely its are taken off the kernel's: a page"
    " that it reads before it writes it took two"
)
_LEAVES = 3
"""Mark of a sample when a program ends: ``Playback::kMarkLeaves``."""
_EXECUTE, _STEP, _TABLE = 4, 500_000, 512

Runs = Iterable[tuple[int, int]]


METRICS = (TABLES, PAGES, FAULTS)
"""Compared of every program."""


def validate(path: str, progress: Progress) -> Validation:
    """Replay the recording at ``path`` and compare each program's end with the kernel's."""
    require_core()
    from ptshare_plugin import _core
    from ptshare_plugin.recording.folder import read_manifest
    from ptshare_plugin.recording.reading import Streams
    from ptshare_plugin.recording.space import histories

    spec = Options.of({"recording": path, "policy": policies.BASELINE}).spec(progress)
    manifest = read_manifest(Path(path))
    if manifest.source is not None:
        raise UserError(
            f"{path}: was imported from {manifest.source}: nothing says what a kernel had for it"
        )
    found = histories(Path(path), manifest.streams)
    streams = Streams(Path(path), manifest)
    try:
        with told(f"recording {path}"):
            replay = _core.Playback(
                machine_parameters(spec), spec.policy, spec.cores, streams, [], {}, (0, 0), True
            )
            while not replay.step(_STEP):
                progress(replay.instructions, replay.cycles)
    finally:
        streams.close()
    samples = [sample for sample in replay.samples() if sample[2] == _LEAVES]
    # An exec that failed was noted too: the last of a stream is its end.
    last = {
        stream: (runs, sample[-1])
        for (stream, _, _, runs), sample in zip(replay.present(), samples, strict=True)
    }
    outcomes = []
    for number, (stream, history) in enumerate(zip(manifest.streams, found, strict=True)):
        case = Case(_name(stream), "", may_differ=METRICS, cause=_CAUSE)
        outcome = Outcome(case, engines.DEFAULT)
        if history.faults is None or number not in last:
            outcome.skipped = f"its end is not in the recording: {stream.why or stream.end}"
        else:
            _compare(outcome, history, *last[number])
        outcomes.append(outcome)
    settings: dict[str, str | int] = {
        "release": str(manifest.host["kernel"]).split()[-1],
        "cpu": str(manifest.host["cpu"]),
        "valgrind": str(manifest.valgrind),
        "command": shlex.join(manifest.command),
    }
    return Validation(outcomes, settings, (), manifest.begin[:10])


def _name(stream: Stream) -> str:
    return f"{stream.pid}.{stream.generation} {stream.shown}"


def _compare(outcome: Outcome, history: History, runs: Runs, faults: int) -> None:
    measured, modelled = _pages(history.present), _pages(runs)
    assert history.faults is not None
    outcome.metrics = {
        TABLES: Pair(_table_bytes(measured), _table_bytes(modelled)),
        PAGES: Pair(len(measured), len(modelled)),
        FAULTS: Pair(history.faults.minor - history.faults.own, faults),
    }
    if faults > history.faults.minor:
        outcome.problems.append(f"more faults than the kernel's {history.faults.minor:,} in all")
    areas = sorted(history.space.areas, key=lambda area: area.start)
    unexplained = Counter(
        _of(areas, page)
        for pages, explains in ((measured - modelled, _read), (modelled - measured, _cached))
        for page in pages
        if not explains(_area(areas, page))
    )
    for name, count in unexplained.most_common(3):
        outcome.problems.append(f"{count} pages of {name} differ")


def _pages(runs: Runs) -> set[int]:
    return {at // PAGE_BYTES + i for at, count in runs for i in range(count)}


def _table_bytes(pages: Iterable[int]) -> int:
    """Of the tables below the PGD that translate these."""
    total, level = 0, set(pages)
    for _ in range(3):
        level = {number // _TABLE for number in level}
        total += len(level)
    return total * PAGE_BYTES


def _area(areas: list[Area], page: int) -> Area | None:
    at = page * PAGE_BYTES
    return next((area for area in areas if area.start <= at < area.end), None)


def _of(areas: list[Area], page: int) -> str:
    area = _area(areas, page)
    return f"what lies at {page * PAGE_BYTES:#x}" if area is None else area.name


def _cached(area: Area | None) -> bool:
    """Its pages are a page cache's: fault-around decides which are mapped."""
    return area is not None and area.what is not None


def _read(area: Area | None) -> bool:
    """The recorder may read what the program did not, or others were there first."""
    return area is not None and _cached(area) and (area.shared or area.prot & _EXECUTE != 0)
