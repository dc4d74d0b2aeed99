"""The recorder's tool: which Valgrind this machine has, and the tool built against it.

The tool (``native/recorder``) is a program of its own, under Valgrind's licence. It is compiled
when it is first used, into a cache folder, and again when Valgrind or its sources have changed.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import re
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from ptshare_plugin.common.errors import NOT_BUILT, UserError, os_reason

NAME = "ptshare"
BINARY = f"{NAME}-amd64-linux"
INSTALL = "install Debian's or Ubuntu's valgrind, or Fedora's valgrind-devel valgrind-tools-devel"

OPTIONS = ("--px-default=allregs-at-mem-access", "--vex-iropt-unroll-thresh=0")
"""Of Valgrind, so that it leaves out no load whose value is overwritten before it is used: else
most of a loop that touches pages would be missing."""

_ARCHIVES = ("libcoregrind-amd64-linux.a", "libvex-amd64-linux.a", "libgcc-sup-amd64-linux.a")
_SUPPORT = ("default.supp", "vgpreload_core-amd64-linux.so")
_COMPILE = (
    *("-c", "-O2", "-std=gnu11", "-fno-stack-protector", "-fno-strict-aliasing", "-fno-builtin"),
    *("-fno-pie", "-DVGO_linux=1", "-DVGA_amd64=1", "-DVGP_amd64_linux=1"),
    "-DVGPV_amd64_linux_vanilla=1",
)
_LINK = (
    *("-no-pie", "-static", "-nodefaultlibs", "-nostartfiles", "-u", "_start"),
    *("-Wl,-Ttext-segment=0x58000000", "-Wl,--build-id=none"),
)


@dataclass(frozen=True, slots=True)
class Valgrind:
    """What there is of Valgrind.

    :param program: which it is started with.
    :param version: of its headers.
    :param headers: folder of its interface for tools.
    :param archives: folder of the libraries that a tool is linked with.
    :param support: folder of what any tool needs when it runs.
    """

    program: Path
    version: str
    headers: Path
    archives: Path
    support: Path


def find() -> Valgrind:
    """The machine's Valgrind; a UserError says what is missing of it. Starts nothing."""
    found = shutil.which("valgrind")
    if found is None:
        raise UserError(f"no valgrind on PATH: {INSTALL}")
    program = Path(found)
    # Debian's valgrind is a script that changes the program's environment.
    behind = program.with_name("valgrind.bin")
    prefixes = list(dict.fromkeys((program.resolve().parents[1], Path("/usr"))))
    headers = _holding(
        [prefix / "include/valgrind" for prefix in prefixes], ("pub_tool_tooliface.h", "config.h")
    )
    if headers is None:
        raise UserError(f"valgrind is there, but not its headers for tools: {INSTALL}")
    places = ("lib/x86_64-linux-gnu/valgrind", "lib64/valgrind", "lib/valgrind")
    archives = _holding([prefix / place for prefix in prefixes for place in places], _ARCHIVES)
    if archives is None:
        raise UserError(f"valgrind is there, but not its libraries for tools: {INSTALL}")
    behind_it = ("libexec/valgrind", *places)
    support = _holding([prefix / place for prefix in prefixes for place in behind_it], _SUPPORT)
    if support is None:
        raise UserError(f"valgrind is there, but not what its tools need to run: {INSTALL}")
    return Valgrind(
        program=behind if behind.is_file() else program,
        version=_headers_version(headers),
        headers=headers,
        archives=archives,
        support=support,
    )


def _holding(folders: list[Path], names: tuple[str, ...]) -> Path | None:
    return next((each for each in folders if all((each / name).is_file() for name in names)), None)


def _headers_version(headers: Path) -> str:
    text = (headers / "config.h").read_text(encoding="utf-8", errors="replace")
    match = re.search(r'^#define VERSION "(.*)"', text, re.MULTILINE)
    return match[1] if match else "unknown"


def compiler() -> str:
    """The C compiler; a UserError when there is none."""
    for name in filter(None, (os.environ.get("CC"), "cc", "gcc", "clang")):
        found = shutil.which(name)
        if found is not None:
            return found
    raise UserError("no C compiler, which the recorder's tool is built with: install gcc")


