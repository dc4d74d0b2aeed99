"""Run tests of the whole package under AddressSanitizer and UndefinedBehaviorSanitizer.

``python tests/sanitized.py WHEEL``, a wheel built with ``PTSHARE_SANITIZE=address,undefined``. It
goes into an environment of its own, which has the packages of the one that runs this script, so
the tests and every ``ptshare`` that they start use it. A report of a sanitizer makes exit status 1,
whichever process wrote it and whatever its test thought of that.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parent.parent

# Every binding and engine, in some minutes of one core. Left out: figures and schedules at length,
# which run the same code again, what measures or fills memory, and what is refused before any run.
TESTS = (
    *(f"tests/engine/test_{name}.py" for name in ("hugetlb_runs", "linux_answers", "marks")),
    *(f"tests/engine/test_{name}.py" for name in ("programs", "stale_translations", "stream")),
    "tests/engine/test_traces.py",
    *(f"tests/core/test_{name}.py" for name in ("policy_matrix", "hugetlb", "out_of_memory")),
    "tests/core/test_state_machine.py",
    *(f"tests/unit/test_{name}.py" for name in ("metrics", "parameters")),
    *(f"tests/cli/test_{name}.py" for name in ("plan_command", "protect_ways", "trace_command")),
    *(f"tests/recording/test_{name}.py" for name in ("damage", "imports", "replay")),
    "tests/fuzz",
)
LEFT_OUT = "seeds_case or of_their_own_counts or absurd_sizes or memory_can_run_out or wrong_"
EXAMPLES = "15"
"""How often random operations are made, PTSHARE_EXAMPLES."""

OPTIONS = {
    # The interpreter and nanobind leave objects to the end of the process on purpose.
    "ASAN_OPTIONS": "detect_leaks=0",
    "UBSAN_OPTIONS": "halt_on_error=1:print_stacktrace=1",
}

# The runtime must be there before all else: the interpreter starts itself again with it. What it
# starts does without: a compiler has no use for it, and interpreters of this environment come here.
START = """
import os, sys
RUNTIME, OPTIONS = {runtime!r}, {options!r}
if os.environ.get("LD_PRELOAD") == RUNTIME:
    del os.environ["LD_PRELOAD"]
else:
    os.environ.update(OPTIONS, LD_PRELOAD=RUNTIME)
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])
"""


def library(name: str) -> str:
    command = ["g++", f"-print-file-name={name}"]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def environment(folder: Path, wheel: Path, reports: Path) -> Path:
    """An environment with ``wheel`` in ``folder``; gives its interpreter."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    python = folder / "bin" / "python"
    install = [sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-deps"]
    subprocess.run([*install, wheel], check=True)
    asked = [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"]
    place = Path(subprocess.run(asked, check=True, capture_output=True, text=True).stdout.strip())
    # Paths alone: the editable install of the parent, which is a .pth file, stays out.
    packages = [path for path in sys.path if path.endswith("-packages")]
    (place / "parent.pth").write_text("".join(f"{path}\n" for path in packages))
    options = {name: f"{text}:log_path={reports}/report" for name, text in OPTIONS.items()}
    # libstdc++: or the runtime does not find the functions of exceptions that it is to watch.
    runtime = " ".join(map(library, ("libasan.so", "libubsan.so", "libstdc++.so")))
    (place / "sanitized_start.py").write_text(START.format(runtime=runtime, options=options))
    (place / "a_sanitized_start.pth").write_text("import sanitized_start\n")
    return python


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("wheel", type=Path)
    parser.add_argument("pytest", nargs="*", help="instead of the chosen tests, after --")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        reports = Path(name, "reports")
        reports.mkdir()
        python = environment(Path(name, "env"), given.wheel, reports)
        # -P: or the package would be the checkout's, which has no extension module.
        command = [python, "-P", "-m", "pytest", "-q", "-n", "auto", "-p", "no:cacheprovider"]
        tests = given.pytest or ["-m", "not long", "-k", f"not ({LEFT_OUT})", *TESTS]
        surroundings = {"PTSHARE_EXAMPLES": EXAMPLES, **os.environ}
        status = subprocess.run([*command, *tests], cwd=ROOT, env=surroundings).returncode
        found = sorted(reports.iterdir())
        for report in found:
            sys.stdout.write(f"== {report.name}\n{report.read_text(errors='replace')}\n")
        return 1 if status or found else 0


if __name__ == "__main__":
    sys.exit(main())
