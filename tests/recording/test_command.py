"""What a user of ``ptshare record`` types, sees and gets back; bad input is one line."""

from __future__ import annotations

import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from compiler import compiled
from recordings import COMMAND, look, record

from ptshare_plugin.recording.folder import read_manifest

WAIT = ("sh", "-c", "echo ready; exec sleep 100")


@pytest.fixture
def waiting(valgrind: Path, tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """``ptshare record`` of a program that waits by now; its folder is ``recording``."""
    command = [COMMAND, "record", "-o", tmp_path / "recording", "--", *WAIT]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as running:
        assert running.stdout is not None
        assert running.stdout.readline() == "ready\n"
        while len(list((tmp_path / "recording").glob("*.zst"))) < 2:  # sleep's, too
            time.sleep(0.05)
        time.sleep(2)
        yield running
        running.kill()


def refused(done: subprocess.CompletedProcess[str], code: int = 2) -> str:
    assert done.returncode == code, done.stderr
    (line,) = [line for line in done.stderr.splitlines() if "error" in line]
    assert "Traceback" not in done.stderr
    return line.removeprefix("ptshare: error: ")


def typed(*words: object) -> subprocess.CompletedProcess[str]:
    command = [COMMAND, "record", *words]
    return subprocess.run([*map(str, command)], capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ((), "needs -o DIR, the folder of the recording"),
        (("-o", "x"), "what is to be recorded? A recipe, or -- COMMAND..."),
        (("-o", "x", "ls", "folder"), "put -- before the command: -- ls folder"),
        (("-o", "x", "postgrs"), "no recipe postgrs (did you mean postgres?)"),
        (("-o", "x", "postgres", "--", "ls"), "either a recipe or a command behind --, not both"),
        (("-o", "x", "--clients", "3", "--", "ls"), "--clients is of a recipe, not of a command"),
        (("-o", "x", "postgres", "--clients", "0"), "--clients 0: must be at least 1"),
        (("-o", "x", "postgres", "--mix", "some"), "--mix some: must be select or default"),
        (("-o", "x", "redis", "--mix", "select"), "--mix is not of recipe redis"),
        (("-o", "x", "redis", "--requests", "0"), "--requests 0: must be at least 1"),
        (("-o", "x", "redis", "--snapshots", "-1"), "--snapshots -1: must be 0 to 1000"),
        (("-o", "x", "redis", "--value", "1GiB"), "--value 1GiB: must be 1 to --data"),
        (
            ("-o", "x", "postgres", "--transactions", "5", "--warmup", "5"),
            "--warmup 5: must be 0 to 4, less than --transactions",
        ),
        (("-o", "x", "--seconds", "0", "--", "ls"), "--seconds 0.0: must be more than 0"),
        (("-o", "x", "--until-exit", "4194305", "--", "ls"), "--until-exit 4194305: no such"),
        (("-o", "x", "--", "no-such-program"), "no-such-program: no such program"),
        (("--mark", "begin"), "of which recording? --mark begin DIR"),
        (("--mark", "middle", "."), "must be begin or end, not 'middle'"),
        (("--mark", "begin", "."), ".: is no recording of ptshare record"),
    ],
)
def test_refusals(words: tuple[str, ...], told: str) -> None:
    assert told in refused(typed(*words), 1 if "is no recording" in told else 2)


def test_recipes_are_listed() -> None:
    done = typed("--list")
    assert done.returncode == 0
    for word in ("postgres", "--transactions", "redis", "--snapshots"):
        assert word in done.stdout


def test_a_32_bit_program(tmp_path: Path) -> None:
    program = tmp_path / "program"
    program.write_bytes(b"\x7fELF\x01\x01\x01" + bytes(9) + b"\x02\x00\x03\x00")
    program.chmod(0o755)
    assert "is a 32-bit program" in refused(record(tmp_path / "out", program))


def test_a_folder_that_holds_something(valgrind: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").touch()
    assert "is not empty" in refused(record(tmp_path / "out", "true"))
    told = refused(record(tmp_path / "out", "true", options=("--force",)))
    assert "holds something else than a recording" in told
    (tmp_path / "out" / "mine").unlink()
    assert record(tmp_path / "out", "true").returncode == 0
    assert "--force to replace" in refused(record(tmp_path / "out", "true"))
    assert record(tmp_path / "out", "false", options=("--force",)).returncode == 1
    assert look(tmp_path / "out")["command"] == ["false"]


def test_no_valgrind(tmp_path: Path) -> None:
    done = record(tmp_path / "out", "/bin/true", env={"PATH": str(tmp_path)})
    assert "no valgrind on PATH: install" in refused(done, 1)
    assert not (tmp_path / "out").exists()


def test_no_compiler(valgrind: Path, tmp_path: Path) -> None:
    for name in ("valgrind", "valgrind.bin", "sh"):
        (tmp_path / name).symlink_to(shutil.which(name) or "/nowhere")
    environment = {"PATH": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path / "cache")}
    assert "no C compiler" in refused(record(tmp_path / "out", "/bin/true", env=environment), 1)


def test_another_valgrind_than_its_headers(valgrind: Path, tmp_path: Path) -> None:
    other = tmp_path / "bin" / "valgrind"
    other.parent.mkdir()
    other.write_text("#!/bin/sh\necho valgrind-1.2.3\n")
    other.chmod(0o755)
    environment = {"PATH": f"{other.parent}:/usr/bin:/bin", "XDG_CACHE_HOME": str(tmp_path / "new")}
    told = refused(record(tmp_path / "out", "/bin/true", env=environment), 1)
    assert "is valgrind 1.2.3, but /usr/include/valgrind is of" in told


