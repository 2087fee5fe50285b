"""What every command begins with: the memory opened, the model chosen, the person at the keyboard named."""

from __future__ import annotations

import getpass
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import typer

from learngate.app.options import DEFAULT
from learngate.app.screen import busy

if TYPE_CHECKING:
    from learngate.stores import Memory


@contextmanager
def opened(db: str | None) -> Iterator[Memory]:
    """Open the memory that `--db` names, and close it at the end.

    Raises:
        LearngateError: it cannot be opened, with what to do about it.
    """
    with busy("opening the memory …"):
        from learngate.stores import open_memory

        memory = open_memory(database_url(db))
    with memory:
        yield memory


def database_url(db: str | None) -> str | None:
    """Return a database's URL; a plain path means an SQLite file."""
    if not db or "://" in db:
        return db or None
    # In a URL a percent sign begins an escape, and a question mark the options.
    return f"sqlite:///{db.replace('%', '%25').replace('?', '%3F')}"


def db_option(ctx: typer.Context) -> str:
    """Return ` --db …` as a command that is suggested needs it: where it was given here by hand."""
    source = ctx.get_parameter_source("db")
    if source is None or source.name != "COMMANDLINE":
        return ""
    return f" --db {shlex.quote(ctx.params['db'])}"


def suggested(*words: str, db: str) -> str:
    """Return a command that a person may copy; `db` is what `db_option` gave."""
    return f"`learngate {shlex.join(words)}{db}`"


def chat_again(session_id: str, user_id: str | None, namespace: str, *, db: str) -> str:
    """Return the command that goes on with a session."""
    user = ("--user", user_id) if user_id else ()
    serving = ("--namespace", namespace) if namespace != DEFAULT else ()
    return suggested("chat", "--session", session_id, *user, *serving, db=db)


def choose_model(named: str | None) -> tuple[str, bool]:
    """Return the model to use, and whether it is the stand-in because there is no key.

    The caller says so to whoever sits there: the stand-in is never chosen silently.
    """
    from learngate.graph.settings import OFFLINE, chosen_model
    from learngate.stores import ConfigurationError

    try:
        return chosen_model(named), False
    except ConfigurationError:
        return OFFLINE, True


def model_words(model: str, *, no_key: bool) -> str:
    """Return a model's name as the header of a command shows it."""
    if no_key:
        return "offline stand-in (set GOOGLE_API_KEY, or --model, for a real model)"
    return "offline stand-in (it does not reason)" if model == "offline" else model


def person(reviewer: str | None, user: str | None) -> str:
    """Return who decides: as named, else the user, else whoever is logged in."""
    if reviewer or user:
        return reviewer or user or ""
    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):  # a container without a passwd entry, Windows without USERNAME
        return "anonymous"
