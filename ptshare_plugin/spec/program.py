"""Load and check a program: a static, non-PIE x86-64 ELF executable."""

from __future__ import annotations

import hashlib
import io
import os
import stat
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ptshare_plugin.common.errors import UserError, os_reason
from ptshare_plugin.common.units import PAGE_BYTES, exact_size

# Linux's mmap_min_addr and the end of user addresses with four levels.
_LOWEST = 64 * 1024
_HIGHEST = (1 << 47) - PAGE_BYTES
_PHDR_BYTES = 56
_MOST_MEMORY = 1 << 40
_LARGEST_FILE = 1 << 30
_HOW_TO_LINK = "link it with 'gcc -static -no-pie'"


@dataclass(frozen=True, slots=True)
class Segment:
    """One PT_LOAD: ``prot`` holds PROT_READ 1, PROT_WRITE 2, PROT_EXEC 4; sizes in bytes."""

    vaddr: int
    offset: int
    file_size: int
    memory_size: int
    prot: int


@dataclass(frozen=True, slots=True)
class Program:
    """A checked program.

    ``phdr`` is the program headers' address in memory (AT_PHDR), 0 when no segment maps them.
    """

    name: str
    path: str
    image: bytes = field(repr=False)
    segments: tuple[Segment, ...]
    entry: int
    phdr: int
    phentsize: int
    phnum: int
    sha256: str


def load(path: str | os.PathLike[str]) -> Program:
    """Program at ``path``; a UserError of one line says what is wrong with any other file."""
    image = read_image(path)
    where = str(path)
    elf = _open(image, where)
    _check_kind(elf, where)
    segments = _segments(elf, len(image), where)
    entry = int(elf["e_entry"])
    if not any(s.prot & 4 and s.vaddr <= entry < s.vaddr + s.file_size for s in segments):
        raise UserError(f"{where}: broken ELF file: entry {entry:#x} is in no executable segment")
    return Program(
        name=Path(path).name,
        path=where,
        image=image,
        segments=segments,
        entry=entry,
        phdr=_header_address(elf, segments),
        phentsize=int(elf["e_phentsize"]),
        phnum=int(elf["e_phnum"]),
        sha256=hashlib.sha256(image).hexdigest(),
    )


def unread(path: Path) -> Program:
    """The program at ``path`` for an engine that reads it itself; it has no image here.

    For gem5's Python, which has no pyelftools.
    """
    sha256 = hashlib.sha256(read_image(path)).hexdigest()
    return named(path.name, str(path), sha256)


def named(name: str, path: str, sha256: str) -> Program:
    """What stands in a program's place where none is executed here; it has no image."""
    return Program(
        name=name,
        path=path,
        image=b"",
        segments=(),
        entry=0,
        phdr=0,
        phentsize=0,
        phnum=0,
        sha256=sha256,
    )


def read_image(path: str | os.PathLike[str]) -> bytes:
    """Content of the regular file ``path``, of 1 GiB at most."""
    try:
        # Before it is opened: opening a FIFO waits for its writer.
        mode = os.stat(path).st_mode
        if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
            raise UserError(f"{path}: not a regular file")
        with open(path, "rb") as file:
            status = os.fstat(file.fileno())
            if status.st_size > _LARGEST_FILE:
                raise UserError(f"{path}: {exact_size(status.st_size)} is too large a program")
            return file.read()
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such file") from error
    except IsADirectoryError as error:
        raise UserError(f"{path}: a directory, not a program") from error
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {os_reason(error)}") from error
    except ValueError as error:  # a NUL in the path
        raise UserError(f"{str(path)!r}: not a file name") from error


def check_header(image: bytes, where: str) -> None:
    """Refuse what has no ELF header; a UserError begins with ``where``."""
    if not image:
        raise UserError(f"{where}: empty, not an ELF program")
    if image[:2] == b"#!":
        raise UserError(f"{where}: a script, not a compiled x86-64 program")
    if image[:4] != b"\x7fELF":
        raise UserError(f"{where}: not an ELF program")
    if len(image) < 64:
        raise UserError(f"{where}: truncated ELF file: {len(image)} bytes")


def _open(image: bytes, where: str) -> Any:
    from elftools.elf.elffile import ELFFile

    check_header(image, where)
    try:
        return ELFFile(io.BytesIO(image))
    except Exception as error:  # pyelftools raises many kinds on broken files
        raise UserError(f"{where}: broken ELF file: {error or type(error).__name__}") from error


