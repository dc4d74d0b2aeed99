"""Recordings of real processes: read before they are replayed, and replayed."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING

from ptshare_plugin.common.errors import EXIT_USAGE, UserError
from ptshare_plugin.common.progress import Progress, silent
from ptshare_plugin.common.units import short_size
from ptshare_plugin.engines.native import machine_parameters, require_core, simulate
from ptshare_plugin.engines.result import RunResult
from ptshare_plugin.spec.recording import Recording

if TYPE_CHECKING:
    from ptshare_plugin._core import Playback
    from ptshare_plugin.recording.folder import Manifest, Stream
    from ptshare_plugin.spec.run import RunSpec

_ALL = (1 << 64) - 1


def load(
    path: str, rules: Sequence[str], align: bool, times: int, progress: Progress = silent
) -> Recording:
    """Read what the recording at ``path`` says of itself, and choose by ``rules``."""
    require_core()
    from ptshare_plugin.recording import rules as choosing
    from ptshare_plugin.recording.folder import MANIFEST, read_manifest
    from ptshare_plugin.recording.space import histories

    folder = Path(path)
    manifest = read_manifest(folder)
    parsed = [choosing.parse(rule) for rule in rules]
    progress(0, 0)
    found = histories(folder, manifest.streams) if parsed else []
    processes = [stream for stream in manifest.streams if not stream.follows_exec]
    return Recording(
        path=path,
        sha256=hashlib.sha256((folder / MANIFEST).read_bytes()).hexdigest(),
        processes=len(processes),
        copies=tuple(_copies(manifest, times)),
        times=times,
        rules=tuple(rules),
        align=align,
        chosen=choosing.choose(parsed, manifest.streams, found) if parsed else (),
        roi=_roi(manifest),
    )


def _copies(manifest: Manifest, times: int) -> list[tuple[int, int]]:
    """The processes that others forked and that fork none, each ``times`` - 1 times more.

    Where the recording knows which do its work: of these, those that are there in the region of
    interest. Their begins are spread over the time that the longest of them took.
    """
    if times == 1:
        return []
    streams, work, (begin, _) = manifest.streams, manifest.work, _roi(manifest)
    parents = Counter(stream.parent for stream in streams if stream.forked)
    leaves = [
        number
        for number, stream in enumerate(streams)
        if stream.forked
        and not parents[number]
        and stream.end != "exec"
        and (work is None or fnmatchcase(stream.shown, work.processes))
        and (work is None or stream.last_stamp > begin)
    ]
    if not leaves:
        raise UserError(
            "no process of the recording was forked and forks none: there is nothing to copy",
            EXIT_USAGE,
            option="procs",
            value=f"x{times}",
        )
    longest = max(streams[each].last_stamp - streams[each].first_stamp for each in leaves)
    return [(number, longest * copy // times) for copy in range(1, times) for number in leaves]


def _roi(manifest: Manifest) -> tuple[int, int]:
    from ptshare_plugin.recording.folder import BEGIN

    begin, end = 0, _ALL
    for name, stamp in sorted(manifest.marks, key=lambda mark: mark[1]):
        if name == BEGIN and not begin:
            begin = stamp
        elif name != BEGIN:
            end = stamp
    return begin, end


def replay(spec: RunSpec, recording: Recording, progress: Progress) -> RunResult:
    """Replay ``recording`` under ``spec``'s policy, in this process."""
    require_core()
    from ptshare_plugin import _core
    from ptshare_plugin.recording.folder import read_manifest
    from ptshare_plugin.recording.reading import Streams

    manifest = read_manifest(Path(recording.path))
    streams = Streams(Path(recording.path), manifest)
    made: list[Playback] = []

    def make() -> Playback:
        made.append(
            _core.Playback(
                machine_parameters(spec),
                spec.policy,
                spec.cores,
                streams,
                list(recording.copies),
                _places(spec, recording),
                recording.roi,
                False,
            )
        )
        return made[0]

    try:
        result = simulate(f"recording {recording.path}", make, progress)
        _check_instructions(manifest, recording, made[0].instructions)
        remarks = _remarks(manifest.streams, made[0])
    finally:
        streams.close()
    return replace(result, remarks=tuple(remarks))


def _check_instructions(manifest: Manifest, recording: Recording, replayed: int) -> None:
    """Streams that are read as something else than what was written would go unnoticed."""
    if manifest.partial is not None:
        return
    of = [stream.instructions for stream in manifest.streams]
    written = sum(of) + sum(of[stream] for stream, _ in recording.copies)
    if replayed != written:
        raise UserError(
            f"{recording.path}: damaged, or written by another ptshare: its manifest tells of"
            f" {written:,} instructions, its streams of {replayed:,}"
        )


def _places(spec: RunSpec, recording: Recording) -> dict[tuple[int, int], tuple[int, int]]:
    from ptshare_plugin import _core
    from ptshare_plugin.recording.rules import places

    here = {(each.stream, each.returned): (0, 0) for each in recording.chosen}
    if not spec.share:
        return {}
    if not recording.align:
        return here
    kernel = _core.Kernel(spec.policy, 1 << 30, share_level=spec.config.share.level)
    alignment = kernel.alignment()
    return places(recording.chosen, alignment) if alignment else here


def _remarks(streams: Sequence[Stream], playback: Playback) -> list[str]:
    """Where the replay is not what was recorded: a line for each kind, with the first of it."""
    lines: dict[str, tuple[str, int, int, int, int]] = {}
    for stream, found in zip(streams, playback.deviations(), strict=True):
        for what, address, size, times in found:
            name, pid, first, more, count = lines.get(
                what, (stream.shown, stream.pid, address, 0, 0)
            )
            lines[what] = (name, pid, first, more + size, count + times)
    return [
        f"{what}: {'once' if count == 1 else f'{count:,} times'}, {short_size(size)},"
        f" first process {pid} ({name})" + (f" at {address:#x}" if address else "")
        for what, (name, pid, address, size, count) in lines.items()
    ]
