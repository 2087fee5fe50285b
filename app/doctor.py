"""`learngate doctor`: is everything in order, and what to do where it is not. It never calls a model."""

from __future__ import annotations

import platform
import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.table import Table
from rich.text import Text

from learngate.app.opening import (
    choose_model,
    database_url,
    db_option,
    missing,
    no_database,
    opened,
    suggested,
)
from learngate.app.options import Db, Embedder, Json, Model
from learngate.app.screen import ACCENT, busy, console, counted, flat, say, say_json, visible, width
from learngate.app.status import DONE, REFUSED

if TYPE_CHECKING:
    from learngate.stores import LearngateError, Memory

State = Literal["ok", "look", "broken"]
STYLES = {"ok": ACCENT, "look": "yellow", "broken": "bold red"}


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report: what was looked at, how it is, and what to do."""

    what: str
    state: State
    says: str
    todo: str = ""
    lost: bool = False
    """Something that was written is no longer where it was."""


def doctor(
    ctx: typer.Context,
    verify: Annotated[
        bool, typer.Option("--verify", help="Compare everything that was learned with its signatures.")
    ] = False,
    repair: Annotated[
        bool,
        typer.Option(
            "--repair", help="Mend what is derived, set apart what cannot be read; writers wait meanwhile."
        ),
    ] = False,
    quarantine: Annotated[
        bool, typer.Option("--quarantine", help="List what repairs have set apart, and look at nothing else.")
    ] = False,
    model: Model = None,
    embedder: Embedder = None,
    json: Json = False,
    db: Db = None,
) -> None:
    """Say whether everything is in order, and what to do.

    It looks at the database, its rows and indexes, the signatures of what is recalled, the embedder and the
    choice of a model; it never calls a model.

    Exit status 1 says that something is broken, or that a repair lost something.
    """
    if quarantine:
        from learngate.app.repair import show_quarantine

        with opened(db) as memory:
            show_quarantine(memory, json=json)
        return
    found: list[Finding] = []
    with busy("looking …") as news:
        for finding in _findings(db, model, embedder, db_option(ctx), verify=verify, repair=repair, news=news):
            found.append(finding)
            news(f"looked at {finding.what} …")
    broken = sum(finding.state == "broken" for finding in found)
    if json:
        say_json({"broken": broken, "findings": found})
    else:
        _tell(found)
        say()
        look = sum(finding.state == "look" for finding in found)
        say(f"{broken} broken · {look} to look at" if broken or look else "everything is in order")
    lost = any(finding.lost for finding in found)
    raise typer.Exit(REFUSED if broken or lost else DONE)


def _tell(found: list[Finding]) -> None:
    target = console()
    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column(no_wrap=True)
    grid.add_column(no_wrap=True, style="dim")
    grid.add_column(overflow="fold", max_width=width(target) - 22 if target.is_terminal else None)
    for finding in found:
        if not target.is_terminal:
            say(f"{finding.state:<8}{finding.what:<12}{flat(finding.says)}")
            if finding.todo:
                say(f"{'':<20}→ {finding.todo}")
            continue
        said = Text(visible(finding.says))
        if finding.todo:
            said.append(f"\n→ {visible(finding.todo)}", style="dim")
        grid.add_row(Text(finding.state, style=STYLES[finding.state]), finding.what, said)
    if target.is_terminal:
        target.print(grid)


def _findings(
    db: str | None,
    model: str | None,
    embedder: str | None,
    option: str,
    *,
    verify: bool,
    repair: bool,
    news: Callable[[str], None],
) -> Iterator[Finding]:
    installed = " · ".join(f"{name} {version(name)}" for name in ("learngate", "langgraph", "sqlalchemy"))
    python = f"Python {platform.python_version()} · SQLite {sqlite3.sqlite_version}"
    yield Finding("versions", "ok", f"{installed} · {python}")
    yield from _database(db, embedder, option, verify=verify, repair=repair, news=news)
    yield from _model(model)


def _database(
    db: str | None, embedder: str | None, option: str, *, verify: bool, repair: bool, news: Callable[[str], None]
) -> Iterator[Finding]:
    from learngate.stores import LearngateError, open_memory

    path = missing(db)
    if path is not None and (verify or repair):
        yield Finding("database", "broken", no_database(path))
        return
    if path is not None:
        yield Finding("database", "look", f"{path} is not there yet", "the first command that uses it makes it")
        yield from _embedder(None, embedder, option)
        return
    try:
        memory = open_memory(database_url(db), embedder=_usable(embedder))
    except LearngateError as error:
        yield from _unopened(db, option, error, repair=repair, news=news)
        yield from _embedder(None, embedder, option)
        return
    with memory:
        salvaged = False
        if repair:
            from learngate.app.repair import repairs

            for finding in repairs(memory, option, news):
                salvaged = salvaged or finding.what == "pages"
                yield finding
        # Of a file with damaged pages all was said; its rows are looked at in the saved one.
        yield from _inside(memory, option, salvaged=salvaged, news=news)
        yield from _signatures(memory, option, verify=verify, news=news)
        yield from _embedder(memory, embedder, option)


def _unopened(
    db: str | None, option: str, error: LearngateError, *, repair: bool, news: Callable[[str], None]
) -> Iterator[Finding]:
    """Say why a database cannot be opened, and save what is left of a file where that is asked for."""
    from learngate.app.repair import cut_off
    from learngate.stores import StoreUnusable

    if not isinstance(error, StoreUnusable):
        yield Finding("database", "broken", str(error))
        return
    said = str(error).replace(": restore a backup, or see `learngate doctor`", "")
    if repair:
        saved = [*cut_off(db, option, said, news)]
        yield from saved or [Finding("database", "broken", said)]
    else:
        todo = f"restore a backup, or save what can be read: {suggested('doctor', '--repair', db=option)}"
        yield Finding("database", "broken", said, todo if "is damaged" in said else "")


def _inside(memory: Memory, option: str, *, salvaged: bool, news: Callable[[str], None]) -> Iterator[Finding]:
    """Look into an open database; where one look fails, the others go on."""
    from learngate.app.repair import apart, wrong_rows
    from learngate.stores import LearngateError

    looks: dict[str, Callable[[], Iterator[Finding]]] = {
        "database": lambda: iter([_file(memory)]),
        "integrity": lambda: iter([] if salvaged else [_integrity(memory, option)]),
        "search": lambda: iter([] if salvaged else [_full_text(memory, option)]),
        "content": lambda: iter(()) if salvaged else wrong_rows(memory, option, news),
        "quarantine": lambda: apart(memory, option),
        "rows": lambda: iter([_rows(memory)]),
        "inbox": lambda: iter([_inbox(memory, option)]),
        "reflection": lambda: _reflection(memory, option),
    }
    for what, look in looks.items():
        try:
            found = [*look()]
        except LearngateError as error:
            found = [Finding(what, "broken", str(error))]
        yield from found


def _signatures(memory: Memory, option: str, *, verify: bool, news: Callable[[str], None]) -> Iterator[Finding]:
    from learngate.app.verify import signatures
    from learngate.stores import LearngateError

    try:
        yield from signatures(memory, option, verify=verify, news=news)
    except LearngateError as error:
        yield Finding("audit", "broken", str(error))


def _file(memory: Memory) -> Finding:
    from learngate.stores.upkeep import server, size

    said = f"{memory.database.name} · {size(memory.database) / 1e6:.1f} MB · schema {memory.schema}"
    return Finding("database", "ok", f"{said} · {server(memory.database)}")


def _integrity(memory: Memory, option: str) -> Finding:
    from learngate.stores.upkeep import integrity

    if memory.database.dialect != "sqlite":
        return Finding(
            "integrity", "ok", "not looked at: PostgreSQL checks its own pages (data_checksums, pg_amcheck)"
        )
    said = integrity(memory.database, limit=5)
    if not said:
        return Finding("integrity", "ok", "SQLite's own check found nothing")
    todo = f"restore a backup, or save what is left: {suggested('doctor', '--repair', db=option)}"
    return Finding("integrity", "broken", "; ".join(said), todo)


def _full_text(memory: Memory, option: str) -> Finding:
    from learngate.stores import StoreUnavailable
    from learngate.stores.upkeep import unsound_terms

    if memory.database.dialect != "sqlite":
        return Finding("search", "ok", "PostgreSQL keeps the words with the rows; vectors are searched by pgvector")
    try:
        unsound = unsound_terms(memory.database)
    except StoreUnavailable as error:
        return Finding("search", "look", f"not looked at: {error}")
    if unsound:
        said = f"the full-text index of {', '.join(unsound)} is damaged"
        return Finding("search", "broken", said, f"build it anew: {suggested('doctor', '--repair', db=option)}")
    return Finding("search", "ok", "full-text indexes are sound; FAISS is built in memory at the first search")


def _rows(memory: Memory) -> Finding:
    from sqlalchemy import func, select

    from learngate.stores.tables import learnings, sessions, turns, user_memories

    queries = {
        "session": select(func.count()).select_from(sessions).where(sessions.c.deleted_at.is_(None)),
        "turn": select(func.count()).select_from(turns),
        "memory": select(func.count()).select_from(user_memories).where(user_memories.c.valid_to.is_(None)),
        "user": select(func.count(func.distinct(user_memories.c.user_id))).where(
            user_memories.c.valid_to.is_(None)
        ),
        "learning": select(func.count()).select_from(learnings).where(learnings.c.status == "active"),
        "retired": select(func.count()).select_from(learnings).where(learnings.c.status == "retired"),
    }
    with memory.database.read() as connection:
        n = {name: connection.scalar(query) or 0 for name, query in queries.items()}
    return Finding(
        "rows",
        "ok",
        f"{counted(n['session'], 'session')} · {counted(n['turn'], 'turn')}"
        f" · {counted(n['memory'], 'memory', 'memories')} of {counted(n['user'], 'user')}"
        f" · {counted(n['learning'], 'learning')}, {n['retired']:,} retired",
    )


def _inbox(memory: Memory, option: str) -> Finding:
    waiting = memory.learnings.waiting()
    if not waiting:
        return Finding("inbox", "ok", "no proposal waits")
    where = ", ".join(f"{number} in {namespace}" for namespace, number in waiting.items())
    first = suggested("review", "--namespace", next(iter(waiting)), db=option)
    return Finding("inbox", "look", f"{counted(sum(waiting.values()), 'proposal')} for a reviewer: {where}", first)


def _reflection(memory: Memory, option: str) -> Iterator[Finding]:
    from sqlalchemy import func, select

    from learngate.stores.sessions import MAX_ATTEMPTS
    from learngate.stores.tables import turns

    given_up = turns.c.reflection_attempts >= MAX_ATTEMPTS
    query = select(turns.c.reflection, given_up, func.count(), func.max(turns.c.reflection_error))
    query = query.where(turns.c.reflection.in_(["pending", "failed"])).group_by(turns.c.reflection, given_up)
    with memory.database.read() as connection:
        rows = connection.execute(query).all()
    if not rows:
        yield Finding("reflection", "ok", "no turn waits for it")
    for status, over, number, error in rows:
        reason = f"; one because: {flat(error, 160)}" if error else ""
        if over:
            said = f"given up on {counted(number, 'turn')} after {MAX_ATTEMPTS} attempts{reason}"
            yield Finding("reflection", "look", said, "their answers stand; mend the cause for the next ones")
        else:
            todo = suggested("reflect", db=option)
            yield Finding("reflection", "look", f"{counted(number, 'turn')} {status}{reason}", todo)


def _usable(named: str | None) -> str | None:
    """Return an embedder that a database can be opened with, where the one that is named cannot be used."""
    from learngate.stores import ConfigurationError
    from learngate.stores.embedders import WordLlamaEmbeddings, chosen_embedder

    try:
        chosen_embedder(named)
    except ConfigurationError:
        return WordLlamaEmbeddings.called
    return named


def _embedder(memory: Memory | None, named: str | None, option: str) -> Iterator[Finding]:
    """Embed a word with a local embedder, and count the vectors that are there."""
    from sqlalchemy import func, select

    from learngate.stores import LearngateError
    from learngate.stores.embedders import LocalEmbeddings, chosen_embedder
    from learngate.stores.embeddings import SOURCES
    from learngate.stores.tables import embeddings

    try:
        embedder = chosen_embedder(named)
        assert isinstance(embedder, LocalEmbeddings)
        about = f"{embedder.called}, {len(embedder.embed_query('learngate'))} dimensions, local"
    except (LearngateError, ImportError, OSError, ValueError) as error:
        mend = (
            "choose another: --embedder, LEARNGATE_EMBEDDER" if named else "reinstall learngate with its packages"
        )
        yield Finding("embedder", "broken", str(error), mend)
        return
    if memory is None:
        yield Finding("embedder", "ok", about)
        return
    mine = embeddings.c.embedder == memory.vectors.name
    try:
        with memory.database.read() as connection:
            made = connection.scalar(select(func.count()).select_from(embeddings).where(mine)) or 0
            other = connection.scalar(select(func.count()).select_from(embeddings).where(~mine)) or 0
            rows = sum(
                connection.scalar(select(func.count()).select_from(source.table).where(source.active)) or 0
                for source in SOURCES.values()
            )
    except LearngateError as error:
        yield Finding("embedder", "broken", str(error))
        return
    more = f" · {other:,} of other embedders" if other else ""
    said = f"{about} · {counted(made, 'vector')} for {counted(rows, 'row')}{more}"
    if other and made < rows:
        todo = suggested("embed", *(("--embedder", named) if named else ()), db=option)
        yield Finding(
            "embedder", "look", f"{said}: some searches use those, or words alone, until all are made", todo
        )
    else:
        yield Finding("embedder", "ok", f"{said}; a missing one is made at the next search")


def _model(named: str | None) -> Iterator[Finding]:
    from learngate.graph.models import resolve_model
    from learngate.graph.settings import GEMINI_KEYS, has_gemini_key
    from learngate.stores import ConfigurationError

    chosen, no_key = choose_model(named)
    key = f"{GEMINI_KEYS[0]} is {'set' if has_gemini_key() else 'not set'}"
    try:
        resolve_model(chosen)
    except ConfigurationError as error:
        yield Finding("model", "broken", str(error))
        return
    if no_key:
        said = f"the offline stand-in, because {key}"
        yield Finding(
            "model", "look", said, "set a key for Gemini, or name another model: --model, LEARNGATE_MODEL"
        )
    else:
        yield Finding("model", "ok", f"{chosen}; it was not called · {key}")