def _check_kind(elf: Any, where: str) -> None:
    if elf.elfclass != 64:
        raise UserError(f"{where}: a 32-bit program; ptshare runs x86-64")
    if not elf.little_endian or elf["e_machine"] != "EM_X86_64":
        machine = str(elf["e_machine"]).removeprefix("EM_")
        raise UserError(f"{where}: a program for {machine}; ptshare runs x86-64")
    kind = elf["e_type"]
    if kind == "ET_DYN":
        raise UserError(f"{where}: position-independent (PIE) or a shared library; {_HOW_TO_LINK}")
    if kind != "ET_EXEC":
        name = {"ET_REL": "an object file", "ET_CORE": "a core dump"}.get(kind, "no executable")
        raise UserError(f"{where}: {name}, not a linked program; {_HOW_TO_LINK}")


def _segments(elf: Any, file_size: int, where: str) -> tuple[Segment, ...]:
    end = elf["e_phoff"] + elf["e_phnum"] * elf["e_phentsize"]
    if elf["e_phnum"] and elf["e_phentsize"] != _PHDR_BYTES:
        raise UserError(
            f"{where}: broken ELF file: program headers of {elf['e_phentsize']} bytes, "
            f"not {_PHDR_BYTES}"
        )
    if end > file_size:
        raise UserError(
            f"{where}: truncated ELF file: program headers end at byte {end} of {file_size}"
        )
    try:
        headers = [segment.header for segment in elf.iter_segments()]
        dynamic = any(
            tag.entry.d_tag == "DT_NEEDED"
            for segment in elf.iter_segments()
            if segment.header.p_type == "PT_DYNAMIC"
            for tag in segment.iter_tags()
        )
    except Exception as error:  # pyelftools raises many kinds on broken files
        raise UserError(f"{where}: broken ELF file: program headers cannot be read") from error
    if dynamic or any(header.p_type == "PT_INTERP" for header in headers):
        raise UserError(f"{where}: dynamically linked; {_HOW_TO_LINK}")
    found = [
        Segment(
            vaddr=header.p_vaddr,
            offset=header.p_offset,
            file_size=header.p_filesz,
            memory_size=header.p_memsz,
            prot=_prot(header.p_flags),
        )
        for header in headers
        if header.p_type == "PT_LOAD" and header.p_memsz > 0
    ]
    if not found:
        raise UserError(f"{where}: broken ELF file: no loadable segment")
    for segment in found:
        _check_segment(segment, file_size, where)
    found.sort(key=lambda segment: segment.vaddr)
    for i in range(1, len(found)):
        if found[i - 1].vaddr + found[i - 1].memory_size > found[i].vaddr:
            raise UserError(
                f"{where}: broken ELF file: segments at {found[i - 1].vaddr:#x} and "
                f"{found[i].vaddr:#x} overlap"
            )
    if sum(segment.memory_size for segment in found) > _MOST_MEMORY:
        raise UserError(
            f"{where}: broken ELF file: segments of more than {exact_size(_MOST_MEMORY)}"
        )
    return tuple(found)


def _prot(flags: int) -> int:
    # p_flags: X 1, W 2, R 4; PROT: READ 1, WRITE 2, EXEC 4.
    return (1 if flags & 4 else 0) | (flags & 2) | (4 if flags & 1 else 0)


def _check_segment(segment: Segment, file_size: int, where: str) -> None:
    name = f"{where}: broken ELF file: segment at {segment.vaddr:#x}"
    if segment.offset + segment.file_size > file_size:
        raise UserError(
            f"{where}: truncated ELF file: segment at {segment.vaddr:#x} ends at byte "
            f"{segment.offset + segment.file_size} of {file_size}"
        )
    if segment.file_size > segment.memory_size:
        raise UserError(f"{name} is larger in the file than in memory")
    if segment.vaddr < _LOWEST or segment.vaddr + segment.memory_size > _HIGHEST:
        raise UserError(
            f"{name} with {segment.memory_size:#x} bytes lies outside the addresses "
            f"{_LOWEST:#x} to {_HIGHEST:#x} of a program"
        )
    if segment.memory_size > _MOST_MEMORY:
        raise UserError(f"{name} is absurdly large: {segment.memory_size:#x} bytes")
    if (segment.vaddr - segment.offset) % PAGE_BYTES:
        raise UserError(f"{name} cannot be mapped: address and file offset differ within a page")


def _header_address(elf: Any, segments: tuple[Segment, ...]) -> int:
    # As Linux finds AT_PHDR: where a segment maps the file's header table.
    offset = int(elf["e_phoff"])
    for segment in segments:
        if segment.offset <= offset < segment.offset + segment.file_size:
            return segment.vaddr + offset - segment.offset
    return 0
