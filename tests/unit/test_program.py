import hashlib
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from elf_builder import BASE, elf_header, program_header
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ptshare_plugin.common.errors import UserError
from ptshare_plugin.spec import about, program

MakeElf = Callable[..., Path]
COMPILER = shutil.which("cc")
needs_compiler = pytest.mark.skipif(COMPILER is None, reason="no C compiler on PATH")
START = 'void _start(void) { __asm__ volatile("mov $60, %eax; xor %edi, %edi; syscall"); }\n'


def compile_c(folder: Path, source: str, *options: str) -> Path:
    assert COMPILER is not None
    (folder / "prog.c").write_text(source)
    path = folder / "compiled"
    subprocess.run(
        [COMPILER, "-o", path, folder / "prog.c", *options], check=True, capture_output=True
    )
    return path


def refusal(path: str | os.PathLike[str]) -> str:
    with pytest.raises(UserError) as caught:
        program.load(path)
    message = str(caught.value)
    assert "\n" not in message and str(path) in message
    return message


def test_a_valid_program(make_elf: MakeElf) -> None:
    path = make_elf(
        None,
        program_header(),
        program_header(flags=6, offset=0x200, vaddr=BASE + 0x1200, filesz=0x100, memsz=0x5000),
    )
    loaded = program.load(path)
    text, data = loaded.segments
    assert (text.vaddr, text.offset, text.file_size, text.memory_size) == (BASE, 0, 0x200, 0x200)
    assert (text.prot, data.prot) == (1 | 4, 1 | 2)
    assert data.memory_size == 0x5000
    assert (loaded.entry, loaded.phdr) == (BASE + 0x100, BASE + 64)
    assert (loaded.phentsize, loaded.phnum) == (56, 2)
    assert loaded.name == "prog"
    assert loaded.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


def test_segments_come_in_address_order(make_elf: MakeElf) -> None:
    path = make_elf(None, program_header(vaddr=BASE + 0x10000, filesz=0, flags=6), program_header())
    assert [s.vaddr for s in program.load(path).segments] == [BASE, BASE + 0x10000]


def test_headers_that_no_segment_maps_have_no_address(make_elf: MakeElf) -> None:
    path = make_elf(
        elf_header(entry=BASE), program_header(offset=0x1000, filesz=0x10, memsz=0x10), size=0x1010
    )
    assert program.load(path).phdr == 0


def test_missing_directory_unreadable(tmp_path: Path) -> None:
    assert "no such file" in refusal(tmp_path / "none")
    assert "a directory" in refusal(tmp_path)
    assert "not a regular file" in refusal("/dev/null")
    with pytest.raises(UserError, match="not a file name"):
        program.load("a\0b")
    (tmp_path / "secret").write_bytes(b"\x7fELF")
    (tmp_path / "secret").chmod(0)
    if os.geteuid() != 0:  # root reads everything
        assert "cannot be read: permission denied" in refusal(tmp_path / "secret")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "empty"),
        (b"#!/bin/sh\necho\n", "a script"),
        (b"hello", "not an ELF program"),
        (b"\x7fELF\x02\x01\x01", "truncated"),
        (elf_header()[:63], "truncated"),
    ],
)
def test_what_is_no_elf(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "prog"
    path.write_bytes(content)
    assert message in refusal(path)


def test_other_machines(make_elf: MakeElf, tmp_path: Path) -> None:
    assert "for AARCH64; ptshare runs x86-64" in refusal(make_elf(elf_header(machine=183)))
    path = make_elf()
    image = bytearray(path.read_bytes())
    image[4] = 1  # ELFCLASS32
    path.write_bytes(image)
    assert "32-bit" in refusal(path)


@pytest.mark.parametrize(
    ("kind", "message"),
    [(3, "position-independent"), (1, "an object file"), (4, "a core dump"), (0, "no executable")],
)
def test_other_kinds(make_elf: MakeElf, kind: int, message: str) -> None:
    found = refusal(make_elf(elf_header(type=kind)))
    assert message in found and "gcc -static -no-pie" in found


@pytest.mark.parametrize(
    ("segments", "message"),
    [
        ([program_header(type=4)], "no loadable segment"),
        ([program_header(memsz=0, filesz=0)], "no loadable segment"),
        (
            [program_header(filesz=0x10000, memsz=0x10000)],
            "truncated ELF file: segment at 0x400000",
        ),
        ([program_header(offset=1 << 63)], "truncated"),
        ([program_header(memsz=0x100)], "larger in the file than in memory"),
        ([program_header(vaddr=0)], "outside the addresses"),
        ([program_header(vaddr=(1 << 64) - 0x1000)], "outside the addresses"),
        ([program_header(memsz=(1 << 64) - 1)], "outside the addresses"),
        ([program_header(memsz=1 << 41)], "absurdly large"),
        ([program_header(vaddr=BASE + 8)], "cannot be mapped"),
        ([program_header(), program_header(flags=6)], "segments at 0x400000 and 0x400000 overlap"),
        ([program_header(memsz=0x1001), program_header(vaddr=BASE + 0x1000)], "overlap"),
        ([program_header(flags=4)], "entry 0x400100 is in no executable segment"),
        ([program_header(filesz=0x80)], "entry 0x400100 is in no executable segment"),
        ([program_header(), program_header(type=3, filesz=8, offset=0x100)], "dynamically linked"),
    ],
)
def test_wrong_segments(make_elf: MakeElf, segments: list[bytes], message: str) -> None:
    assert message in refusal(make_elf(None, *segments))


def test_header_tables_outside_the_file(make_elf: MakeElf) -> None:
    for header in (elf_header(phoff=0x10000), elf_header(phnum=1000), elf_header(phoff=1 << 63)):
        assert "truncated ELF file: program headers end at byte" in refusal(make_elf(header))
    assert "program headers of 32 bytes, not 56" in refusal(make_elf(elf_header(phentsize=32)))


@settings(
    max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None
)
@given(
    st.lists(st.tuples(st.integers(0, 250), st.integers(0, 255)), min_size=1, max_size=6),
    st.integers(0, 0x400),
)
def test_any_damage_is_refused_or_harmless(
    make_elf: MakeElf, changes: list[tuple[int, int]], length: int
) -> None:
    path = make_elf(None, program_header(), program_header(flags=6, vaddr=BASE + 0x10000))
    image = bytearray(path.read_bytes())
    for offset, value in changes:
        image[offset] = value
    path.write_bytes(image[: length + 0x80])
    try:
        loaded = program.load(path)
    except UserError as error:
        assert "\n" not in str(error)
        return
    for segment in loaded.segments:
        assert segment.offset + segment.file_size <= len(loaded.image)
        assert segment.file_size <= segment.memory_size


@needs_compiler
def test_a_compiled_static_program(tmp_path: Path) -> None:
    path = compile_c(
        tmp_path, START + "char big[100000]; char *use = big;", "-static", "-no-pie", "-nostdlib"
    )
    loaded = program.load(path)
    assert any(s.prot == 3 and s.memory_size - s.file_size >= 100000 for s in loaded.segments)
    assert loaded.phdr != 0


@needs_compiler
@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["-static", "-no-pie", "-nostdlib", "-c"], "an object file"),
        (["-nostdlib", "-pie", "-fPIE"], "position-independent"),
        (["-nostdlib", "-shared", "-fPIC"], "position-independent"),
    ],
)
def test_compiled_in_another_way(tmp_path: Path, options: list[str], message: str) -> None:
    assert message in refusal(compile_c(tmp_path, START, *options))


