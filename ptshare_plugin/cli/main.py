"""The ``ptshare`` command. Nothing heavy is imported before a command needs it."""

from __future__ import annotations

import importlib
import os
import signal
import sys
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from ptshare_plugin import __version__

# Each adds its commands to the application, in the order in which help lists them.
from ptshare_plugin.cli.app import app
from ptshare_plugin.cli.errors import complain
from ptshare_plugin.common.errors import (
    EXIT_FAILURE,
    EXIT_INTERRUPTED,
    EXIT_USAGE,
    UserError,
    os_reason,
)
from ptshare_plugin.runs.options import spell

if TYPE_CHECKING:
    from types import FrameType

# Each adds its commands to the application, in the order in which help lists them.
for _group in ("run", "record", "imports", "results", "studies", "lists"):
    importlib.import_module(f"ptshare_plugin.cli.{_group}")
for _app in (app, *(group.typer_instance for group in app.registered_groups)):
    for _command in [] if _app is None else _app.registered_commands:
        # Help would cut what it takes from the docstring.
        assert _command.callback is not None and _command.callback.__doc__ is not None
        _command.short_help = _command.callback.__doc__.partition("\n")[0].rstrip(".")


def _version(wanted: bool) -> None:
    if wanted:
        sys.stdout.write(f"ptshare {__version__}\n")
        raise typer.Exit


@app.callback()
def _top(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


def _terminated(number: int, _frame: FrameType | None) -> NoReturn:
    # As an exception, so that half-written folders are removed.
    sys.exit(128 + number)


def main() -> None:
    """Entry point of the ``ptshare`` command: errors are one line, and the exit code tells."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:  # nohup
            signal.signal(number, _terminated)
    if sys.stdout is None or sys.stderr is None:  # closed by whoever started this
        os.write(2, b"ptshare: error: standard output and error must be open\n")
        sys.exit(EXIT_FAILURE)
    if os.environ.get("PTSHARE_DEBUG"):
        sys.exit(app(standalone_mode=False))
    sys.exit(_guarded())


def _guarded() -> int:
    try:
        code = app(sys.argv[1:] or ["--help"], standalone_mode=False)
        sys.stdout.flush()
        if code == EXIT_INTERRUPTED:  # Typer's answer to Ctrl-C
            raise KeyboardInterrupt
        return code if isinstance(code, int) else 0
    except UserError as error:
        for line in error.told_lines(spell):
            complain(line)
        return error.exit_code
    except (KeyboardInterrupt, typer.Abort):
        complain("interrupted")
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        # Whoever read standard output is gone; the interpreter's own flush must not complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 128 + signal.SIGPIPE
    except OSError as error:
        name = f"{error.filename}: " if error.filename else ""
        complain(f"{name}{os_reason(error)}")
        return EXIT_FAILURE
    except MemoryError:
        complain("out of memory on this machine")
        return EXIT_FAILURE
    except Exception as error:
        if type(error).__name__ == "NoArgsIsHelpError":
            sys.stdout.write(f"{error.format_message()}\n")  # type: ignore[attr-defined]
            return 0
        if hasattr(error, "format_message"):  # the command line, as Typer sees it
            text = " ".join(str(error.format_message()).split()).rstrip(".")
            complain(f"{text}; see 'ptshare --help'")
            return EXIT_USAGE
        complain(
            f"unexpected {type(error).__name__}: {' '.join(str(error).split())}; "
            "PTSHARE_DEBUG=1 shows where"
        )
        return EXIT_FAILURE


if __name__ == "__main__":
    main()
