"""SQLite's full-text search: FTS5, each word indexed behind its row's scope.

So a search reads what its own scope holds of a word and nothing of others': neither their rows nor how often they
say it. As a token beside the words, a scope is counted whole at each search, and so are the words of all scopes.
"""

from __future__ import annotations

import re
import string
from collections.abc import Iterable, Sequence
from functools import cache, reduce

from sqlalchemy import Connection, Table, column, text

from learngate.stores.errors import StoreUnusable
from learngate.stores.prepared import Prepared

WEIGHTS = {"body": 3.0, "before": 1.0, "applies_when": 3.0}
"""What a word counts: in a row's own text, in what was said before it, and once more in a learning's trigger."""
MARK, END = "\ue000", "s"
"""Around a scope in a tag. No text has the mark: it becomes a space there, and FTS5 takes it for a letter.

The stemmer takes an `s` off the end of a word, but not behind another: the `s` of "what's" leaves no tag alone.
"""
SPACED = [
    *((sign, " ") for sign in (MARK, *string.punctuation, *"\t\n\r")),
    # However many spaces there are then, one is left: of a text that has no < and no > any more.
    *((" ", "<>"), ("><", ""), ("<>", " ")),
]
"""What is replaced by what in a text; words behind signs beyond ASCII are said again by `lexical.search_body`."""


def create(connection: Connection, table: Table, *, active: str) -> None:
    """Create the index of a table's texts, kept current by triggers while `active` holds.

    Triggers, because a wrong old text on an explicit delete corrupts an external-content index; a view of
    the active rows as its content, so that FTS5's own `rebuild` and `integrity-check` leave the others out,
    too. `active` is SQL over a row called `{row}`.
    """
    (key,) = (column.name for column in table.primary_key.columns)
    name, index, content, texts = table.name, f"{table.name}_fts", f"{table.name}_searchable", _texts(table)
    columns = ", ".join(f"tagged_{text}" for text in texts)
    decisive = ", ".join(dict.fromkeys([key, "scope", *texts, *re.findall(r"\{row\}\.(\w+)", active)]))

    def tagged(row: str) -> str:
        return ", ".join(f"{_tagged(f'{row}.{text}', f'{row}.scope')} AS tagged_{text}" for text in texts)

    put = f"INSERT INTO {index}(rowid, {columns}) SELECT {key}, {columns} FROM {content} WHERE {key} = new.{key}"
    drop = (
        f"INSERT INTO {index}({index}, rowid, {columns})"
        f" SELECT 'delete', old.{key}, {tagged('old')} WHERE {active.format(row='old')}"
    )
    for statement in (
        f"CREATE VIEW {content} AS SELECT {key}, body, {tagged(name)} FROM {name} WHERE {active.format(row=name)}",
        f"CREATE VIRTUAL TABLE {index} USING fts5({columns}, content={content}, content_rowid={key},"
        ' tokenize="porter unicode61 remove_diacritics 2")',
        f"CREATE TRIGGER {name}_fts_insert AFTER INSERT ON {name} BEGIN {put}; END",
        f"CREATE TRIGGER {name}_fts_delete AFTER DELETE ON {name} BEGIN {drop}; END",
        f"CREATE TRIGGER {name}_fts_update AFTER UPDATE OF {decisive} ON {name} BEGIN {drop}; {put}; END",
    ):
        connection.exec_driver_sql(statement)


def _tagged(text: str, scope: str) -> str:
    """Return SQL for a text's words, each behind its row's scope: of `The costs` it is ` <tag>The <tag>costs`."""
    select = f"SELECT {text} AS said"
    # SQLite has no `translate`, and its parser takes a few dozen calls one inside the other.
    for some in (SPACED[:13], SPACED[13:26], SPACED[26:]):
        select = f"SELECT {reduce(_replaced, some, 'said')} AS said FROM ({select})"
    return f"(SELECT replace(rtrim(' ' || trim(said)), ' ', ' {MARK}' || {scope} || '{END}') FROM ({select}))"


def _replaced(sql: str, pair: tuple[str, str]) -> str:
    old, new = (one.replace("'", "''") for one in pair)
    return f"replace({sql}, '{old}', '{new}')"


def search(
    connection: Connection, table: Table, *, scopes: Iterable[str], asked: Sequence[str], limit: int, bodies: bool
) -> list[tuple[int, float, str]]:
    """Return (row, BM25, body) of the rows in `scopes` that hold one of the words, best first."""
    match = " OR ".join(_phrase(scope, word) for scope in scopes for word in asked)
    found = _query(table, bodies=bodies).all(connection, {"match": match, "limit": limit})
    # A damaged row may have no body.
    hits = [(row, score, body or "") for row, score, body in found]
    if any(score is None for _, score, _ in hits):
        raise StoreUnusable(f"the full-text index of {table.name} is damaged: `learngate doctor --repair` mends it")
    return hits


def _phrase(scope: str, word: str) -> str:
    return '"' + " ".join(f"{MARK}{scope}{END}{part}" for part in word.split("_") if part) + '"'


@cache
def _query(table: Table, *, bodies: bool) -> Prepared:
    index, content = f"{table.name}_fts", f"{table.name}_searchable"
    (key,) = (column.name for column in table.primary_key.columns)
    weights = ", ".join(str(WEIGHTS[column]) for column in _texts(table))
    # Materialized, so that rows are read of those that are left, not of all that share a word; joined, because a
    # damaged index may name a row that is not there, or not active.
    found = text(
        f"WITH found AS MATERIALIZED (SELECT rowid AS row, bm25({index}, {weights}) AS rank FROM {index}"
        f" WHERE {index} MATCH :match ORDER BY 2 LIMIT :limit)"
        f" SELECT row, -found.rank AS score, {'body' if bodies else repr('')} AS body"
        f" FROM found JOIN {content} ON {key} = row ORDER BY found.rank"
    )
    return Prepared(found.columns(column("row"), column("score"), column("body")))


def _texts(table: Table) -> list[str]:
    return [column for column in WEIGHTS if column in table.c]
