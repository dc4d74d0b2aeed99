"""What ``ptshare recording`` shows: who ran, who mapped what, and what could share page tables."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ptshare_plugin.common.units import PAGE_BYTES, PMD_BYTES, short_size
from ptshare_plugin.recording.folder import Manifest, Stream, read_manifest
from ptshare_plugin.recording.sharing import SHARES, answers
from ptshare_plugin.recording.space import Area, History, Identity, histories
from ptshare_plugin.show import terminal

_TABLE_BYTES = 4096


@dataclass(frozen=True, slots=True)
class Common:
    """Something that several processes have mapped.

    :param processes: how many have had it mapped.
    :param addresses: where; more than one if not all have it at the same.
    :param pages: present in the kernel's tables when each process ended, all together.
    :param tables: last-level page tables that mapped it, all together.
    :param merged: the same if each were there once for all.
    :param sharing: what each policy that shares tables makes of it.
    """

    name: str
    what: Identity
    bytes: int
    shared: bool
    writable: bool
    addresses: tuple[int, ...]
    processes: int
    pages: int
    tables: int
    merged: int
    sharing: dict[str, str]


@dataclass(frozen=True, slots=True)
class Look:
    """All of it."""

    manifest: Manifest
    histories: list[History]
    common: list[Common]


def look(folder: Path) -> Look:
    """Read a recording's events."""
    manifest = read_manifest(folder)
    found = histories(folder, manifest.streams)
    return Look(manifest, found, _common(manifest.streams, found))


def _common(streams: list[Stream], found: list[History]) -> list[Common]:
    users: dict[tuple[Identity, bool], dict[int, list[Area]]] = defaultdict(dict)
    for number, history in enumerate(found):
        for (what, _, shared), area in history.ever.items():
            users[(what, shared)].setdefault(number, []).append(area)
    common = []
    for (what, shared), areas in users.items():
        pids = {streams[number].pid for number in areas}
        if len(pids) < 2:
            continue
        common.append(_one(what, shared, areas, found, len(pids)))
    return sorted(common, key=lambda each: (-each.tables, -each.pages, each.name))


def _one(
    what: Identity,
    shared: bool,
    areas: dict[int, list[Area]],
    found: list[History],
    processes: int,
) -> Common:
    every = [area for owned in areas.values() for area in owned]
    largest = max(every, key=lambda area: area.bytes)
    pages, tables, merged = _present(areas, found)
    starts = tuple(sorted({area.start for area in every if area.offset == largest.offset}))
    name = largest.name
    if what[0] == "anonymous":
        name = "anonymous memory"
    return Common(
        name=name,
        what=what,
        bytes=max(_extent(owned) for owned in areas.values()),
        shared=shared,
        writable=any(area.prot & 2 for area in every),
        addresses=starts,
        processes=processes,
        pages=pages,
        tables=tables,
        merged=merged,
        sharing=answers(largest, starts),
    )


def _extent(areas: list[Area]) -> int:
    return max(area.end for area in areas) - min(area.start for area in areas)


