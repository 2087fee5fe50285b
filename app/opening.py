"""What every command begins with: the memory opened, the model chosen, the person at the keyboard named."""

from __future__ import annotations

import getpass
import os
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from learngate.app.options import DEFAULT
from learngate.app.screen import busy
from learngate.app.status import Refused

if TYPE_CHECKING:
    from sqlalchemy import URL

    from learngate.stores import Memory


@contextmanager
def opened(db: str | None, *, there: bool = False, embedder: str | None = None) -> Iterator[Memory]:
    """Open the memory that `--db` names, and close it at the end; one that must be `there` is not made.

    Raises:
        Refused: it is not there.
        LearngateError: it cannot be opened, with what to do about it.
    """
    with busy("opening the memory …"):
        if there and (path := missing(db)) is not None:
            raise Refused(no_database(path))
        from learngate.stores import open_memory

        memory = open_memory(database_url(db), embedder=embedder)
    with memory:
        yield memory


def missing(db: str | None) -> str | None:
    """Return the path of a database that no command has made yet; `None` where it is there, or elsewhere."""
    from learngate.stores.memory import DEFAULT_URL

    url = _read_url(database_url(db) or os.environ.get("LEARNGATE_DB") or DEFAULT_URL)
    if url is None:
        return None
    path = url.database
    if url.get_backend_name() != "sqlite" or path in {None, "", ":memory:"} or str(path).startswith("file:"):
        return None
    file = Path(str(path))
    if not file.parent.is_dir():  # opening it says so
        return None
    return None if file.exists() and (not file.is_file() or file.stat().st_size) else str(path)


def no_database(path: str) -> str:
    """Say that a database is not there, and how to name the one that is meant."""
    return f"there is no database at {path}: name it with --db, or run from the folder it is in"


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
    given = ctx.params["db"]
    if "://" in given:
        url = _read_url(given)
        if url is None:
            return ""
        from learngate.stores.database import without_password

        given = without_password(url)
    return f" --db {shlex.quote(given)}"


def _read_url(given: str) -> URL | None:
    from sqlalchemy import make_url
    from sqlalchemy.exc import ArgumentError

    try:
        return make_url(given)
    except (ArgumentError, ValueError):  # a port that is no number is the latter
        return None


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
