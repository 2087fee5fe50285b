"""The `learngate` command: its commands, and how their errors reach a person."""

from __future__ import annotations

import sys
from importlib.metadata import version
from io import TextIOWrapper
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from learngate.app import audit, backup, chat, doctor, erase, learnings, memories, moving, reflect, review, sessions
from learngate.app.options import Model, Yes
from learngate.app.screen import complain, note, say_json
from learngate.app.status import STOPPED, exit_status


class Commands(TyperGroup):
    """The commands, behind one door for errors: a line that says what is wrong, and an exit status."""

    def invoke(self, ctx: Any) -> Any:
        """Run a command; an error of learngate's own is one line and an exit status."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            note("stopped")
            raise typer.Exit(STOPPED) from None
        except Exception as error:
            status = exit_status(error)
            if status is None:
                raise
            complain(str(error))
            if "--json" in sys.argv[1:]:  # whoever reads stdout is told, too
                say_json({"error": str(error)}, lines=True)
            raise typer.Exit(status) from error


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