def test_the_programs_exit_status(valgrind: Path, tmp_path: Path) -> None:
    done = record(tmp_path / "out", "sh", "-c", "echo said; exit 3")
    assert (done.returncode, done.stdout) == (3, "said\n")
    (line,) = done.stderr.splitlines()
    assert line.startswith("ptshare: 1 process, ")


def test_it_is_ended_by_time(valgrind: Path, tmp_path: Path) -> None:
    options = ("--seconds", "10", "--roi-after", "1.5")
    done = record(tmp_path / "out", *WAIT, options=options)
    assert (done.returncode, done.stdout) == (0, "ready\n"), done.stderr
    manifest = read_manifest(tmp_path / "out")
    assert [stream.end for stream in manifest.streams] == ["exec", "signal"]
    assert manifest.streams[1].why == "signal 2 (SIGINT)"
    assert manifest.partial is None
    ((name, stamp),) = manifest.marks
    assert name == "begin"
    assert stamp - manifest.streams[0].first_stamp < 1.5e9


def test_it_is_ended_with_another_process(valgrind: Path, tmp_path: Path) -> None:
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as other:
        options = ("--until-exit", str(other.pid))
        command = [COMMAND, "record", "-o", tmp_path / "out", *options, "--", *WAIT]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as running:
            assert running.stdout is not None
            running.stdout.readline()
            time.sleep(3)
            assert running.poll() is None
            assert other.stdin is not None
            other.stdin.close()
            assert running.wait(timeout=60) == 0
    assert read_manifest(tmp_path / "out").partial is None


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it(
    waiting: subprocess.Popen[str], tmp_path: Path, number: signal.Signals
) -> None:
    waiting.send_signal(number)
    _, told = waiting.communicate(timeout=60)
    assert waiting.returncode == 128 + number
    assert "written to" in told
    manifest = read_manifest(tmp_path / "recording")
    assert manifest.partial is None
    assert manifest.streams[1].why == f"signal {int(number)} ({number.name})"


def test_marks(waiting: subprocess.Popen[str], tmp_path: Path) -> None:
    for name in ("begin", "end"):
        assert typed("--mark", name, tmp_path / "recording").returncode == 0
    waiting.send_signal(signal.SIGINT)
    waiting.communicate(timeout=60)
    assert [name for name, _ in read_manifest(tmp_path / "recording").marks] == ["begin", "end"]
    told = refused(typed("--mark", "end", tmp_path / "recording"), 1)
    assert told.endswith("is not being recorded now")


def test_a_recorder_that_is_killed(valgrind: Path, tmp_path: Path) -> None:
    """The program runs on, and what was recorded is kept and named partial."""
    output, made = tmp_path / "recording", tmp_path / "made"
    loop = f"echo ready; read line; echo done > {made}"
    command = [COMMAND, "record", "-o", output, "--", "sh", "-c", loop]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as running:
        assert running.stdout is not None and running.stdin is not None
        running.stdout.readline()
        running.kill()
        running.wait()
        running.stdin.write("\n")
    end = time.monotonic() + 60
    while not made.exists() and time.monotonic() < end:
        time.sleep(0.1)
    assert made.exists()
    seen = look(output)
    assert seen["partial"] == "its recorder has not ended it"
    assert seen["streams"][0]["end"] is None


def test_a_full_disk(valgrind: Path, tmp_path: Path) -> None:
    words = f"ulimit -f 40; exec {COMMAND} record -o {tmp_path}/out -- ls /"
    done = subprocess.run(["sh", "-c", words], capture_output=True, text=True, timeout=120)
    told = refused(done, 1)
    assert told == f"the recording is partial: {tmp_path}/out: file too large"
    assert read_manifest(tmp_path / "out").partial == f"{tmp_path}/out: file too large"


def test_an_instruction_that_valgrind_does_not_know(valgrind: Path, tmp_path: Path) -> None:
    code = 'int main(void) { __asm__ volatile(".byte 0x62,0xf1,0x7d,0x48,0xef,0xc0"); return 0; }'
    done = record(tmp_path / "out", compiled(tmp_path, code))
    assert done.returncode == 128 + signal.SIGILL
    (stream,) = read_manifest(tmp_path / "out").streams
    assert stream.why == "signal 4 (SIGILL): an instruction that Valgrind does not know"


def test_a_child_that_outlives_its_parent(valgrind: Path, tmp_path: Path) -> None:
    assert record(tmp_path / "out", "sh", "-c", "sleep 1 & exit 0").returncode == 0
    first, *rest = read_manifest(tmp_path / "out").streams
    assert [stream.end for stream in rest] == ["exec", "exit"]
    assert rest[-1].last_stamp > first.last_stamp


def test_a_program_that_cannot_be_recorded(valgrind: Path, tmp_path: Path) -> None:
    """Executed by one that is: a 32-bit one."""
    other = tmp_path / "other"
    other.write_bytes(b"\x7fELF\x01\x01\x01" + bytes(9) + b"\x02\x00\x03\x00" + bytes(60))
    other.chmod(0o755)
    done = record(tmp_path / "out", "sh", "-c", f"{other}; exit 0")
    assert done.returncode == 1
    assert "the recording is partial: " in done.stderr
