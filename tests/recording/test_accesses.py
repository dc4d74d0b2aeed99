"""Is every load, store and instruction recorded, at its address? The programs' own are known."""

from __future__ import annotations

import re
import subprocess
from collections import Counter
from pathlib import Path

from compiler import compiled
from recordings import items, record

from ptshare_plugin.recording import tool
from ptshare_plugin.recording.folder import Manifest, read_manifest

BARE = ("-nostdlib", "-fno-stack-protector", "-fcf-protection=none", "-mavx2")
LOAD, STORE, MODIFY = 0, 1, 2
BLOCK, MARK = 0, 15
STACKS = 0x1FF0000000

# No library: nothing but what stands here is executed.
PROGRAM = """
char area[1 << 16] __attribute__((aligned(4096)));
__attribute__((always_inline)) static inline long call(long n, long a) {
  long r;
  __asm__ volatile("syscall" : "=a"(r) : "a"(n), "D"(a) : "rcx", "r11", "memory");
  return r;
}
#define TIMES(n, code) \\
  for (long i = 0; i < n; i++) \\
    __asm__ volatile(code : : "r"(area + i * 8), "r"(i) : "rax", "rcx", "rdx", "memory")
void _start(void) {
  %s
  call(231, 7);
}
"""
# Assembly with %0 = area + 8 i and %1 = i: loads, stores, modifies of each time.
CASES = {
    "load": ("movq (%0),%%rax; movb 9(%0),%%al", 2, 0, 0),
    "store": ("movl %%eax,(%0)", 0, 1, 0),
    "modify": ("addq $1,(%0); incb 5(%0)", 0, 0, 2),
    "locked": ("lock xaddq %%rax,(%0); lock cmpxchgq %%rcx,8(%0)", 0, 0, 2),
    "stack": ("pushq %%rax; pushq (%0); popq %%rcx; popq (%0)", 3, 3, 0),
    "x87": ("fldt (%0); fstpt 64(%0)", 1, 1, 0),
    "avx": ("vmovdqu (%0),%%ymm0; vmovdqu %%ymm0,128(%0); vzeroupper", 1, 1, 0),
    "string": (
        "push %%rsi; push %%rdi; mov %0,%%rsi; lea 4096(%0),%%rdi; mov $5,%%ecx;"
        "rep movsb; pop %%rdi; pop %%rsi",
        2 + 5,
        2 + 5,
        0,
    ),
    # All four lanes off, then all on: a guarded access each.
    "masked": (
        "vpxor %%ymm1,%%ymm1,%%ymm1; vpmaskmovq (%0),%%ymm1,%%ymm0;"
        "vpcmpeqd %%ymm1,%%ymm1,%%ymm1; vpmaskmovq %%ymm0,%%ymm1,64(%0); vzeroupper",
        0,
        4,
        0,
    ),
}


def made(folder: Path, code: str) -> tuple[Path, Path, Manifest]:
    """Program of ``code``, its recording and what that says of itself."""
    folder.mkdir(exist_ok=True)
    program = compiled(folder, PROGRAM % code, ".c", *BARE)
    output = folder / "recording"
    done = record(output, program)
    assert done.returncode == 7, done.stderr
    return program, output, read_manifest(output)


def test_accesses_of_known_instructions(valgrind: Path, tmp_path: Path) -> None:
    # A mark before each case, numbered, and one behind all.
    parts = [
        f'call(20564, {number}); TIMES(100, "{case[0]}");'
        for number, case in enumerate(CASES.values())
    ]
    code = f"{' '.join(parts)} call(20564, {len(parts)});"
    _, output, manifest = made(tmp_path / "all", code)
    (found,) = items(output, manifest)
    seen: list[Counter[int]] = []
    for item in found:
        if item[0] == MARK:
            assert item[1] == len(seen)
            seen.append(Counter())
        elif item[0] == BLOCK and seen:
            seen[-1].update(kind for _, _, kind in item[4])
    counts = {
        name: tuple(counter[kind] for kind in (LOAD, STORE, MODIFY))
        for name, counter in zip(CASES, seen[:-1], strict=True)
    }
    assert counts == {name: tuple(100 * each for each in case[1:]) for name, case in CASES.items()}


def from_the_stack(accesses: list[tuple[int, int, int]]) -> Counter[tuple[int, int, int]]:
    """Where a stack begins depends on the environment, which Valgrind's own script changes."""
    lowest = min(address for address, _, _ in accesses if address >= STACKS)
    return Counter(
        (address - lowest if address >= STACKS else address, size, kind)
        for address, size, kind in accesses
    )


def test_they_are_lackeys(valgrind: Path, tmp_path: Path) -> None:
    """Another tool of Valgrind's, which writes all of them as text."""
    # Locked ones apart, which it has as a load and a modify.
    code = " ".join(f'TIMES(50, "{case[0]}");' for n, case in CASES.items() if n != "locked")
    program, output, manifest = made(tmp_path / "all", code)
    lackey = ["valgrind", "--tool=lackey", "--trace-mem=yes", "--log-fd=9", *tool.OPTIONS]
    done = subprocess.run(
        ["sh", "-c", f"{' '.join(lackey)} --basic-counts=no {program} 9>&1 >/dev/null"],
        capture_output=True,
        text=True,
        timeout=60,
    )
    lines = re.findall(r"^ ?([ILSM]) +([0-9a-f]+),(\d+)$", done.stdout, re.MULTILINE)
    told = [(kind, int(address, 16), int(size)) for kind, address, size in lines]
    (found,) = items(output, manifest)
    kinds = {"L": LOAD, "S": STORE, "M": MODIFY}
    expected = [(address, size, kinds[kind]) for kind, address, size in told if kind != "I"]
    accesses = [access for item in found if item[0] == BLOCK for access in item[4]]
    assert len(expected) == 50 * 33
    assert from_the_stack(accesses) == from_the_stack(expected)
    (stream,) = manifest.streams
    assert stream.instructions == sum(kind == "I" for kind, _, _ in told)


def test_reads_whose_value_is_never_used(valgrind: Path, tmp_path: Path) -> None:
    """A loop that touches pages, as a compiler may unroll it."""
    touch = "movb (%0),%%al; movb 4096(%0),%%al; movb 8192(%0),%%al"
    _, _output, manifest = made(tmp_path / "touch", f'TIMES(64, "{touch}");')
    (stream,) = manifest.streams
    assert stream.loads == 3 * 64


def test_a_place_in_the_program_is_found_where_it_is(valgrind: Path, tmp_path: Path) -> None:
    program, output, manifest = made(
        tmp_path / "one",
        'call(20564, 1); TIMES(3, "movq (%0),%%rax; addl $1,4(%0)"); call(20564, 2);',
    )
    symbols = subprocess.run(["nm", program], capture_output=True, text=True, check=True).stdout
    (area,) = re.findall(r"^([0-9a-f]+) . area$", symbols, re.MULTILINE)
    base = int(area, 16)
    (found,) = items(output, manifest)
    begin, end = (
        place for place, item in enumerate(found) if item[0] == MARK and item[1] in (1, 2)
    )
    between = [
        access
        for item in found[begin:end]
        if item[0] == BLOCK
        for access in item[4]
        if base <= access[0] < base + (1 << 16)
    ]
    assert between == [
        each for i in range(3) for each in ((base + 8 * i, 8, LOAD), (base + 8 * i + 4, 4, MODIFY))
    ]
