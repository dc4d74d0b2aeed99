"""Is what another program wrote, or damage behind zstd's checksums, refused or replayed?"""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from ptshare_plugin import _core
from ptshare_plugin.recording.folder import read_manifest
from ptshare_plugin.recording.reading import Streams

EXAMPLES = 4 * int(os.environ.get("PTSHARE_EXAMPLES", "50"))
VALUES = (b"\x00", b"\x01", b"\x7f", b"\x80", b"\xff", b"\xff" * 9 + b"\x01", b"\x80" * 12)
KINDS = {"events", "blocks"}


def damaged(text: bytes, chance: random.Random) -> bytes:
    """With some bytes replaced, left out, or twice."""
    for _ in range(chance.choice((1, 1, 2, 5))):
        at = chance.randrange(len(text) + 1)
        # Most of what is interesting stands at the beginning.
        at = chance.choice((at, at % 200))
        length = chance.choice((0, 1, 1, 1, 8, 60))
        new = chance.choice((*VALUES, text[at : at + 2 * length], chance.randbytes(1)))
        text = text[:at] + new + text[at + length :]
    return text


class Damaged:
    """Streams of a recording, one text of which is another."""

    def __init__(self, streams: Streams, place: tuple[str, int, int], text: bytes) -> None:
        self._streams, self._place, self._text = streams, place, text

    def __len__(self) -> int:
        return len(self._streams)

    def pieces(self, stream: int) -> int:
        return self._streams.pieces(stream)

    def events(self, stream: int, piece: int) -> bytes:
        return self._of("events", stream, piece)

    def blocks(self, stream: int, piece: int) -> bytes:
        return self._of("blocks", stream, piece)

    def _of(self, kind: str, stream: int, piece: int) -> bytes:
        if (kind, stream, piece) == self._place:
            return self._text
        found: bytes = getattr(self._streams, kind)(stream, piece)
        return found


def replayed(streams: Damaged, policy: str, parameters: dict[str, object]) -> str:
    """What came of it."""
    try:
        replay = _core.Playback(parameters, policy, 2, streams, [], {}, (0, 0), False)
        while not replay.step(100_000):
            pass
        replay.deviations()
    except (RuntimeError, ValueError) as error:
        return str(error)
    return ""


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_damage_is_refused_or_replayed(
    folder: Path, kind: str, parameters: dict[str, object]
) -> None:
    streams = Streams(folder, read_manifest(folder))
    places = [(kind, each, i) for each in range(len(streams)) for i in range(streams.pieces(each))]
    told: list[str] = []
    for seed in range(EXAMPLES):
        chance = random.Random(seed)
        place = chance.choice(places)
        text = damaged(getattr(streams, kind)(*place[1:]), chance)
        policy = chance.choice(("private", "ptshare", "huge-2m"))
        told.append(replayed(Damaged(streams, place, text), policy, parameters))
    streams.close()
    refused = [each for each in told if each]
    assert any(each.startswith("damaged: ") for each in refused)
    assert len(refused) > EXAMPLES / 4
    assert not [each for each in refused if "\n" in each or len(each) > 200]
