"""The pieces of a recording's streams at random, as a replay takes them."""

from __future__ import annotations

import os
from pathlib import Path

from ptshare_plugin.common.errors import UserError, os_reason
from ptshare_plugin.recording.folder import Manifest, decompressed, piece_places


class Streams:
    """All streams; none of their pieces stays in memory. For ``_core.Playback``."""

    def __init__(self, folder: Path, manifest: Manifest) -> None:
        """Find where pieces begin."""
        self._paths = [folder / stream.file for stream in manifest.streams]
        self._places = [piece_places(path) for path in self._paths]
        self._files: dict[int, int] = {}

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
        self._files = {}

    def _read(self, stream: int, start: int, size: int) -> bytes:
        try:
            if stream not in self._files:
                self._files[stream] = os.open(self._paths[stream], os.O_RDONLY | os.O_CLOEXEC)
            text = os.pread(self._files[stream], size, start)
        except OSError as error:
            raise UserError(f"{self._paths[stream]}: cannot be read: {os_reason(error)}") from error
        if len(text) < size:
            raise UserError(f"{self._paths[stream]}: is shorter than it was")
        return decompressed(text)
