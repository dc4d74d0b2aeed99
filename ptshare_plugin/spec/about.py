"""What a workload says of itself, in its own binary (``se_workloads/runtime/runtime.h``).

Read by the script inside gem5, too: standard library only.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterable
from dataclasses import dataclass

from ptshare_plugin.common.errors import EXIT_USAGE, UserError
from ptshare_plugin.spec.program import check_header, read_image

SECTION, DETAILS = ".ptshare.about", ".ptshare.details"
"""The first one is loaded with the program, the other one, which may be missing, is not."""


@dataclass(frozen=True, slots=True)
class Argument:
    """An argument that a user may give a workload, after ``--``: its name, then its value.

    :param own: whether this workload has it, and not every one.
    :param default: None: any text, none by default, and the other numbers say nothing.
    :param multiple: what a value must be a multiple of; 1 for any number.
    """

    name: str
    meaning: str
    own: bool
    default: int | None = None
    least: int = 0
    most: int = 0
    multiple: int = 1

    @property
    def default_text(self) -> str:
        """The default, to be shown."""
        return "" if self.default is None else str(self.default)

    @property
    def limits(self) -> str:
        """Which values there are, in words."""
        if self.default is None:
            return "text"
        of = f", a multiple of {self.multiple}" if self.multiple != 1 else ""
        return f"{self.least} to {self.most}{of}"

    def value(self, text: str) -> int:
        """The number that was written; a UserError when it is no value for it."""
        ok = text.isascii() and text.isdigit() and len(text) < 20
        if ok and self.least <= int(text) <= self.most and int(text) % self.multiple == 0:
            return int(text)
        raise UserError(f"{self.name} {text}: must be a number from {self.limits}", EXIT_USAGE)


@dataclass(frozen=True, slots=True)
class About:
    """All of it.

    :param work: default amount of work and its unit.
    :param kills_itself: its last rank, if not alone, ends by a SIGKILL that it sends itself (S11).
    :param output_depends_on_policy: it prints what the kernel answers.
    :param arguments: its own, then those of every workload.
    """

    name: str
    description: str
    work: str
    kills_itself: bool
    output_depends_on_policy: bool
    arguments: tuple[Argument, ...]


def read(path: str | os.PathLike[str]) -> About:
    """What the workload at ``path`` states; a UserError of one line when that is no workload."""
    where = str(path)
    image = read_image(path)
    check_header(image, where)
    try:
        name, description, work = (_section(image, SECTION) or b"").split(b"\0")[:3]
        first = name.decode(), description.decode(), work.decode()
    except (ValueError, struct.error) as error:
        raise UserError(
            f"{where}: no workload of ptshare: section {SECTION} does not hold "
            "name, description and work"
        ) from error
    try:
        details = (_section(image, DETAILS) or b"").decode().split("\0")[:-1]
        arguments = _arguments(details)
    except (ValueError, TypeError) as error:
        raise UserError(
            f"{where}: no workload of this ptshare: section {DETAILS} does not hold arguments"
        ) from error
    return About(
        *first,
        kills_itself="kills itself" in details,
        output_depends_on_policy="output depends on policy" in details,
        arguments=arguments,
    )


def _arguments(details: Iterable[str]) -> tuple[Argument, ...]:
    found = []
    for whose, *words in (detail.split("\t") for detail in details):
        if words:
            name, *numbers, meaning = words
            limits = (int(number) for number in numbers)
            found.append(Argument(name, meaning, whose == "own", *limits))
    return tuple(sorted(found, key=lambda argument: not argument.own))


def _section(image: bytes, name: str) -> bytes | None:
    """Content of a section of an ELF-64 file; ValueError or struct.error when it is broken."""
    (table,) = struct.unpack_from("<Q", image, 0x28)
    size, count, names = struct.unpack_from("<HHH", image, 0x3A)
    if count and size < 64:
        raise ValueError(f"section headers of {size} bytes")
    if table + count * size > len(image):
        raise ValueError("section headers behind the file's end")
    headers = [struct.unpack_from("<II4Q", image, table + i * size) for i in range(count)]
    if names >= count:
        return None
    texts = headers[names][4]
    for text, _, _, _, start, length in headers:
        if image.startswith(name.encode() + b"\0", texts + text):
            return image[start : start + length]
    return None
