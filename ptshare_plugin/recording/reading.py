"""The pieces of a recording's streams at random, as a replay takes them."""

from __future__ import annotations

import os
from collections import OrderedDict
from pathlib import Path

from ptshare_plugin.common.errors import UserError, os_reason
from ptshare_plugin.recording.folder import Manifest, decompressed, piece_places

_OPEN_FILES = 256
"""Of them at most at once: a process may often have no more than 1,024."""


class Streams:
    """All streams; none of their pieces stays in memory. For ``_core.Playback``."""

    def __init__(self, folder: Path, manifest: Manifest) -> None:
        """Find where pieces begin."""
        self._paths = [folder / stream.file for stream in manifest.streams]
        self._places = [piece_places(path) for path in self._paths]
        self._files: OrderedDict[int, int] = OrderedDict()

    def __len__(self) -> int:
        """Number of streams."""
        return len(self._places)

    def pieces(self, stream: int) -> int:
        """Number of pieces of one."""
        return len(self._places[stream])

    def events(self, stream: int, piece: int) -> bytes:
        """What ``_core.record_events`` reads."""
        place = self._places[stream][piece]
        return self._read(stream, place.start, place.events)

    def blocks(self, stream: int, piece: int) -> bytes:
        """What ``_core.RecordDecoder`` takes beside the events."""
        place = self._places[stream][piece]
        return self._read(stream, place.start + place.events, place.blocks)

    def close(self) -> None:
        """Close the files."""
        for file in self._files.values():
            os.close(file)
        self._files.clear()

    def _read(self, stream: int, start: int, size: int) -> bytes:
        try:
            if stream not in self._files:
                if len(self._files) == _OPEN_FILES:
                    os.close(self._files.popitem(last=False)[1])
                self._files[stream] = os.open(self._paths[stream], os.O_RDONLY | os.O_CLOEXEC)
            self._files.move_to_end(stream)
            text = os.pread(self._files[stream], size, start)
        except OSError as error:
            raise UserError(f"{self._paths[stream]}: cannot be read: {os_reason(error)}") from error
        if len(text) < size:
            raise UserError(f"{self._paths[stream]}: is shorter than it was")
        return decompressed(text)
