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

SPACED = [*string.punctuation, *"\t\n\r", *["  "] * 3]
"""What becomes one space, in turn; a word behind a sign beyond ASCII is said once more by `lexical.search_body`."""


def create(connection: Connection, table: Table, *, active: str) -> None:
    """Create the index of a table's texts, kept current by triggers while `active` holds.

    Its content is a view of the active rows, so that FTS5's own `rebuild` and `integrity-check` leave the others
    out, too. Triggers, because a wrong old text on an explicit delete corrupts an external-content index: it goes
    before the row changes, as the view still has it. `active` is SQL over a row called `{row}`.
    """
    (key,) = (column.name for column in table.primary_key.columns)
    name, index, content = table.name, f"{table.name}_fts", f"{table.name}_searchable"
    texts = _texts(table)
    tagged = ", ".join(f"tagged_{column}" for column in texts)
    put = f"INSERT INTO {index}(rowid, {tagged}) SELECT {key}, {tagged} FROM {content} WHERE {key} = new.{key}"
    drop = (
        f"INSERT INTO {index}({index}, rowid, {tagged})"
        f" SELECT 'delete', {key}, {tagged} FROM {content} WHERE {key} = old.{key}"
    )
    for statement in (
        f"CREATE VIEW {content} AS {_searchable(table, key, active)}",
        f"CREATE VIRTUAL TABLE {index} USING fts5({tagged}, content={content}, content_rowid={key},"
        ' tokenize="porter unicode61 remove_diacritics 2")',
        f"CREATE TRIGGER {name}_fts_insert AFTER INSERT ON {name} BEGIN {put}; END",
        f"CREATE TRIGGER {name}_fts_delete BEFORE DELETE ON {name} BEGIN {drop}; END",
        f"CREATE TRIGGER {name}_fts_change BEFORE UPDATE ON {name} BEGIN {drop}; END",
        f"CREATE TRIGGER {name}_fts_update AFTER UPDATE ON {name} BEGIN {put}; END",
    ):
        connection.exec_driver_sql(statement)


def _searchable(table: Table, key: str, active: str) -> str:
    """Return the SELECT of what is indexed: of a row of scope x, `The fund's costs` is ` xThe xfund xs xcosts`."""
    select = f"{table.name} WHERE {active.format(row=table.name)}"
    words = {column: column for column in _texts(table)}
    # SQLite has no `translate`, and its parser takes a few dozen calls one inside the other.
    for some in (SPACED[:12], SPACED[12:24], SPACED[24:]):
        words = {column: reduce(_replaced, some, sql) for column, sql in words.items()}
        listed = ", ".join(f"{sql} AS tagged_{column}" for column, sql in words.items())
        select = f"(SELECT {key}, scope, body, {listed} FROM {select})"
        words = {column: f"tagged_{column}" for column in words}
    tagged = ", ".join(f"replace(' ' || trim({sql}), ' ', ' ' || scope) AS {sql}" for sql in words.values())
    return f"SELECT {key}, scope, body, {tagged} FROM {select}"


def _replaced(sql: str, sign: str) -> str:
    return f"replace({sql}, '{sign.replace(chr(39), chr(39) * 2)}', ' ')"


def search(
    connection: Connection, table: Table, *, scopes: Iterable[str], asked: Sequence[str], limit: int, bodies: bool
) -> list[tuple[int, float, str]]:
    """Return (row, BM25, body) of the rows in `scopes` that hold one of the words, best first."""
    scopes = [*scopes]
    match = " OR ".join(_phrase(scope, word) for scope in scopes for word in asked)
    found = connection.execute(
        _query(table, bodies=bodies), {"match": match, "limit": limit, "scopes": " ".join(scopes)}
    )
    hits = [(row, score, body) for row, score, body in found.all()]
    if any(score is None for _, score, _ in hits):
        raise StoreUnusable(f"the full-text index of {table.name} is damaged: `learngate doctor --repair` mends it")
    return hits


def _phrase(scope: str, word: str) -> str:
    return '"' + " ".join(scope + part for part in word.split("_") if part) + '"'


@cache
def _query(table: Table, *, bodies: bool) -> TextClause:
    index, content = f"{table.name}_fts", f"{table.name}_searchable"
    (key,) = (column.name for column in table.primary_key.columns)
    weights = ", ".join(str(WEIGHTS[column]) for column in _texts(table))
    # Materialized, so that rows are read of those that are left, not of all that share a word. What a row says
    # decides: a text may hold another scope's token, and a damaged index name a row that is not there or active.
    return text(
        f"WITH found AS MATERIALIZED (SELECT rowid AS row, bm25({index}, {weights}) AS rank FROM {index}"
        f" WHERE {index} MATCH :match ORDER BY 2 LIMIT :limit)"
        f" SELECT row, -found.rank AS score, {'body' if bodies else repr('')} AS body"
        f" FROM found JOIN {content} ON {key} = row WHERE instr(:scopes, scope) ORDER BY found.rank"
    )


def _texts(table: Table) -> list[str]:
    return [column for column in WEIGHTS if column in table.c]
