"""The Markdown pages of the source folder: their links, headings, and the code that they show."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from pathlib import Path

from markdown_it import MarkdownIt
from markdown_it.token import Token

ROOT = Path(__file__).resolve().parents[2]
_MADE = {"build", "dist", "m5out", "out"}
"""Folders of what is made there, not kept."""
_PUNCTUATION = re.compile(r"[^\w\- ]")


@dataclass(frozen=True, slots=True)
class Code:
    """Code on a page. ``language``: as its fence says; None: a span inside a line."""

    page: Path
    line: int
    language: str | None
    text: str

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def pages() -> list[Path]:
    """All Markdown pages."""
    kept = (place for place in ROOT.iterdir() if place.is_dir() and place.name not in _MADE)
    nested = (page for folder in kept if folder.name[0] != "." for page in folder.rglob("*.md"))
    return sorted([*ROOT.glob("*.md"), *nested])


def links(page: Path) -> list[tuple[int, str]]:
    """Lines and targets of its links and pictures."""
    return [
        (line, str(child.attrs.get("href", child.attrs.get("src"))))
        for line, child in _inline(page)
        if child.type in ("link_open", "image")
    ]


@cache
def anchors(page: Path) -> frozenset[str]:
    """What a link can name after ``#``: the headings, as GitHub and the site write them."""
    tokens = _tokens(page)
    headings = (text.content for mark, text in pairwise(tokens) if mark.type == "heading_open")
    return frozenset(
        _PUNCTUATION.sub("", heading.lower()).replace(" ", "-") for heading in headings
    )


def code(page: Path) -> Iterator[Code]:
    """Its blocks and spans of code."""
    for token in _tokens(page):
        if token.type in ("fence", "code_block"):
            assert token.map is not None
            yield Code(page, token.map[0] + 1, token.info.strip(), token.content)
    for line, child in _inline(page):
        if child.type == "code_inline":
            yield Code(page, line, None, child.content)


def commands(shown: Code) -> Iterator[list[str]]:
    """The words of its command lines, without comments; what ``|``, ``&&`` or ``;`` divide is two.

    A line of words far apart is a table's.
    """
    for line in shown.text.replace("\\\n", " ").splitlines():
        if re.match(r"\s*\w[\w.]*( [^ ]|$)", line) is None:
            continue
        lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
        lexer.whitespace_split = True
        words: list[str] = []
        try:
            for word in lexer:
                if re.fullmatch(r"[();<>|&]+", word):
                    yield words
                    words = []
                else:
                    words.append(word)
        except ValueError:  # a quotation mark alone: text of something that is no command line
            continue
        yield words


@cache
def _tokens(page: Path) -> list[Token]:
    return MarkdownIt("commonmark").enable("table").parse(page.read_text(encoding="utf-8"))


def _inline(page: Path) -> Iterator[tuple[int, Token]]:
    for token in _tokens(page):
        for child in token.children or []:
            assert token.map is not None
            yield token.map[0] + 1, child
