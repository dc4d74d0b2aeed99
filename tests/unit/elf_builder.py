"""ELF headers from their fields, right unless told otherwise."""

from __future__ import annotations

import struct

PAGE = 4096
BASE = 0x400000


def elf_header(**changes: int) -> bytes:
    """ELF-64 header; keys are the fields' own names without e_."""
    fields = {
        "type": 2,
        "machine": 62,
        "version": 1,
        "entry": BASE + 0x100,
        "phoff": 64,
        "shoff": 0,
        "flags": 0,
        "ehsize": 64,
        "phentsize": 56,
        "phnum": 1,
        "shentsize": 64,
        "shnum": 0,
        "shstrndx": 0,
        **changes,
    }
    ident = b"\x7fELF" + bytes([2, 1, 1]) + bytes(9)
    return ident + struct.pack("<HHIQQQIHHHHHH", *fields.values())


def program_header(**changes: int) -> bytes:
    """One PT_LOAD header, readable and executable; keys are the fields' names without p_."""
    fields = {
        "type": 1,
        "flags": 5,
        "offset": 0,
        "vaddr": BASE,
        "paddr": BASE,
        "filesz": 0x200,
        "memsz": 0x200,
        "align": PAGE,
        **changes,
    }
    return struct.pack("<IIQQQQQQ", *fields.values())