def _present(areas: dict[int, list[Area]], found: list[History]) -> tuple[int, int, int]:
    """Pages present, the last-level tables that they need, and those needed once for all."""
    pages = tables = 0
    all_chunks: set[int] = set()
    for number, owned in areas.items():
        chunks: set[int] = set()
        for start, count in found[number].present:
            end = start + count * PAGE_BYTES
            for area in owned:
                first, last = max(start, area.start), min(end, area.end)
                if first < last:
                    pages += (last - first) // PAGE_BYTES
                    chunks.update(range(first // PMD_BYTES, (last - 1) // PMD_BYTES + 1))
        tables += len(chunks)
        all_chunks |= chunks
    return pages, tables, len(all_chunks)


def as_json(seen: Look) -> dict[str, Any]:
    """The same for programs."""
    manifest = asdict(seen.manifest)
    for stream, history in zip(manifest["streams"], seen.histories, strict=True):
        stream["faults"] = None if history.faults is None else history.faults._asdict()
        stream["areas"] = [asdict(area) for area in sorted(history.space.areas, key=_start)]
        stream["present_pages"] = sum(count for _, count in history.present)
    return {
        **manifest,
        "partial": seen.manifest.partial,
        "common": [asdict(each) for each in seen.common],
    }


def _start(area: Area) -> int:
    return area.start


def print_tables(seen: Look) -> None:
    """For people."""
    out = terminal.console()
    manifest = seen.manifest
    out.print(f"{' '.join(manifest.command)}")
    if manifest.source is not None:
        out.print(f"imported {manifest.begin} from {manifest.source}")
    else:
        out.print(
            f"recorded {manifest.begin} on {manifest.host['cpu']}, {manifest.host['kernel']},"
            f" valgrind {manifest.valgrind}"
        )
    if manifest.marks:
        begun = min(stream.first_stamp for stream in manifest.streams)
        marks = (f"{name} after {(stamp - begun) / 1e9:.1f} s" for name, stamp in manifest.marks)
        out.print(f"region of interest: {', '.join(marks)}")
    if (work := manifest.work) is not None:
        out.print(f"{work.total:,} {work.unit}s, {work.roi:,} of them in the region of interest")
    out.print()
    terminal.print_words(
        out,
        ["process", "ended", "instructions", "accesses", "disk", "pages", "name"],
        _tree(seen),
        right=(2, 3, 4, 5),
    )
    out.print()
    _print_common(out, seen)


def _tree(seen: Look) -> list[list[str]]:
    streams = seen.manifest.streams
    children: dict[int | None, list[int]] = defaultdict(list)
    for number, stream in enumerate(streams):
        children[stream.parent].append(number)
    lines: list[list[str]] = []
    waiting = [(number, 0) for number in reversed(children[None])]
    while waiting:
        number, depth = waiting.pop()
        lines.append(_line(streams[number], seen.histories[number], depth))
        waiting += [(child, depth + streams[child].forked) for child in reversed(children[number])]
    return lines


def _line(stream: Stream, history: History, depth: int) -> list[str]:
    ended = {"exit": f"exit {stream.status}", "signal": stream.why or "", "exec": "exec"}
    pages = sum(count for _, count in history.present)
    return [
        f"{'  ' * depth}{stream.pid}",
        ended.get(stream.end or "", "cut"),
        f"{stream.instructions:,}",
        f"{stream.accesses:,}",
        short_size(stream.bytes),
        f"{pages:,}" if history.faults is not None else "-",
        stream.shown,
    ]


def _print_common(out: Any, seen: Look) -> None:
    if not seen.common:
        out.print("No two processes had anything mapped in common.")
        return
    shared = [each for each in seen.common if each.shared]
    private = [each for each in seen.common if not each.shared]
    if shared:
        heading = ["mapped shared", "size", "at", "processes", "pages", "tables", "if shared"]
        terminal.print_words(out, heading, [_figures(each) for each in shared], right=range(3, 7))
        out.print()
        lines = [line for each in shared for line in _reasons(each)]
        terminal.print_words(out, ["mapped shared", "page tables under", "are"], lines)
        out.print()
    if private:
        tables, merged = sum(e.tables for e in private), sum(e.merged for e in private)
        out.print(
            f"{len(private)} files are mapped privately by several (programs, libraries):"
            f" {tables:,} tables; no policy shares those."
        )
        out.print(f"The same addresses in one process would need {merged:,}.")


def _figures(each: Common) -> list[str]:
    where = "/".join(f"{address:#x}" for address in each.addresses[:2])
    more = "/..." if len(each.addresses) > 2 else ""
    figures = (each.processes, each.pages, each.tables, each.merged)
    return [each.name, short_size(each.bytes), where + more, *(f"{item:,}" for item in figures)]


def _reasons(each: Common) -> list[list[str]]:
    """A line for each answer, with the policies that give it."""
    by_answer: dict[str, list[str]] = defaultdict(list)
    for policy, answer in each.sharing.items():
        by_answer[answer].append(policy)
    return [
        [
            "" if number else each.name,
            ", ".join(policies),
            "shared" if answer == SHARES else f"not shared: {answer}",
        ]
        for number, (answer, policies) in enumerate(by_answer.items())
    ]