def missing() -> str | None:
    """What ``ptshare record`` lacks on this machine, or nothing. Starts nothing."""
    try:
        valgrind = find()
        if not (_place(valgrind) / BINARY).is_file():
            compiler()
    except UserError as error:
        return str(error)
    return None


def described() -> str:
    """What ``ptshare doctor`` says where nothing is missing."""
    valgrind = find()
    built = (_place(valgrind) / BINARY).is_file()
    return f"valgrind {valgrind.version}; the tool is {'built' if built else 'built at first use'}"


def build() -> tuple[Valgrind, Path]:
    """Valgrind, and the folder of the tool built against it: what ``VALGRIND_LIB`` is to be."""
    valgrind = find()
    place = _place(valgrind)
    if not (place / BINARY).is_file():
        _check_version(valgrind)
        _make(valgrind, place)
    return valgrind, place


def copy(place: Path, target: Path) -> None:
    """Copy the built tool, for a user who cannot read the cache folder."""
    shutil.copytree(place, target, symlinks=True)
    for path in (target, target / BINARY):
        path.chmod(0o755)


def sources() -> Path:
    """Folder of the tool's sources."""
    spec = importlib.util.find_spec("ptshare_plugin._core")
    if spec is None or spec.origin is None:
        raise UserError(NOT_BUILT)
    place = Path(spec.origin).parent / "recorder"
    if not place.is_dir():
        raise UserError("the recorder's sources are missing: run 'pip install -e .'")
    return place


def _place(valgrind: Valgrind) -> Path:
    digest = hashlib.sha256(" ".join((*_COMPILE, *_LINK)).encode())
    for path in sorted(sources().rglob("*.[ch]")):
        digest.update(path.name.encode())
        digest.update(path.read_bytes())
    for name in _ARCHIVES:
        # Another build of the same version is another Valgrind.
        found = (valgrind.archives / name).stat()
        digest.update(f"{valgrind.archives}/{name} {found.st_size} {found.st_mtime_ns}".encode())
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache / "ptshare" / f"recorder-{valgrind.version}-{digest.hexdigest()[:16]}"


def _check_version(valgrind: Valgrind) -> None:
    try:
        done = subprocess.run(
            [valgrind.program, "--version"], capture_output=True, text=True, timeout=60
        )
    except OSError as error:
        raise UserError(f"{valgrind.program}: cannot be run: {os_reason(error)}") from error
    told = done.stdout.strip().removeprefix("valgrind-")
    if told != valgrind.version:
        raise UserError(
            f"{valgrind.program} is valgrind {told}, but {valgrind.headers} is of"
            f" {valgrind.version}: the recorder's tool must be built against the one that runs it"
        )


def _make(valgrind: Valgrind, place: Path) -> None:
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(prefix=".building-", dir=place.parent))
    except OSError as error:
        raise UserError(f"{place.parent}: cannot be written: {os_reason(error)}") from error
    try:
        _compile(valgrind, partial)
        for name in _SUPPORT:
            (partial / name).symlink_to(valgrind.support / name)
        partial.chmod(0o755)
        try:
            partial.rename(place)
        except OSError:
            if not (place / BINARY).is_file():  # else another ptshare was quicker
                raise
    except OSError as error:
        raise UserError(f"{place}: cannot be written: {os_reason(error)}") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _compile(valgrind: Valgrind, folder: Path) -> None:
    objects = []
    for source in sorted(sources().glob("*.c")):
        made = folder / f"{source.stem}.o"
        included = ("-isystem", str(valgrind.headers), f"-I{source.parent}")
        _run([compiler(), *_COMPILE, *included, str(source), "-o", str(made)])
        objects.append(made)
    core, vex, support = (str(valgrind.archives / name) for name in _ARCHIVES)
    names = [str(made) for made in objects]
    linked = [*names, core, vex, "-lgcc", support]
    _run([compiler(), *_LINK, *linked, "-o", str(folder / BINARY)])
    for made in objects:
        made.unlink()


def _run(command: list[str]) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    except OSError as error:
        raise UserError(f"{command[0]}: cannot be run: {os_reason(error)}") from error
    if done.returncode != 0:
        lines = [
            line for line in done.stderr.splitlines() if "error" in line or "undefined" in line
        ]
        told = (lines or done.stderr.splitlines() or ["no reason given"])[0].strip()
        raise UserError(f"the recorder's tool cannot be built: {told}")
