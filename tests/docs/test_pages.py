"""Do the pages' links lead somewhere, and do the command lines and code that they show exist?"""

from __future__ import annotations

import re
import runpy
import tomllib
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from typing import Any

import pages
import pytest
import typer.main

from ptshare_plugin.cli.main import app
from ptshare_plugin.machine.schema import KEYS

GEM5_PARSER = runpy.run_path(str(pages.ROOT / "gem5_configs/ptshare_options.py"))["parser"]
PTSHARE = typer.main.get_command(app)
# Of the click that this typer uses: its own, or the package.
USAGE_ERROR = typer.BadParameter.__mro__[1]
PAGES = [pytest.param(page, id=str(page.relative_to(pages.ROOT))) for page in pages.pages()]
SHOWN = [shown for page in pages.pages() for shown in pages.code(page)]
LOOKS_LIKE = {
    "toml": re.compile(r"(\[\[?[\w.]+\]\]?|[\w.]+ = \S.*)( *#.*)?\n"),
    "python": re.compile(r"(#.*\n)?(import|from) \w"),
}


def wrong_link(page: Path, target: str) -> str | None:
    """What is wrong with a link of ``page``; other sites are not asked."""
    if re.match(r"https?://", target):
        return None
    name, _, anchor = target.partition("#")
    place = (page.parent / name).resolve() if name else page
    if not place.is_file():
        return f"no file {target}"
    if anchor and anchor not in pages.anchors(place):
        return f"{name or 'the page'} has no heading #{anchor}"
    return None


def wrong_command(words: list[str], whole: bool) -> str | None:
    """What is wrong with a command line; not ``whole``: a mention, which may lack arguments."""
    program, *rest = words
    if program == "ptshare":
        return wrong_ptshare(rest, whole)
    if program in ("python", "python3") and rest[:1] == ["-m"]:
        return None if find_spec(rest[1]) else f"no module {rest[1]}"
    folders = [word for before, word in pairwise(words) if before != "-n"]
    scripts = {"python": rest[:1], "gem5.opt": rest[:1], "scons": rest[1:2], "pytest": folders}
    for script in scripts.get(program, []):
        if not script.startswith("-") and "=" not in script and not (pages.ROOT / script).exists():
            return f"no file {script}"
    return wrong_gem5(rest[1:]) if program == "gem5.opt" and rest else None


def wrong_gem5(words: list[str]) -> str | None:
    """Of options of ``gem5_configs/ptshare.py``."""
    parser = GEM5_PARSER()
    told: list[str] = []
    parser.error = told.append
    parser.parse_args(words)
    return told[0] if told else None


def wrong_ptshare(words: list[str], whole: bool) -> str | None:
    command: Any = PTSHARE
    context = command.context_class(command, info_name="ptshare")
    while hasattr(command, "resolve_command") and words and not words[0].startswith("-"):
        name, command, words = command.resolve_command(context, words)
        context = command.context_class(command, context, name)
    options, extra, _ = command.make_parser(context).parse_args(list(words))
    if extra and not context.allow_extra_args:
        return f"arguments too many: {extra}"
    missing = [p.name for p in command.params if p.required and not options.get(p.name)]
    if whole and missing:
        return f"lacks {missing}"
    keyed = [p.name for p in command.params if {"--set", "--vary"} & {*p.opts}]
    given = [text for name in keyed for text in options.get(name, [])]
    unknown = [text for text in given if text.partition("=")[0] not in KEYS]
    return f"unknown keys: {unknown}" if unknown else None


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_to_files_and_headings(page: Path) -> None:
    found = [(line, wrong_link(page, target)) for line, target in pages.links(page)]
    assert [f"{page.name}:{line}: {wrong}" for line, wrong in found if wrong] == []


def test_every_page_is_reached_from_the_readme() -> None:
    reached: set[Path] = set()
    waiting = [pages.ROOT / "README.md"]
    while waiting:
        page = waiting.pop()
        if page in reached or page.suffix != ".md":
            continue
        reached.add(page)
        local = (target for _, target in pages.links(page) if ":" not in target)
        waiting += [(page.parent / target.partition("#")[0]).resolve() for target in local]
    assert set(pages.pages()) - reached == set()


def test_command_lines_exist() -> None:
    wrong = []
    seen = 0
    for shown in SHOWN:
        for words in pages.commands(shown):
            if not words or (shown.language is None and len(words) == 1):
                continue
            seen += words[0] == "ptshare"
            try:
                why = wrong_command(words, whole=shown.language is not None)
            except USAGE_ERROR as error:
                mentioned = shown.language is None and "requires an argument" in str(error)
                why = None if mentioned else str(error)
            if why:
                wrong.append(f"{shown}: {' '.join(words)}: {why}")
    assert wrong == []
    assert seen > 50


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("ptshare comapre scan", "No such command 'comapre'"),
        ("ptshare run scan --polcy private", "No such option: --polcy"),
        ("ptshare run scan --procs", "requires an argument"),
        ("ptshare sweep", "lacks"),
        ("ptshare doctor twice", "arguments too many"),
        ("ptshare run scan --set mmu.stlb.entriess=1", "unknown keys"),
        ("gem5.opt gem5_configs/ptshare.py scan --quanta 3", "unrecognized arguments: --quanta 3"),
        ("python benchmarks/speeed.py", "no file benchmarks/speeed.py"),
        ("python -m ptshare_plugin_missing", "no module"),
    ],
)
def test_a_command_line_that_does_not_exist_is_found(line: str, why: str) -> None:
    ((*words,),) = pages.commands(pages.Code(pages.ROOT, 1, "", line))
    try:
        found = wrong_command(words, whole=True)
    except USAGE_ERROR as error:
        found = str(error)
    assert found is not None and why in found


def test_code_is_of_the_language_that_its_fence_says() -> None:
    seen = set()
    for shown in SHOWN:
        if shown.language is None:
            continue
        for language, look in LOOKS_LIKE.items():
            assert shown.language or not look.match(shown.text), f"{shown}: fence it as {language}"
        if shown.language == "toml":
            tomllib.loads(shown.text)
        elif shown.language == "python":
            compile(shown.text, str(shown), "exec")
        seen.add(shown.language)
    assert seen >= {"toml", "python"}
