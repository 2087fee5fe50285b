"""SQLite's full-text search: FTS5, with the scope as a token of the index."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from sqlalchemy import Connection, Table, text


def create(connection: Connection, table: Table, *, active: str) -> None:
    """Create the index of a table's `body` and `scope`, kept current by triggers while `active` holds.

    Triggers, because a wrong old text on an explicit delete corrupts an external-content index; a view of
    the active rows as its content, so that FTS5's own `rebuild` and `integrity-check` leave the others out,
    too. `active` is SQL over a row called `{row}`.
    """
    (key,) = (column.name for column in table.primary_key.columns)
    name, index = table.name, f"{table.name}_fts"
    content = f"{table.name}_searchable"
    put = (
        f"INSERT INTO {index}(rowid, body, scope)"
        f" SELECT new.{key}, new.body, new.scope WHERE {active.format(row='new')}"
    )
    drop = (
        f"INSERT INTO {index}({index}, rowid, body, scope)"
        f" SELECT 'delete', old.{key}, old.body, old.scope WHERE {active.format(row='old')}"
    )
    for statement in (
        f"CREATE VIEW {content} AS SELECT {key}, body, scope FROM {name} WHERE {active.format(row=name)}",
        f"CREATE VIRTUAL TABLE {index} USING fts5(body, scope, content={content}, content_rowid={key},"
        ' tokenize="porter unicode61 remove_diacritics 2")',
        f"CREATE TRIGGER {name}_fts_insert AFTER INSERT ON {name} BEGIN {put}; END",
        f"CREATE TRIGGER {name}_fts_delete AFTER DELETE ON {name} BEGIN {drop}; END",
        f"CREATE TRIGGER {name}_fts_update AFTER UPDATE ON {name} BEGIN {drop}; {put}; END",
    ):
        connection.exec_driver_sql(statement)


def search(
    connection: Connection, table: Table, *, scopes: Iterable[str], asked: Sequence[str], limit: int
) -> list[tuple[int, float]]:
    """Return (row, BM25) of the rows in `scopes` that hold one of the words, best first."""
    quoted = " OR ".join('"' + word.replace('"', '""') + '"' for word in asked)
    scoped = " OR ".join(f'"{scope}"' for scope in scopes)
    index = f"{table.name}_fts"
    found = connection.execute(
        text(
            f"SELECT rowid, -bm25({index}, 1.0, 0.0) AS score FROM {index}"
            f" WHERE {index} MATCH :match ORDER BY bm25({index}, 1.0, 0.0) LIMIT :limit"
        ),
        {"match": f"scope:({scoped}) AND body:({quoted})", "limit": limit},
    )
    return [(row.rowid, row.score) for row in found]
