"""Full-text search: the database's own. On SQLite that is FTS5, with the scope inside the index.

A row's scope (its namespace or its user) is one token of an indexed column, so that the index itself
keeps strangers' rows out: a hundred times cheaper than filtering afterwards, and scoped by construction.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable

from sqlalchemy import Connection, Table, text

from learngate.stores.text import clean, words

_WORD = re.compile(r"\w+")
_CJK = re.compile(r"[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af]+")

STOP_WORDS = frozenset(
    """
    a about after all also am an and any are as at be because been before being but by can could did do does for
    from had has have he her his how i if in into is it its me more most my no not of on only or other our out
    over own she should so some such than that the their them then there these they this those to too up us was
    we were what when where which while who whom why will with would you your
    """.split()  # noqa: SIM905 - a list of a hundred quoted words is no easier to read
)


def scope_token(kind: str, scope: str) -> str:
    """Return the one search token that stands for a namespace or a user."""
    return "x" + hashlib.blake2b(f"{kind}:{scope}".encode(), digest_size=10).hexdigest()


def search_body(*texts: str) -> str:
    """Return what the index reads of a row.

    What the tokenizer does not do is added: a word as a query folds it (ß, full-width letters, fractions),
    and the pairs of characters of Chinese, Japanese and Korean, a run of which is one word to it.
    """
    body = clean("\n".join(t for t in texts if t))
    added = [word for raw in _WORD.findall(body) for word in _forms(raw)]
    return f"{body}\n{' '.join(added)}" if added else body


def _forms(raw: str) -> list[str]:
    folded, lower = words(raw), raw.lower()
    same = folded == [lower] and len(lower) == len(raw)
    return ([] if same else folded) + _pairs(folded)


def _pairs(folded: Iterable[str]) -> list[str]:
    return [run[i : i + 2] for word in folded for run in _CJK.findall(word) for i in range(len(run) - 1)]


def content_words(query: str) -> list[str]:
    """Return a query's distinct words without stop words; with them where nothing else is left."""
    distinct = list(dict.fromkeys(words(clean(query))))
    content = [word for word in distinct if word not in STOP_WORDS] or distinct
    return content[:64] + _pairs(content)[:64]


def create(connection: Connection, table: Table, *, key: str, active: str) -> None:
    """Create the index of a table's `body` and `scope`, kept current by triggers while `active` holds.

    Triggers, because a wrong old text on an explicit delete corrupts an external-content index; a view of
    the active rows as its content, so that FTS5's own `rebuild` and `integrity-check` leave the others out,
    too. `active` is SQL over a row called `{row}`.
    """
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
    connection: Connection, table: Table, *, scopes: Iterable[str], query: str, limit: int
) -> list[tuple[int, float]]:
    """Return (row, BM25) of the rows in `scopes` that share a word with `query`, best first.

    BM25 is given as a positive number, larger is better. Any text is a safe query.
    """
    asked = content_words(query)
    if not asked:
        return []
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
