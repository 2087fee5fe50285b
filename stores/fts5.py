"""SQLite's full-text search: FTS5, each word indexed behind its row's scope.

So a search reads what its own scope holds of a word and nothing of others': neither their rows nor how often they
say it. As a token beside the words, a scope is counted whole at each search, and so are the words of all scopes.
"""

from __future__ import annotations

import string
from collections.abc import Iterable, Sequence
from functools import cache, reduce

from sqlalchemy import Connection, Table, TextClause, text

from learngate.stores.errors import StoreUnusable

WEIGHTS = {"body": 3.0, "before": 1.0, "applies_when": 3.0}
"""What a word counts: in a row's own text, in what was said before it, and once more in a learning's trigger."""
MARK = "\ue000"
"""How a tag begins, which no text does: there it becomes a space. FTS5 takes it for a letter."""
SPACED = [MARK, *string.punctuation, *"\t\n\r", *["  "] * 3]
"""What becomes one space, in turn; a word behind a sign beyond ASCII is said once more by `lexical.search_body`."""


def create(connection: Connection, table: Table, *, active: str) -> None:
    """Create the index of a table's texts, kept current by triggers while `active` holds.

    Triggers, because a wrong old text on an explicit delete corrupts an external-content index; a view of
    the active rows as its content, so that FTS5's own `rebuild` and `integrity-check` leave the others out,
    too. `active` is SQL over a row called `{row}`.
    """
    (key,) = (column.name for column in table.primary_key.columns)
    name, index, content = table.name, f"{table.name}_fts", f"{table.name}_searchable"
    tagged = ", ".join(f"tagged_{column}" for column in _texts(table))
    old = _tagged(table, key, row="old", active=active)
    put = f"INSERT INTO {index}(rowid, {tagged}) SELECT {key}, {tagged} FROM {content} WHERE {key} = new.{key}"
    drop = f"INSERT INTO {index}({index}, rowid, {tagged}) SELECT 'delete', {key}, {tagged} FROM ({old})"
    decisive = [c.name for c in table.c if c.name in {key, "scope", *_texts(table)} or f".{c.name} " in active]
    changes = f"AFTER UPDATE OF {', '.join(decisive)} ON {name}"
    for statement in (
        f"CREATE VIEW {content} AS {_tagged(table, key, row=name, active=active, rows=name)}",
        f"CREATE VIRTUAL TABLE {index} USING fts5({tagged}, content={content}, content_rowid={key},"
        ' tokenize="porter unicode61 remove_diacritics 2")',
        f"CREATE TRIGGER {name}_fts_insert AFTER INSERT ON {name} BEGIN {put}; END",
        f"CREATE TRIGGER {name}_fts_delete AFTER DELETE ON {name} BEGIN {drop}; END",
        f"CREATE TRIGGER {name}_fts_update {changes} BEGIN {drop}; {put}; END",
    ):
        connection.exec_driver_sql(statement)


def _tagged(table: Table, key: str, *, row: str, active: str, rows: str | None = None) -> str:
    """Return the SELECT of what is indexed of a row, or of all `rows`: `The costs` is ` <tag>The <tag>costs`."""
    texts = _texts(table)
    raw = ", ".join(f"{row}.{column} AS {column}" for column in (key, "scope", "body"))
    given = ", ".join(f"{row}.{column} AS tagged_{column}" for column in texts)
    select = f"SELECT {raw}, {given}{f' FROM {rows}' if rows else ''} WHERE {active.format(row=row)}"
    # SQLite has no `translate`, and its parser takes a few dozen calls one inside the other.
    for some in (SPACED[:12], SPACED[12:24], SPACED[24:]):
        spaced = ", ".join(f"{reduce(_replaced, some, f'tagged_{one}')} AS tagged_{one}" for one in texts)
        select = f"SELECT {key}, scope, body, {spaced} FROM ({select})"
    tags = ", ".join(
        f"replace(rtrim(' ' || trim(tagged_{one})), ' ', ' ' || {_tag('scope')}) AS tagged_{one}" for one in texts
    )
    return f"SELECT {key}, body, {tags} FROM ({select})"


def _replaced(sql: str, sign: str) -> str:
    return f"replace({sql}, '{sign.replace(chr(39), chr(39) * 2)}', ' ')"


def _tag(scope: str) -> str:
    # The stemmer takes an `s` off the end of a word: behind another it stays, and "'s" is not the tag alone.
    return f"'{MARK}' || {scope} || 's'"


def search(
    connection: Connection, table: Table, *, scopes: Iterable[str], asked: Sequence[str], limit: int, bodies: bool
) -> list[tuple[int, float, str]]:
    """Return (row, BM25, body) of the rows in `scopes` that hold one of the words, best first."""
    match = " OR ".join(_phrase(scope, word) for scope in scopes for word in asked)
    found = connection.execute(_query(table, bodies=bodies), {"match": match, "limit": limit})
    hits = [(row, score, body) for row, score, body in found.all()]
    if any(score is None for _, score, _ in hits):
        raise StoreUnusable(f"the full-text index of {table.name} is damaged: `learngate doctor --repair` mends it")
    return hits


def _phrase(scope: str, word: str) -> str:
    return '"' + " ".join(f"{MARK}{scope}s{part}" for part in word.split("_") if part) + '"'


@cache
def _query(table: Table, *, bodies: bool) -> TextClause:
    index, content = f"{table.name}_fts", f"{table.name}_searchable"
    (key,) = (column.name for column in table.primary_key.columns)
    weights = ", ".join(str(WEIGHTS[column]) for column in _texts(table))
    # Materialized, so that rows are read of those that are left, not of all that share a word; joined, because a
    # damaged index may name a row that is not there, or not active.
    return text(
        f"WITH found AS MATERIALIZED (SELECT rowid AS row, bm25({index}, {weights}) AS rank FROM {index}"
        f" WHERE {index} MATCH :match ORDER BY 2 LIMIT :limit)"
        f" SELECT row, -found.rank AS score, {'body' if bodies else repr('')} AS body"
        f" FROM found JOIN {content} ON {key} = row ORDER BY found.rank"
    )


def _texts(table: Table) -> list[str]:
    return [column for column in WEIGHTS if column in table.c]
