"""The Typer application that the commands join."""

from __future__ import annotations

import typer

# No Rich in help and errors: it costs start-up time, and errors are one line each.
app = typer.Typer(
    name="ptshare",
    help="What sharing page tables between processes saves and costs, by simulation.",
    context_settings={"help_option_names": ["-h", "--help"]},
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
