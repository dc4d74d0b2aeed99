"""Is there one version, wherever it is asked for?"""

from __future__ import annotations

import importlib.metadata
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import ptshare_plugin

ROOT = Path(__file__).resolve().parents[2]
COMMAND = Path(sys.executable).with_name("ptshare")


def test_package_metadata_and_command_agree() -> None:
    told = subprocess.run([COMMAND, "--version"], capture_output=True, text=True, check=True).stdout
    assert told == f"ptshare {ptshare_plugin.__version__}\n"
    assert importlib.metadata.version("ptshare") == ptshare_plugin.__version__


def test_citation_and_changes_are_of_this_version() -> None:
    (cited,) = re.findall(r"^version: (.*)$", (ROOT / "CITATION.cff").read_text(), re.MULTILINE)
    released = re.findall(r"^## (\d.*)$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert [cited, released[0]] == [ptshare_plugin.__version__] * 2


def test_licence_and_authors_agree() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    citation = (ROOT / "CITATION.cff").read_text()
    (author,) = project["authors"]
    own, _, _ = project["license"].partition(" AND ")  # the recorder's is its own
    assert f"license: {own}\n" in citation
    assert f"  - name: {author['name']}\n" in citation
    assert author["name"] in (ROOT / "LICENSE").read_text()
