"""The one kind of error that a user is meant to see."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Callable, Iterable

EXIT_FAILURE = 1
EXIT_USAGE = 2
NOT_BUILT = (
    "the extension module ptshare_plugin._core is not built: run 'pip install -e .' in the checkout"
)
EXIT_INTERRUPTED = 130  # 128 + SIGINT, as shells report it


class UserError(Exception):
    """Wrong input, or a machine that lacks something: one line, and the exit code to leave with.

    The message does not name the option that it is about: each face (command line, sweep file,
    Python) spells options in its own way and adds them, see ``told``.

    :param message: what is wrong and what would be right; line breaks are folded.
    :param exit_code: 1, or 2 when what was asked for was wrong.
    :param option: of ``runs.options.Options``, by its name there, that is wrong.
    :param value: what it was given, where that helps.
    :param key: key of the machine that is wrong; the message names it.
    """

    def __init__(
        self,
        message: str,
        exit_code: int = EXIT_FAILURE,
        *,
        option: str | None = None,
        value: object = None,
        key: str | None = None,
    ) -> None:
        """Fold ``message`` into one line."""
        self.message = _one_line(message)
        super().__init__(self.message)
        self.exit_code = exit_code
        self.option, self.value, self.key = option, value, key

    def told(self, spell: Callable[[str], str] = str) -> str:
        """The message, behind its option as ``spell`` writes it; "" leaves the option out."""
        option = "" if self.option is None else spell(self.option)
        if not option:
            return self.message
        value = "" if self.value is None else f" {_one_line(str(self.value))}"
        return f"{option}{value}: {self.message}"

    def __str__(self) -> str:
        return self.told()

    def told_lines(self, spell: Callable[[str], str] = str) -> list[str]:
        """What to print, a line an error."""
        return [self.told(spell)]

    @property
    def lines(self) -> list[str]:
        """The same, with options by their names."""
        return self.told_lines()


def _one_line(text: str) -> str:
    """The same without line breaks, and with numbers of very many digits cut."""
    parts = (part.strip() for part in text.splitlines())
    text = "; ".join(part for part in parts if part)
    return re.sub(r"\d{60,}", lambda found: found[0][:20] + "...", text)


class UserErrors(UserError):
    """Several of them, found at once."""

    def __init__(self, messages: Iterable[str], exit_code: int = EXIT_FAILURE) -> None:
        """One line each."""
        self._lines = [UserError(message).message for message in messages]
        super().__init__("; ".join(self._lines), exit_code)

    def told_lines(self, _spell: Callable[[str], str] = str) -> list[str]:
        """In the order in which they were found; whoever found them has named the options."""
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
