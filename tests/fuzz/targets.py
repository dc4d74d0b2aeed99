"""What must hold of any input, a target a kind: a right result, or a UserError of one line.

Each target takes the bytes of one input, says whether its first reader took it, and raises what
else comes of it. ``run.py`` makes inputs up, ``test_corpus.py`` has those that are kept.
"""

from __future__ import annotations

import contextlib
import math
import os
import re
import shutil
import tempfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

from ptshare_plugin import api
from ptshare_plugin.common.errors import UserError
from ptshare_plugin.engines import traces as trace_files
from ptshare_plugin.machine import config
from ptshare_plugin.records import dataset, run_folder, summary
from ptshare_plugin.report import inputs as report_inputs
from ptshare_plugin.report import page
from ptshare_plugin.runs.options import Options, spell
from ptshare_plugin.runs.run import Run, execute
from ptshare_plugin.spec import about, program
from ptshare_plugin.spec.trace import Trace
from ptshare_plugin.sweeps import file as sweep_file
from ptshare_plugin.sweeps import plan as sweeps

THOROUGH = True
"""Whether ``runs`` gives an input to all readers; ``run.py`` does not."""
MOST_RECORDS = 20_000
MOST_POINTS = 50
PMD = 2 << 20
# A machine on which whatever a program asks for fits into this one's memory.
SMALL = ("kernel.memory_bytes=128MiB",)


class Enough(Exception):
    """A program has run for long enough."""


def taken(run: Callable[[], object]) -> bool:
    """Whether ``run`` took its input; False when it said in whole lines why not."""
    try:
        run()
    except UserError as error:
        for line in error.told_lines(spell):
            assert line.strip() and len(line.splitlines()) == 1, f"not one line: {line!r}"
            line.encode()
        return False
    return True


@contextlib.contextmanager
def folder() -> Iterator[Path]:
    """An empty folder; what is printed meanwhile is checked to be text, and dropped."""
    # Always the same one, so that what is kept by path does not grow.
    place = Path(tempfile.gettempdir(), f"ptshare-fuzz-{os.getpid()}")
    place.mkdir()
    try:
        with (
            open(os.devnull, "w", encoding="utf-8") as printed,
            contextlib.redirect_stdout(printed),
            contextlib.redirect_stderr(printed),
        ):
            yield place
    finally:
        shutil.rmtree(place)


# Traces -----------------------------------------------------------------------------------------


