"""Would a test notice? Puts small faults into a copy of the sources, one at a time.

    python tests/mutation.py [--list] [--only GLOB] [--jobs N]

The faults, each with the test that must fail, are in ``mutations.toml``. The copy is built anew;
what ``ccache`` knows is quick (CMAKE_CXX_COMPILER_LAUNCHER=ccache). The checkout stays as it is.
"""

from __future__ import annotations

import argparse
import fnmatch
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import tomllib
import venv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

ROOT = Path(__file__).resolve().parent.parent
FAULTS = Path(__file__).with_name("mutations.toml")
CPP = "tests/cpp/"
LIMIT_SECONDS = 300


@dataclass(frozen=True, slots=True)
class Mutation:
    """One fault.

    :param file: in ``ptshare_plugin``.
    :param old: what stands there, once in the file.
    :param test: that must fail: FILE::NAME, of pytest or of ``tests/cpp``.
    """

    name: str
    file: str
    old: str
    new: str
    test: str

    @property
    def path(self) -> str:
        """Of the file, from the root."""
        return "ptshare_plugin/" + self.file


class CannotRun(Exception):
    """What is wrong with the input or this machine, in one line."""


class Parser(argparse.ArgumentParser):
    """Says what is wrong in one line."""

    def error(self, message: str) -> NoReturn:
        raise CannotRun(message)


