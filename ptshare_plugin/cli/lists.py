"""Commands that list what there is: workloads, presets, policies, and what this machine has."""

from __future__ import annotations

from typing import Annotated

import typer

from ptshare_plugin.cli.app import app
from ptshare_plugin.cli.options import JsonOpt, machine, print_json
from ptshare_plugin.common.errors import EXIT_FAILURE


@app.command()
def workloads(as_json: JsonOpt = False) -> None:
    """List the programs that come with ptshare."""
    from dataclasses import asdict

    from ptshare_plugin.show import terminal
    from ptshare_plugin.spec import workloads as installed

    known = [installed.describe(name) for name in installed.names()]
    if as_json:
        print_json(
            {
                item.name: {
                    "description": item.description,
                    "work": item.work,
                    "path": str(item.path),
                    "kills_itself": item.expected_kill,
                    "output_depends_on_policy": item.output_depends_on_policy,
                    "arguments": [asdict(argument) for argument in item.arguments],
                }
                for item in known
            }
        )
        return
    out = terminal.console()
    terminal.print_words(
        out,
        ["workload", "default work", "what it does"],
        [[item.name, item.work, item.description] for item in known],
    )
    out.print()
    own = [(item.name, each) for item in known for each in item.arguments if each.own]
    common = {each.name: ("all", each) for item in known for each in item.arguments if not each.own}
    terminal.print_words(
        out,
        ["after --", "of", "default", "values", "meaning"],
        [
            [each.name, owner, each.default_text, each.limits, each.meaning]
            for owner, each in (*own, *common.values())
        ],
    )


@app.command()
def presets(
    name: Annotated[
        str | None,
        typer.Argument(
            help="A preset's name or a .toml file; all presets side by side without it."
        ),
    ] = None,
    as_json: JsonOpt = False,
) -> None:
    """List the keys of the machine with their values, units and meaning."""
    from ptshare_plugin.machine import config
    from ptshare_plugin.machine.schema import KEYS, flatten
    from ptshare_plugin.show import terminal

    chosen = [name] if name is not None else config.preset_names()
    machines = [flatten(machine(preset, [])) for preset in chosen]
    if as_json:
        print_json(dict(zip(chosen, machines, strict=True)))
        return
    out = terminal.console()
    for preset in chosen:
        if description := config.preset_description(preset):
            out.print(f"{preset}: {description}")
    out.print()
    limits = name is not None  # side by side there is no room for them
    terminal.print_words(
        out,
        ["key", *chosen, "unit", *(["allowed"] if limits else []), "meaning"],
        [
            [
                key.name,
                *(config.show(key, machine[key.name]) for machine in machines),
                key.unit,
                *([config.describe_limits(key)] if limits else []),
                key.meaning,
            ]
            for key in KEYS.values()
        ],
        right=range(1, 1 + len(chosen)),
    )


@app.command()
def policies(as_json: JsonOpt = False) -> None:
    """Print what each policy answers to each operation."""
    from ptshare_plugin import policies as all_policies
    from ptshare_plugin.show import terminal

    known = all_policies.known()  # which says so if the extension module is missing
    from ptshare_plugin.studies import policy_matrix

    rows = [
        (case.operation, case.situation, {name: case.answer(name) for name in known})
        for case in policy_matrix.CASES
    ]
    if as_json:
        print_json(
            {
                "policies": dict(all_policies.described()),
                "answers": [
                    {"operation": operation, "situation": situation, **answers}
                    for operation, situation, answers in rows
                ],
            }
        )
        return
    out = terminal.console()
    for name, description in all_policies.described():
        out.print(f"{name}: {description}")
    out.print()
    terminal.print_words(
        out,
        ["", "", *known],
        [[operation, situation, *answers.values()] for operation, situation, answers in rows],
    )


@app.command()
def doctor(as_json: JsonOpt = False) -> None:
    """Say which engines this machine has, and what is missing for the others."""
    from ptshare_plugin.cli import doctor as checks
    from ptshare_plugin.show import terminal

    findings = checks.examine()
    if as_json:
        print_json({item.name: {"ok": item.ok, "text": item.text} for item in findings})
    else:
        terminal.print_words(
            terminal.console(),
            ["", "", ""],
            [["ok" if item.ok else "missing", item.name, item.text] for item in findings],
        )
    if not all(item.ok for item in findings if item.needed):
        raise typer.Exit(EXIT_FAILURE)
