"""Progress of a simulation, on stderr: one line rewritten on a terminal, now and then elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

Progress = Callable[[int, int], None]
"""Called now and then with the instructions and cycles simulated so far; 0 where not known."""

_TERMINAL_SECONDS = 0.2
_OTHERWISE_SECONDS = 10.0


def silent(_instructions: int, _cycles: int) -> None:
    """Progress that nobody wants to see."""


@contextmanager
def show(label: str) -> Iterator[Progress]:
    """Give an engine's progress callback that reports under ``label``."""
    terminal = sys.stderr.isatty()
    every = _TERMINAL_SECONDS if terminal else _OTHERWISE_SECONDS
    start = last = time.monotonic()
    shown = False

    def report(instructions: int, cycles: int) -> None:
        nonlocal last, shown
        now = time.monotonic()
        if now - last < every:
            return
        last, shown = now, True
        text = f"{label}: "
        if instructions:  # gem5 tells no figures before its end
            rate = instructions / (now - start) / 1e6
            text += (
                f"{instructions / 1e6:,.1f} M instructions, {cycles / 1e6:,.1f} M cycles, "
                f"{rate:.1f} M instructions/s, "
            )
        text += f"{now - start:.0f} s"
        if terminal:
            # Cut to 79 columns, so that a narrow terminal does not wrap and scroll.
            sys.stderr.write("\r\x1b[K" + text[:79])
        else:
            sys.stderr.write(text + "\n")
        sys.stderr.flush()

    try:
        yield report
    finally:
        if shown and terminal:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()
