"""Files that runs are made of: programs, traces, presets. Each is read once until it changes.

Thousands of runs of one sweep use the same ones; a notebook changes them between two runs.
"""

from __future__ import annotations

import os
from pathlib import Path

from ptshare_plugin.common.errors import UserError
from ptshare_plugin.common.progress import Progress
from ptshare_plugin.engines import recordings, traces
from ptshare_plugin.machine import config
from ptshare_plugin.machine.schema import Machine
from ptshare_plugin.spec import program as programs
from ptshare_plugin.spec.program import Program
from ptshare_plugin.spec.recording import Recording
from ptshare_plugin.spec.trace import Trace

Stamp = tuple[str, int, int, int, int] | None
# Of each, the newest, with the stamp of the file that it was read from.
_programs: dict[str, tuple[Stamp, Program]] = {}
_traces: dict[tuple[str, str | None], tuple[Stamp, Trace | UserError]] = {}
_recordings: dict[tuple[str, tuple[str, ...], bool, int], tuple[Stamp, Recording]] = {}
_machines: dict[tuple[str, tuple[str, ...]], tuple[dict[Path, Stamp], Machine]] = {}


def program(path: str) -> Program:
    """The program at ``path``."""
    stamp = _stamp(path)
    if path not in _programs or _programs[path][0] != stamp:
        _programs[path] = stamp, programs.load(path)
    return _programs[path][1]


def trace(path: str, share: str | None, progress: Progress) -> Trace:
    """The trace at ``path``; what is wrong with it is kept, too: it takes as long to find."""
    if path == traces.STDIN:
        return traces.load(path, share)  # which refuses it
    stamp = _stamp(path)
    if (path, share) not in _traces or _traces[path, share][0] != stamp:
        try:
            found: Trace | UserError = traces.load(path, share, progress)
        except UserError as error:
            option = error.option or "trace"
            found = UserError(error.message, error.exit_code, option=option, value=error.value)
        _traces[path, share] = stamp, found
    found = _traces[path, share][1]
    if isinstance(found, UserError):
        raise found
    return found


def recording(
    path: str, rules: tuple[str, ...], align: bool, times: int, progress: Progress
) -> Recording:
    """The recording at ``path``, and how it is replayed."""
    key = (path, rules, align, times)
    stamp = _stamp(Path(path) / "manifest.json")
    if key not in _recordings or _recordings[key][0] != stamp:
        _recordings[key] = stamp, recordings.load(path, rules, align, times, progress)
    return _recordings[key][1]


def machine(preset: str, overrides: tuple[str, ...]) -> Machine:
    """Machine of ``preset`` changed by ``overrides``."""
    key = (preset, overrides)
    if key not in _machines or any(_stamp(path) != old for path, old in _machines[key][0].items()):
        stamps = {path: _stamp(path) for path in config.sources(preset)}
        _machines[key] = stamps, config.load(preset, overrides)
    return _machines[key][1]


def _stamp(path: str | Path) -> Stamp:
    """What another file, or another content, has differently; None for no file."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    # Relative paths mean other files in other folders; copies keep the time of what they copy.
    where = os.path.abspath(path)
    return where, status.st_dev, status.st_ino, status.st_ctime_ns, status.st_size
