"""Lines of the keys and of lists' values of a TOML text, which ``tomllib`` does not tell."""

from __future__ import annotations

import re
import tomllib

Path = tuple[str | int, ...]

_KEY_PART = re.compile(r'[A-Za-z0-9_-]+|"(?:\\.|[^"\\\n])*"|\'[^\'\n]*\'')
# Strings first: brackets, # and line breaks inside them mean nothing.
_VALUE_PART = re.compile(
    r'"""(?:\\.|[^\\])*?"{3,5}|\'\'\'.*?\'{3,5}|"(?:\\.|[^"\\\n])*"|\'[^\'\n]*\''
    r"|#[^\n]*|[\[{]|[\]}]|,|\n|[^\"'#\[\]{},\n]+",
    re.DOTALL,
)


class Lines:
    """Where each key of a text stands; the text must be right, as ``tomllib`` has it."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._found: dict[Path, int] = {}
        self._counts: dict[Path, int] = {}
        self._scan()

    def of(self, path: Path) -> int:
        """Line of the key or value at ``path``, or of the innermost one around it that has one.

        Elements of arrays are numbers: ``("exclude", 0, "procs", 2)``.
        """
        while path and path not in self._found:
            path = path[:-1]
        return self._found.get(path, 1)

    def _scan(self) -> None:
        at = 0
        prefix: Path = ()
        while at < len(self._text):
            if self._text[at].isspace():
                at += 1
            elif self._text[at] == "#":
                at = self._line_end(at)
            elif self._text[at] == "[":
                prefix, at = self._header(at)
            else:
                parts, end = self._key(at)
                self._note(prefix + parts, at)
                at = self._value_end(self._text.index("=", end) + 1, prefix + parts)

    def _header(self, at: int) -> tuple[Path, int]:
        array = self._text.startswith("[[", at)
        parts, _ = self._key(at + 1 + array)
        path: Path = ()
        for part in parts[:-1]:
            path = self._element((*path, part))
        path = (*path, parts[-1])
        if array:
            self._counts[path] = self._counts.get(path, 0) + 1
        path = self._element(path)
        self._note(path, at)
        return path, self._line_end(at)

    def _element(self, path: Path) -> Path:
        return (*path, self._counts[path] - 1) if path in self._counts else path

    def _note(self, path: Path, at: int) -> None:
        line = self._text.count("\n", 0, at) + 1
        for length in range(1, len(path) + 1):
            self._found.setdefault(path[:length], line)

    def _key(self, at: int) -> tuple[Path, int]:
        parts: list[str] = []
        while True:
            while self._text[at] in " \t":
                at += 1
            match = _KEY_PART.match(self._text, at)
            assert match is not None, "tomllib has accepted the text"
            part = match[0]
            if part[0] in "\"'":
                part = tomllib.loads(f"key = {part}")["key"]
            parts.append(part)
            at = match.end()
            while self._text[at] in " \t":
                at += 1
            if self._text[at] != ".":
                return tuple(parts), at
            at += 1

    def _value_end(self, at: int, path: Path) -> int:
        depth = index = 0
        listed = awaited = False  # whether it is a list, of which an element is to begin
        while at < len(self._text):
            match = _VALUE_PART.match(self._text, at)
            assert match is not None, "tomllib has accepted the text"
            if match[0] == "\n" and depth == 0:
                break
            if depth == 0 and match[0] == "[":
                listed = awaited = True
            elif listed and depth == 1 and match[0] == ",":
                awaited = True
                index += 1
            elif awaited and not match[0].isspace() and match[0][0] not in "#]":
                self._note((*path, index), at)
                awaited = False
            depth += (match[0] in "[{") - (match[0] in "]}")
            at = match.end()
        return at

    def _line_end(self, at: int) -> int:
        end = self._text.find("\n", at)
        return len(self._text) if end < 0 else end