def traces(data: bytes) -> bool:
    """A trace is surveyed, converted, and replayed by two processes that share a part of it."""
    with folder() as place:
        path, binary = place / "trace", place / "binary"
        path.write_bytes(data)
        found: list[Trace] = []
        if not taken(lambda: found.append(trace_files.load(str(path), None))):
            return False
        if taken(lambda: trace_files.convert(str(path), str(binary), force=False)):
            again = trace_files.load(str(binary), None)
            assert (again.records, again.ranges) == (found[0].records, found[0].ranges)
        if found[0].records > MOST_RECORDS:
            return True
        first = max(found[0].ranges[-1][0] // PMD, 1) * PMD
        for share in ({}, {"trace_share": f"{first:#x}-{first + PMD:#x}"}):
            asked = {"trace": path, "procs": 2, "set": SMALL, **share}
            taken(lambda asked=asked: _run(Options.of(asked)))
        return True


def _run(options: Options) -> Run:
    looks = iter(range(4))

    def progress(_instructions: int, _cycles: int) -> None:
        if next(looks, None) is None:
            raise Enough

    return execute(options.spec(), options.command(), progress)


# Programs ---------------------------------------------------------------------------------------


def elf(data: bytes) -> bool:
    """A program is read as a workload and as a user's own, and runs for a while if it is one."""
    with folder() as place:
        path = place / "program"
        path.write_bytes(data)
        taken(lambda: about.read(path))
        if not taken(lambda: program.load(path)):
            return False
        with contextlib.suppress(Enough):
            taken(lambda: _run(Options.of({"program": path, "procs": 2, "set": SMALL})))
        return True


# TOML -------------------------------------------------------------------------------------------


def machine(data: bytes) -> bool:
    """A machine is read, and a workload runs on it unless its memory would be large here, too."""
    with folder() as place:
        path = place / "machine.toml"
        path.write_bytes(data)
        taken(lambda: config.preset_description(str(path)))
        taken(lambda: config.sources(str(path)))
        found = []
        if not taken(lambda: found.append(config.load(str(path)))):
            return False
        cache = found[0].cache
        lines = sum(level.bytes for level in (cache.l1i, cache.l1d, cache.l2, cache.llc))
        if lines // cache.line_bytes < 1 << 22:
            options = {"program": "scan", "engine": "stream", "procs": 2, "region": PMD, "work": 1}
            taken(lambda: _run(Options.of({**options, "preset": path})))
        return True


def sweep(data: bytes) -> bool:
    """A sweep is read, and each of its runs checked if they are few."""
    with folder() as place:
        path = place / "sweep.toml"
        path.write_bytes(data)
        found = []
        if not taken(lambda: found.append(sweep_file.read(path))):
            return False
        if math.prod(len(next(iter(group.values()))) for group in found[0].axes) <= MOST_POINTS:
            taken(lambda: sweeps.load(path))
        return True


# Stored runs ------------------------------------------------------------------------------------

_PART = re.compile(rb"^--- ([A-Za-z0-9_.]+)\n", re.MULTILINE)


def joined(parts: dict[str, bytes]) -> bytes:
    """One input of several files, as ``runs`` takes it."""
    return b"".join(b"--- %b\n%b\n" % (name.encode(), each) for name, each in parts.items())


def runs(data: bytes) -> bool:
    """A run folder, or another file that reports take, goes through all that reads it.

    A run.json without figures gets some, so that what reads both is reached.
    """
    with folder() as place:
        kept = place / "runs" / "one"
        kept.mkdir(parents=True)
        pieces = _PART.split(data)
        for name, content in zip(pieces[1::2], pieces[2::2], strict=True):
            if name.strip(b"."):
                (kept / name.decode()).write_bytes(content.removesuffix(b"\n"))
        if not (kept / run_folder.STATS).exists() and (kept / run_folder.RUN_JSON).exists():
            taken(lambda: _figures(kept))
        readers = (_summarised, _loaded, _gathered, _reported)
        # Each takes a while: a search gives an input to one of them.
        chosen = readers if THOROUGH else [readers[zlib.crc32(data) % len(readers)]]
        return any([reader(kept) for reader in chosen])


def _summarised(kept: Path) -> bool:
    forms = ("table", "csv", "json")
    return any(
        [taken(lambda form=form: summary.summarise([str(kept)], form, (), None)) for form in forms]
    )


def _loaded(kept: Path) -> bool:
    return any([taken(lambda path=path: api.load(path)) for path in _inputs(kept)])


def _gathered(kept: Path) -> bool:
    place = kept.parent / "dataset"
    if not taken(lambda: dataset.gather([kept], place)):
        return False
    assert len(api.load(place)) == 1
    return True


def _inputs(kept: Path) -> list[Path]:
    return [kept, *kept.glob("*.csv")]


def _reported(kept: Path) -> bool:
    def report(path: str) -> None:
        content = page.compute([path], report_inputs.read([path]))
        if THOROUGH:  # drawing takes most of the time
            page.render(content).encode()

    return any([taken(lambda path=path: report(str(path))) for path in _inputs(kept)])


def _figures(kept: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    from ptshare_plugin.common.files import read_json

    record = read_json(kept / run_folder.RUN_JSON)
    named = {name: record.get(name) for name in ("run", "engine", "policy")} if record else {}
    if not all(isinstance(word, str) for word in named.values()) or not named:
        return
    values = {"pt.bytes": 8192, "fault.file": 3, "walk.count": 7, "cycles.total": 100}
    with contextlib.suppress(pa.ArrowException, UnicodeEncodeError):
        table = run_folder.table(named, {0: {"fault.file": 3}, -1: values})
        pq.write_table(table, kept / run_folder.STATS)


TARGETS: dict[str, Callable[[bytes], bool]] = {
    "traces": traces,
    "elf": elf,
    "machine": machine,
    "sweep": sweep,
    "runs": runs,
}
