"""Search for inputs that break what ``targets.py`` states, guided by coverage.

    pip install -e '.[fuzz]'
    python tests/fuzz/run.py runs --seconds 600 --corpus /tmp/corpus-runs

Kinds: traces, elf, machine, sweep, runs. It ends at the first input found, which it names; a corpus
that is kept lets the next run go on. Inputs that were found and mended belong in ``corpus/KIND``.

Traces are read by C++, so their target is a program of its own (``trace_fuzz.cc``), which needs
clang++; the others are Python's, by Atheris.
"""

from __future__ import annotations

import argparse
import gc
import os
import random
import re
import subprocess
import sys
import tempfile
import types
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import seeds

HERE = Path(__file__).parent
PACKAGE = "ptshare_plugin"
NATIVE = HERE.parents[1] / PACKAGE / "native"
# An input that makes the process larger is a finding.
MEGABYTES = 3072

# What is put in the place of a value: nothing, other types, limits and beyond.
VALUES = (
    *("", "0", "-1", "1", "1.5", "1e999", "nan", "inf", "null", "true", "false", '""', "[]", "{}"),
    *('"a"', '"\\u0000"', '"\\ud800"', '"../x"', '"1GiB"', "[1]", '["a"]', '{"a": 1}', "[[1]]"),
    *("9223372036854775807", "9223372036854775808", "18446744073709551616", "1979-05-27"),
    *("9" * 400, "9" * 5000, "0x" + "f" * 5000, "[" * 2000, '"' + "x" * 5000 + '"'),
    *('"private"', '"gem5"', "{from = 1, to = 3}"),
)
_VALUE = re.compile(r"([:=,]\s*)([^,\n]+)")


def altered(data: bytes, most: int, seed: int, mutate: object) -> bytes:
    """A text with a value replaced, a line dropped, doubled or moved; or as ``mutate`` has it."""
    chance = random.Random(seed)
    if chance.random() < 0.4 or b"\n" not in data:
        return mutate(data, most)  # type: ignore[operator, no-any-return]
    lines = data.decode("latin-1").splitlines(keepends=True)
    for _ in range(chance.choice((1, 1, 1, 2, 4))):
        at = chance.randrange(len(lines))
        found = list(_VALUE.finditer(lines[at]))
        action = chance.random()
        if found and action < 0.7:
            start, end = chance.choice(found).span(2)
            lines[at] = lines[at][:start] + chance.choice(VALUES) + lines[at][end:]
        elif action < 0.8 and len(lines) > 1:
            del lines[at]
        elif action < 0.9:
            lines.insert(chance.randrange(len(lines)), lines[at])
        else:
            other = chance.randrange(len(lines))
            lines[at], lines[other] = lines[other], lines[at]
    return "".join(lines).encode("latin-1")[:most]


def search(kind: str, flags: list[str]) -> None:
    """With Atheris, in this process, which it ends."""
    import atheris
    import targets

    targets.THOROUGH = False
    # Not when they are imported: the loader of an editable install is none that Atheris knows.
    for each in gc.get_objects():
        if isinstance(each, types.FunctionType) and str(each.__module__).startswith(PACKAGE):
            atheris.instrument_func(each)

    def target(data: bytes) -> None:  # what it gives back is not for Atheris
        targets.TARGETS[kind](data)

    mutator = {} if kind == "elf" else {"custom_mutator": _mutator(atheris)}
    atheris.Setup([sys.argv[0], *flags], target, **mutator)
    atheris.Fuzz()


def _mutator(atheris: object) -> object:
    def mutator(data: bytes, most: int, seed: int) -> bytes:
        return altered(data, most, seed, atheris.Mutate)  # type: ignore[attr-defined]

    return mutator


def search_traces(flags: list[str]) -> None:
    """With libFuzzer, in a program that is built and takes this process's place."""
    folders = ("core", "core/policies", "accounting", "translation", "machine")
    sources = [path for folder in folders for path in sorted((NATIVE / folder).glob("*.cc"))]
    streams = ("replay", "barrier_run", "refusal", "trace_binary", "trace_file", "trace_text")
    sources += [NATIVE / "streams" / f"{name}.cc" for name in streams]
    sources.append(HERE / "trace_fuzz.cc")
    place = Path(tempfile.mkdtemp())
    compiler = [*os.environ.get("CXX", "clang++").split(), "-fsanitize=fuzzer,address,undefined"]
    options = ["-std=c++17", "-O1", "-g", "-fno-sanitize-recover=all", f"-I{NATIVE}"]
    options += [f"-I{HERE.parent / 'cpp'}", "-c"]

    def compiled(numbered: tuple[int, Path]) -> Path:
        target = place / f"{numbered[0]}.o"
        subprocess.run([*compiler, *options, numbered[1], "-o", target], check=True)
        return target

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        objects = list(pool.map(compiled, enumerate(sources)))
    program = place / "trace_fuzz"
    subprocess.run([*compiler, *objects, "-o", program], check=True)
    os.execv(program, [str(program), *flags])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("kind", choices=("traces", "elf", "machine", "sweep", "runs"))
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--timeout", type=int, default=10, help="an input that takes longer is one")
    parser.add_argument("--corpus", type=Path, help="folder that keeps what inputs were worth it")
    given = parser.parse_args()
    corpus = given.corpus or Path(tempfile.mkdtemp())
    corpus.mkdir(parents=True, exist_ok=True)
    if not any(corpus.iterdir()):
        seeds.write(given.kind, corpus)
    found = corpus.with_name(corpus.name + "-found-")
    flags = [f"-max_total_time={given.seconds}", f"-timeout={given.timeout}", "-max_len=200000"]
    flags += [f"-rss_limit_mb={MEGABYTES}", f"-artifact_prefix={found}", "-print_final_stats=1"]
    flags += [str(corpus), *(str(path) for path in [HERE / "corpus" / given.kind] if path.is_dir())]
    if given.kind == "traces":
        search_traces(flags)
    else:
        search(given.kind, flags)


if __name__ == "__main__":
    main()
