"""``ptshare doctor``: what this machine has."""

from __future__ import annotations

import platform
import sys
from dataclasses import dataclass

from ptshare_plugin import __version__
from ptshare_plugin.common.errors import UserError
from ptshare_plugin.engines import registry as engines
from ptshare_plugin.recording import tool
from ptshare_plugin.spec import workloads


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing looked at. ``needed``: without it ptshare does not do its main job."""

    name: str
    ok: bool
    needed: bool
    text: str


def examine() -> list[Finding]:
    """Look at everything; nothing is changed and nothing is started."""
    findings = [
        Finding(
            "ptshare",
            True,
            True,
            f"{__version__}, Python {platform.python_version()} at {sys.executable}",
        )
    ]
    for engine in engines.all_engines():
        lack = engine.missing()
        text = engine.description if lack is None else lack
        findings.append(
            Finding(f"engine {engine.name}", lack is None, engine.name == "embedded", text)
        )
    try:
        names = workloads.names()
        findings.append(Finding("workloads", True, True, ", ".join(names)))
    except UserError as error:
        findings.append(Finding("workloads", False, True, str(error)))
    lack = tool.missing()
    findings.append(
        Finding("record", lack is None, False, tool.described() if lack is None else lack)
    )
    machine = f"{platform.system()} {platform.machine()}"
    findings.append(
        Finding(
            "machine",
            machine == "Linux x86_64",
            True,
            machine if machine == "Linux x86_64" else f"{machine}; ptshare is for Linux x86_64",
        )
    )
    return findings
