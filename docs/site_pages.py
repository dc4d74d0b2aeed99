"""Hook of mkdocs: the site is README.md and all that can be reached from it by links.

Its pages lie as they do in the source folder, so the same links work in both.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from mkdocs.structure.files import File, Files

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig

_LINK = re.compile(r"\]\(([^)#:\s]+)(?:#[^)\s]*)?\)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Put the source folder's files in the place of those of docs/; the theme's stay."""
    root = Path(config.config_file_path).resolve().parent
    site = Files([file for file in files if file.src_dir != config.docs_dir])
    for path in _reached(root):
        site.append(File(path, str(root), config.site_dir, config.use_directory_urls))
    return site


def _reached(root: Path) -> list[str]:
    """Files from the root, by name; what a broken link names is left to mkdocs to report."""
    found: set[Path] = set()
    waiting = [root / "README.md"]
    while waiting:
        path = waiting.pop()
        if path in found:
            continue
        found.add(path)
        if path.suffix == ".md":
            targets = _LINK.findall(path.read_text(encoding="utf-8"))
            places = ((path.parent / target).resolve() for target in targets)
            waiting += [place for place in places if place.is_file() and root in place.parents]
    return sorted(str(path.relative_to(root)) for path in found)