@needs_compiler
def test_a_compiled_dynamic_program(tmp_path: Path) -> None:
    path = compile_c(tmp_path, "int main(void) { return 0; }\n", "-no-pie")
    assert "dynamically linked" in refusal(path)


@needs_compiler
def test_about(tmp_path: Path) -> None:
    stated = (
        '__attribute__((section(".ptshare.about"), used)) static const char about[] = '
        '"toy\\0plays\\0" "3 rounds";\n'
    )
    path = compile_c(tmp_path, stated + START, "-static", "-no-pie", "-nostdlib")
    assert about.read(path) == about.About("toy", "plays", "3 rounds", False, False, ())
    plain = compile_c(tmp_path, START, "-static", "-no-pie", "-nostdlib")
    with pytest.raises(UserError, match=r"no workload of ptshare: section \.ptshare\.about"):
        about.read(plain)
    broken = tmp_path / "broken"
    broken.write_bytes(path.read_bytes()[:4000])
    with pytest.raises(UserError, match=r"no workload of ptshare: section \.ptshare\.about"):
        about.read(broken)
    broken.write_bytes(b"")
    with pytest.raises(UserError, match=r"broken: empty, not an ELF program"):
        about.read(broken)


def workload_with(tmp_path: Path, *details: str) -> Path:
    lines = [".pushsection .ptshare.about", '.asciz \\"toy\\", \\"plays\\", \\"1 round\\"']
    lines += [".popsection", '.pushsection .ptshare.details, \\"\\", @progbits']
    lines += [f'.asciz \\"{detail}\\"' for detail in details]
    source = "".join(f'__asm__("{line}");\n' for line in (*lines, ".popsection"))
    return compile_c(tmp_path, source + START, "-static", "-no-pie", "-nostdlib")


@needs_compiler
def test_details(tmp_path: Path) -> None:
    text, number = "own\t--text\twords", "own\t--n\t4\t2\t8\t2\teven numbers"
    said = about.read(
        workload_with(tmp_path, "common\t--all\t1\t0\t1\t1\tof all", "new trait", number, text)
    )
    assert not said.kills_itself and not said.output_depends_on_policy
    even, words, common = said.arguments
    assert even == about.Argument("--n", "even numbers", True, 4, 2, 8, 2)
    assert words == about.Argument("--text", "words", True)
    assert common == about.Argument("--all", "of all", False, 1, 0, 1, 1)
    assert (even.limits, common.limits) == ("2 to 8, a multiple of 2", "0 to 1")
    assert (words.limits, words.default_text, even.default_text) == ("text", "", "4")
    assert [even.value(text) for text in ("2", "8", "06")] == [2, 8, 6]
    for wrong in ("", "3", "10", "-2", "2.0", "\u0664", "9" * 20):
        with pytest.raises(UserError, match=f"--n {wrong}: must be a number from 2 to 8, a mult"):
            even.value(wrong)


@needs_compiler
@pytest.mark.parametrize(
    "detail", ["own\t--n\t4\t2\t8\tx\twords", "own\t--n" + "\t1" * 12, "own\t--n"]
)
def test_broken_details(tmp_path: Path, detail: str) -> None:
    path = workload_with(tmp_path, detail)
    with pytest.raises(UserError, match=r"section \.ptshare\.details does not hold arguments"):
        about.read(path)
