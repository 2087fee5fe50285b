"""The `learngate` command: its commands, and how their errors reach a person."""

from __future__ import annotations

import errno
import sys
from collections.abc import Callable
from contextlib import suppress
from importlib.metadata import version
from io import TextIOWrapper
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from learngate.app import (
    audit,
    backup,
    chat,
    doctor,
    embed,
    erase,
    learnings,
    memories,
    moving,
    reflect,
    review,
    sessions,
)
from learngate.app.options import Model, Yes
from learngate.app.screen import Unprinted, complain, drop_output, note, say_json
from learngate.app.status import REFUSED, STOPPED, UNREAD, exit_status

UNWRITABLE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO}
UsageError: type[Exception] = typer.BadParameter.__mro__[1]
"""The root of what is wrong with a command line; where it lives is typer's own affair."""


class Commands(TyperGroup):
    """The commands, behind one door for errors: a line that says what is wrong, and an exit status."""

    def make_context(self, *args: Any, **more: Any) -> Any:
        """Read the command line; whoever reads stdout is told what is wrong with it, too."""
        try:
            return super().make_context(*args, **more)
        except UsageError as error:
            _say_usage(error)
            raise

    def invoke(self, ctx: Any) -> Any:
        """Run a command; an error of learngate's own is one line and an exit status."""
        try:
            return _ended(self._run, ctx)
        except BrokenPipeError:
            drop_output()
            raise typer.Exit(UNREAD) from None
        except (OSError, Unprinted) as error:
            if isinstance(error, OSError) and error.errno not in UNWRITABLE:
                raise
            drop_output()
            with suppress(OSError):
                complain(str(error) if isinstance(error, Unprinted) else _unwritten(error))
            raise typer.Exit(REFUSED) from error

    def _run(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            note("stopped")
            raise typer.Exit(STOPPED) from None
        except UsageError as error:
            _say_usage(error)
            raise
        except Exception as error:
            status = exit_status(error)
            if status is None:
                raise
            complain(str(error))
            if "--json" in sys.argv[1:]:  # whoever reads stdout is told, too
                say_json({"error": str(error)}, lines=True)
            raise typer.Exit(status) from error


def _ended(run: Callable[[Any], Any], ctx: Any) -> Any:
    """Run a command and write what it printed, so that whoever cannot take it is noticed here."""
    try:
        return run(ctx)
    finally:
        sys.stdout.flush()


def _unwritten(error: OSError) -> str:
    return f"the output cannot be written: {error.strerror}"


def _say_usage(error: Any) -> None:
    if "--json" in sys.argv[1:]:
        say_json({"error": error.format_message()}, lines=True)


app = typer.Typer(
    cls=Commands,
    invoke_without_command=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"learngate {version('learngate')}")
        raise typer.Exit


@app.callback()
def learngate(
    ctx: typer.Context,
    _: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Memory that learns, with a human at the gate.

    Begin with `learngate demo`, or talk to the agent: `learngate chat --user you`.
    """
    if ctx.invoked_subcommand is None:
        typer.echo(ctx.get_help())


app.command("chat")(chat.chat)


@app.command("demo")
def demo(model: Model = None, yes: Yes = False) -> None:
    """Watch the three memories at work; you decide.

    It runs on a database of its own, a temporary file that stays for you to look into.
    """
    from learngate.app.demo import run_demo

    raise typer.Exit(run_demo(model=model, yes=yes))


app.command("review")(review.review)
app.command("reflect")(reflect.reflect)
app.add_typer(learnings.app, name="learnings")
app.add_typer(memories.app, name="memories")
app.add_typer(sessions.app, name="sessions")
app.command("doctor")(doctor.doctor)
app.command("embed")(embed.embed)
app.add_typer(audit.app, name="audit")
app.command("export")(moving.export)
app.command("import")(moving.import_)
app.command("backup")(backup.backup)
app.command("erase")(erase.erase)


def main() -> None:
    """Run the command, as the shell does."""
    for stream in (sys.stdout, sys.stderr):
        # A terminal or a file of another encoding shows "?" for what it lacks, instead of ending the command.
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="replace")
    app()
