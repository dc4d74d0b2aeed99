"""The one kind of error that a user is meant to see."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Iterable

EXIT_FAILURE = 1
EXIT_USAGE = 2
EXIT_INTERRUPTED = 130  # 128 + SIGINT, as shells report it


class UserError(Exception):
    """Wrong input, or a machine that lacks something: one line, and the exit code to leave with.

    :param message: what is wrong and what would be right; line breaks are folded.
    :param exit_code: 1, or 2 when the command line itself was wrong.
    """

    def __init__(self, message: str, exit_code: int = EXIT_FAILURE) -> None:
        """Fold ``message`` into one line."""
        super().__init__("; ".join(part.strip() for part in message.splitlines() if part.strip()))
        self.exit_code = exit_code

    @property
    def lines(self) -> list[str]:
        """What to print, a line an error."""
        return [str(self)]


class UserErrors(UserError):
    """Several of them, found at once."""

    def __init__(self, messages: Iterable[str], exit_code: int = EXIT_FAILURE) -> None:
        """One line each."""
        self._lines = [str(UserError(message)) for message in messages]
        super().__init__("; ".join(self._lines), exit_code)

    @property
    def lines(self) -> list[str]:
        """In the order in which they were found."""
        return self._lines


def nearest(name: str, known: Iterable[str]) -> str:
    """`` (did you mean X?)`` for the known name closest to ``name``, or nothing."""
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.55)
    return f" (did you mean {close[0]}?)" if close else ""


def os_reason(error: OSError) -> str:
    """Return the system's words for ``error`` without its number and path."""
    # Arrow's errors have the number in their text only.
    number = re.search(r"\[errno (\d+)\]", str(error), re.IGNORECASE)
    text = os.strerror(int(number[1])) if number else error.strerror or str(error)
    return (text or type(error).__name__).lower()