def execute(
    command: Sequence[str],
    folder: Path | None = None,
    env: dict[str, str] | None = None,
    timeout: float | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run to the end, or end it with all that it started."""
    with subprocess.Popen(
        command,
        cwd=folder,
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        start_new_session=True,
    ) as process:
        try:
            out, errors = process.communicate(timeout=timeout)
        except BaseException:
            os.killpg(process.pid, signal.SIGKILL)
            raise
        return subprocess.CompletedProcess(command, process.returncode, out, errors)


class Copy:
    """The checkout's files in another folder, with builds and a Python of their own."""

    def __init__(self, folder: Path, jobs: int) -> None:
        self._folder = folder
        self._jobs = jobs
        self.root = folder / ROOT.name
        self._env = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
        listed = self._run(
            ["git", "-C", str(ROOT), "ls-files", "-z", "-co", "--exclude-standard"], "list files"
        )
        for name in listed.split("\0"):
            if name and (ROOT / name).is_file():
                (self.root / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(ROOT / name, self.root / name)

    def make_python(self) -> None:
        """An interpreter that has this one's packages, and ptshare from the copy."""
        place = self._folder / "venv"
        venv.create(place, symlinks=True)
        (site,) = place.glob("lib/python*/site-packages")
        # The .pth files of these folders are not read: an editable ptshare is not found.
        others = [path for path in sys.path if path.endswith(("site-packages", "dist-packages"))]
        (site / "mutation.pth").write_text("\n".join([str(self.root), *others]) + "\n")
        self._python = place / "bin/python"
        command = place / "bin/ptshare"
        command.write_text(
            f"#!{self._python}\nfrom ptshare_plugin.cli.main import main\n\nmain()\n"
        )
        command.chmod(0o755)

    def configure(self, cpp: bool) -> None:
        """Prepare the build of the C++ tests, or of the extension and the workloads."""
        options = [
            "-DCMAKE_BUILD_TYPE=Release",
            "-DCMAKE_CXX_FLAGS_RELEASE=-O1",  # soon built
            f"-DPTSHARE_CPP_TESTS={'ON' if cpp else 'OFF'}",
        ]
        if cpp:
            options.append("-DPTSHARE_PYTHON=OFF")
        else:
            options += [
                f"-DPython_EXECUTABLE={sys.executable}",
                f"-Dnanobind_DIR={self._nanobind()}",
            ]
        self._run(["cmake", "-S", str(self.root), "-B", str(self._build(cpp)), *options], "cmake")

    def _nanobind(self) -> Path:
        project = tomllib.loads((self.root / "pyproject.toml").read_text())
        (wanted,) = (each for each in project["build-system"]["requires"] if "nanobind" in each)
        place = self._folder / "build-requires"
        pip = [sys.executable, "-m", "pip", "install", "-q", "--target", str(place)]
        self._run([*pip, "--no-deps", wanted], f"pip install {wanted}")
        return place / "nanobind" / "cmake"

    def _build(self, cpp: bool) -> Path:
        return self._folder / ("cpp" if cpp else "python")

    def build(self, tests: Sequence[str]) -> str | None:
        """Make what these tests run; what went wrong, if anything."""
        targets = sorted({Path(test.partition("::")[0]).stem for test in tests if is_cpp(test)})
        cpp, python = (str(self._build(of_cpp)) for of_cpp in (True, False))
        jobs = ["--parallel", str(self._jobs)]
        commands = []
        if targets:
            commands.append(["cmake", "--build", cpp, *jobs, "--target", *targets])
        if not all(is_cpp(test) for test in tests):
            commands.append(["cmake", "--build", python, *jobs])
            commands.append(["cmake", "--install", python, "--prefix", str(self.root)])
        for command in commands:
            done = execute(command)
            if done.returncode:
                lines = re.findall(r".*(?:error|Error).*", done.stdout + done.stderr)
                return lines[0].strip() if lines else f"{' '.join(command)} failed"
        return None

    def status(self, test: str) -> int | None:
        """What one test ends with; None after too long a time."""
        if is_cpp(test):
            file, _, name = test.partition("::")
            command = [str(self._build(True) / CPP / Path(file).stem), name]
        else:
            command = [str(self._python), "-m", "pytest", "-q", "-p", "no:cacheprovider", test]
        try:
            return execute(command, self.root, self._env, LIMIT_SECONDS).returncode
        except subprocess.TimeoutExpired:
            return None

    def _run(self, command: list[str], what: str) -> str:
        try:
            done = execute(command)
        except FileNotFoundError:
            raise CannotRun(f"{command[0]} is not installed") from None
        if done.returncode:
            last = (done.stderr or done.stdout).strip().splitlines()
            raise CannotRun(f"{what}: {last[-1] if last else f'exit {done.returncode}'}")
        return done.stdout


def is_cpp(test: str) -> bool:
    return test.startswith(CPP)


def outcome(copy: Copy, mutation: Mutation) -> str:
    """Put the fault in, see whether its test fails, and take it out."""
    file = copy.root / mutation.path
    text = file.read_text()
    file.write_text(text.replace(mutation.old, mutation.new))
    try:
        wrong = copy.build([mutation.test]) if mutation.file.startswith("native/") else None
        if wrong:
            return f"not built: {wrong}"
        status = copy.status(mutation.test)
    finally:
        file.write_text(text)
    if status is None:
        return f"found: no end in {LIMIT_SECONDS} s"
    if status == 0:
        return "NOT FOUND"
    # pytest's other codes are of what cannot be collected; a negative one is of a crash.
    return "found" if status == 1 or status < 0 else f"no answer: exit {status}"


def faults() -> list[Mutation]:
    try:
        found = tomllib.loads(FAULTS.read_text())
        return [Mutation(name, **keys) for name, keys in found.items()]
    except (tomllib.TOMLDecodeError, TypeError) as error:
        raise CannotRun(f"{FAULTS.name}: {error}") from None


def check(chosen: Sequence[Mutation]) -> None:
    for each in chosen:
        file = ROOT / each.path
        count = file.read_text().count(each.old) if file.is_file() else 0
        if count != 1:
            raise CannotRun(f"{each.name}: its text stands {count} times in {each.path}, not once")
        if not (ROOT / each.test.partition("::")[0]).is_file():
            raise CannotRun(f"{each.name}: there is no {each.test}")


def run(chosen: Sequence[Mutation], jobs: int) -> bool:
    """Print a row for each; whether all were found."""
    tests = list(dict.fromkeys(each.test for each in chosen))
    width = max(len(each.name) for each in chosen)
    with tempfile.TemporaryDirectory(prefix="mutation-") as folder:
        copy = Copy(Path(folder).resolve(), jobs)
        copy.make_python()
        for cpp in sorted({is_cpp(test) for test in tests}):
            copy.configure(cpp)
        if wrong := copy.build(tests):
            raise CannotRun(f"without a fault: {wrong}")
        for test in tests:
            if copy.status(test) != 0:
                raise CannotRun(f"{test} does not pass without a fault")
        print(f"{len(tests)} tests pass without a fault", flush=True)
        found = 0
        for each in chosen:
            start = time.monotonic()
            result = outcome(copy, each)
            found += result.startswith("found")
            seconds = time.monotonic() - start
            print(f"{each.name:{width}}  {seconds:4.0f} s  {result}  ({each.test})", flush=True)
    print(f"{found} of {len(chosen)} found")
    return found == len(chosen)


def main(arguments: Sequence[str]) -> int:
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # the copy goes then, too
    parser = Parser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--list", action="store_true", help="print the faults and run nothing")
    parser.add_argument("--only", metavar="GLOB", default="*", help="faults with such names")
    parser.add_argument("--jobs", metavar="N", type=int, default=os.cpu_count() or 1)
    try:
        asked = parser.parse_args(arguments)
        chosen = [each for each in faults() if fnmatch.fnmatchcase(each.name, asked.only)]
        if not chosen:
            raise CannotRun(f"--only {asked.only}: no fault has such a name; --list shows them")
        if asked.jobs < 1:
            raise CannotRun(f"--jobs {asked.jobs}: must be at least 1")
        check(chosen)
        if asked.list:
            for each in chosen:
                print(f"{each.name:32} {each.path}  {each.test}")
            return 0
        return 0 if run(chosen, asked.jobs) else 1
    except CannotRun as error:
        print(f"mutation.py: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
