"""SQLite's full-text search: FTS5, with the scope as a token of the index."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cache

from sqlalchemy import Connection, Table, TextClause, text

from learngate.stores.errors import StoreUnusable

WEIGHTS = {"body": 3.0, "before": 1.0, "applies_when": 3.0}
"""What a word counts: in a row's own text, in what was said before it, and once more in a learning's trigger."""


def create(connection: Connection, table: Table, *, active: str) -> None:
    """Create the index of a table's `body` and `scope`, kept current by triggers while `active` holds.

    Triggers, because a wrong old text on an explicit delete corrupts an external-content index; a view of
    the active rows as its content, so that FTS5's own `rebuild` and `integrity-check` leave the others out,
    too. `active` is SQL over a row called `{row}`.
    """
    (key,) = (column.name for column in table.primary_key.columns)
    name, index = table.name, f"{table.name}_fts"
    content = f"{table.name}_searchable"
    columns = [*_texts(table), "scope"]
    listed, new, old = (", ".join(f"{row}{column}" for column in columns) for row in ("", "new.", "old."))
    put = f"INSERT INTO {index}(rowid, {listed}) SELECT new.{key}, {new} WHERE {active.format(row='new')}"
    drop = (
        f"INSERT INTO {index}({index}, rowid, {listed})"
        f" SELECT 'delete', old.{key}, {old} WHERE {active.format(row='old')}"
    )
    for statement in (
        f"CREATE VIEW {content} AS SELECT {key}, {listed} FROM {name} WHERE {active.format(row=name)}",
        f"CREATE VIRTUAL TABLE {index} USING fts5({listed}, content={content}, content_rowid={key},"
        ' tokenize="porter unicode61 remove_diacritics 2")',
        f"CREATE TRIGGER {name}_fts_insert AFTER INSERT ON {name} BEGIN {put}; END",
        f"CREATE TRIGGER {name}_fts_delete AFTER DELETE ON {name} BEGIN {drop}; END",
        f"CREATE TRIGGER {name}_fts_update AFTER UPDATE ON {name} BEGIN {drop}; {put}; END",
    ):
        connection.exec_driver_sql(statement)


def search(
    connection: Connection, table: Table, *, scopes: Iterable[str], asked: Sequence[str], limit: int, bodies: bool
) -> list[tuple[int, float, str]]:
    """Return (row, BM25, body) of the rows in `scopes` that hold one of the words, best first."""
    quoted = " OR ".join('"' + word.replace('"', '""') + '"' for word in asked)
    scoped = " OR ".join(f'"{scope}"' for scope in scopes)
    match = f"scope:({scoped}) AND {{{' '.join(_texts(table))}}}:({quoted})"
    found = connection.execute(_query(table, bodies=bodies), {"match": match, "limit": limit})
    # A damaged index may name a row that is not there, or not active.
    hits = [(row, score, body or "") for row, score, body in found.all()]
    if any(score is None for _, score, _ in hits):
        raise StoreUnusable(f"the full-text index of {table.name} is damaged: `learngate doctor --repair` mends it")
    return hits


@cache
def _query(table: Table, *, bodies: bool) -> TextClause:
    index = f"{table.name}_fts"
    (key,) = (column.name for column in table.primary_key.columns)
    weights = ", ".join(str(WEIGHTS[column]) for column in _texts(table))
    body = f"(SELECT body FROM {table.name}_searchable WHERE {key} = row)" if bodies else "''"
    # Materialized, so that bodies are read of those that are left, not of all that share a word.
    return text(
        f"WITH found AS MATERIALIZED (SELECT rowid AS row, bm25({index}, {weights}, 0.0) AS rank FROM {index}"
        f" WHERE {index} MATCH :match ORDER BY 2 LIMIT :limit)"
        f" SELECT row, -found.rank AS score, {body} AS body FROM found ORDER BY found.rank"
    )


def _texts(table: Table) -> list[str]:
    return [column for column in WEIGHTS if column in table.c]
