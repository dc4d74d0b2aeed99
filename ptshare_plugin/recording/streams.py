"""Takes what the tool sends: one connection and one thread a stream."""

from __future__ import annotations

import re
import select
import socket
import struct
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from ptshare_plugin.common.errors import os_reason
from ptshare_plugin.recording.folder import PieceWriter, Stream

if TYPE_CHECKING:
    from ptshare_plugin import _core

PIECE_WORDS = 1 << 19
"""Words of the tool's in a piece: 4 MiB."""
PIECE_SECONDS = 5.0
"""A piece is ended after these, too: what a killed recorder loses."""

_BORN = struct.Struct("<6Q")
_BATCH = 2 << 20
"""Bytes encoded at once: what is known of the stream then comes into the caches once."""
_BATCH_MILLISECONDS = 100
_PARENT_SECONDS = 60.0
_SIGNAL = re.compile(r"Process terminating with default action of signal (\d+) \((\w+)\)")
_UNKNOWN = "unhandled instruction bytes"


class Streams:
    """All streams of a recording, as they come."""

    def __init__(self, folder: Path, path: Path, logs: Path, changed: Callable[[], None]) -> None:
        """Listen at ``path``.

        :param folder: of the recording.
        :param logs: folder of Valgrind's own messages, a file ``log.PID`` a process.
        :param changed: called when a stream has begun or ended, in its thread.
        """
        self._folder, self._logs, self._changed = folder, logs, changed
        self._lock = threading.Lock()
        self._encoders: dict[int, tuple[int, _core.RecordEncoder]] = {}
        self._open: dict[int, socket.socket] = {}
        self._threads: list[threading.Thread] = []
        self.all: list[Stream] = []
        self.failure: str | None = None
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        path.chmod(0o777)  # the folder that it is in says who may
        self._listener.listen(1024)
        self._acceptor = threading.Thread(target=self._accept, daemon=True)
        self._acceptor.start()

    def active(self) -> list[Stream]:
        """Streams whose process still sends."""
        with self._lock:
            return [self.all[number] for number in self._open]

    def close(self) -> None:
        """Take no new stream; end those that there are."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._acceptor.join()
        with self._lock:
            connections = list(self._open.values())
        for connection in connections:
            connection.shutdown(socket.SHUT_RD)
        for thread in self._threads:
            thread.join()

    def fail(self, why: str) -> None:
        """Record no more, of any process."""
        with self._lock:
            self.failure = self.failure or why
            connections = list(self._open.values())
        for connection in connections:
            connection.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:  # closed
                return
            thread = threading.Thread(target=self._serve, args=(connection,), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _serve(self, connection: socket.socket) -> None:
        with connection:
            head = b""
            while len(head) < _BORN.size and (data := connection.recv(_BORN.size - len(head))):
                head += data
            if len(head) < _BORN.size or self.failure is not None:
                return
            _, pid, _, stamp, parent_stamp, definitions = _BORN.unpack_from(head)
            number, stream = self._begin(connection, pid, parent_stamp, definitions)
            why: str | None = None
            encoder = None
            try:
                writer = PieceWriter(self._folder / stream.file)
                encoder = self._encoder(parent_stamp, definitions)
                self._encoders[stamp] = (number, encoder)
                self._changed()
                self._take(connection, head, stream, encoder, writer)
            except OSError as error:
                why = f"{self._folder}: {os_reason(error)}"
                self.fail(why)
            except RuntimeError as error:
                why = str(error)
            finally:
                self._end(number, stream, encoder, why)
                self._changed()

    def _begin(
        self, connection: socket.socket, pid: int, parent_stamp: int, definitions: int
    ) -> tuple[int, Stream]:
        with self._lock:
            earlier = [i for i, stream in enumerate(self.all) if stream.pid == pid]
            generation = len(earlier)
            forked = parent_stamp != 0
            if forked:
                parent = self._encoders[parent_stamp][0] if parent_stamp in self._encoders else None
            else:
                parent = earlier[-1] if earlier else None
            stream = Stream(f"{pid}.{generation}.zst", pid, generation, parent, forked, definitions)
            number = len(self.all)
            self.all.append(stream)
            self._open[number] = connection
        return number, stream

    def _encoder(self, parent_stamp: int, definitions: int) -> _core.RecordEncoder:
        from ptshare_plugin import _core

        if parent_stamp == 0:
            return _core.RecordEncoder()
        # The parent has sent them before it forked; its thread may not have come to them.
        end = time.monotonic() + _PARENT_SECONDS
        while time.monotonic() < end:
            found = self._encoders.get(parent_stamp)
            if found is not None and found[1].definitions >= definitions:
                return _core.RecordEncoder(found[1], definitions)
            time.sleep(0.001)
        raise RuntimeError("the stream of its parent ends before the fork")

    def _take(
        self,
        connection: socket.socket,
        data: bytes,
        stream: Stream,
        encoder: _core.RecordEncoder,
        writer: PieceWriter,
    ) -> None:
        begun = time.monotonic()
        buffer = memoryview(bytearray(_BATCH))
        try:
            encoder.feed(data)
            while count := _fill(connection, buffer):
                encoder.feed(buffer[:count])
                now = time.monotonic()
                if encoder.words >= PIECE_WORDS or now - begun > PIECE_SECONDS:
                    self._write(writer, stream, encoder)
                    begun = now
            if encoder.words:
                self._write(writer, stream, encoder)
        finally:
            writer.close()

    def _write(self, writer: PieceWriter, stream: Stream, encoder: _core.RecordEncoder) -> None:
        events, blocks = encoder.take()
        learn(stream, encoder)
        writer.write(events, blocks, stream.accesses, stream.last_stamp)
        stream.bytes = writer.bytes

    def _end(
        self, number: int, stream: Stream, encoder: _core.RecordEncoder | None, why: str | None
    ) -> None:
        if encoder is not None:
            learn(stream, encoder)
        if why is None and encoder is not None and encoder.ended:
            stream.end = "exit" if encoder.exited else "signal"
            stream.status = encoder.status if encoder.exited else None
            stream.why = None if encoder.exited else self._signal(stream.pid)
        else:
            stream.end = (
                "exec" if why is None and encoder is not None and encoder.in_exec else "cut"
            )
            stream.why = why or self._cut(stream)
        with self._lock:
            del self._open[number]

    def _log(self, pid: int) -> str:
        try:
            return (self._logs / f"log.{pid}").read_text(encoding="utf-8", errors="replace")
        except OSError:
            return ""

    def _signal(self, pid: int) -> str:
        log = self._log(pid)
        found = _SIGNAL.search(log)
        if found is None:
            return "a signal"
        what = f"signal {found[1]} ({found[2]})"
        return f"{what}: an instruction that Valgrind does not know" if _UNKNOWN in log else what

    def _cut(self, stream: Stream) -> str | None:
        if stream.end == "exec":
            return None
        if self.failure is not None:
            return self.failure
        log = self._log(stream.pid)
        asserted = [line for line in log.splitlines() if "assertion" in line or "panic" in line]
        if asserted:
            return f"Valgrind failed: {asserted[0].partition('== ')[2].strip() or asserted[0]}"
        return "it was killed, or the recording was ended before it had ended"


def _fill(connection: socket.socket, buffer: memoryview) -> int:
    """Take what comes, until the buffer is full or no more comes for a moment; 0 at the end."""
    count = connection.recv_into(buffer)
    more = select.poll()
    more.register(connection, select.POLLIN)
    while 0 < count < len(buffer) and more.poll(_BATCH_MILLISECONDS):
        got = connection.recv_into(buffer[count:])
        if got == 0:  # the next call finds the end again
            break
        count += got
    return count


def settle_execs(streams: list[Stream]) -> None:
    """Of streams that end with an exec: those after which nothing came were cut there."""
    continued = {stream.parent for stream in streams if not stream.forked}
    for number, stream in enumerate(streams):
        if stream.end == "exec" and number not in continued:
            stream.end = "cut"
            stream.why = (
                "it executed what cannot be recorded: a 32-bit, set-user-id or damaged program"
            )


def learn(stream: Stream, encoder: _core.RecordEncoder) -> None:
    """Note what its encoder knows of a stream by now."""
    for name, value in encoder.totals().items():
        setattr(stream, name, value)
    stream.name = encoder.name.decode(errors="replace")
    stream.title = encoder.title.decode(errors="replace").strip()
