"""PostgreSQL's full-text search: a tsvector, with the scope as a lexeme of it, under a GIN index."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from sqlalchemy import Connection, Table, text

INDEXED = 250_000
"""Characters of a row that are indexed: the lexemes of one tsvector may take a megabyte."""
COMMON = 1000
"""In so many rows a word is common. Rarer ones weigh more: `ts_rank` does not know that, so it is counted here."""
_PUNCTUATION = """!"#$%&''()*+,-./:;<=>?@[\\]^_`{|}~"""


def prepare(connection: Connection) -> None:
    """Create what reads words: English stems without stop words, and without accents, as FTS5 is asked to."""
    for statement in (
        "CREATE EXTENSION IF NOT EXISTS unaccent",
        "CREATE TEXT SEARCH DICTIONARY learngate_stem (TEMPLATE = snowball, LANGUAGE = english)",
        "CREATE TEXT SEARCH CONFIGURATION learngate (COPY = pg_catalog.simple)",
        "ALTER TEXT SEARCH CONFIGURATION learngate ALTER MAPPING FOR asciiword, word, numword"
        " WITH unaccent, learngate_stem",
    ):
        connection.exec_driver_sql(statement)


def create(connection: Connection, table: Table, *, active: str) -> None:
    """Create the index of a table's `body` and `scope`, kept current by a generated column.

    Rows that are not active have none. Punctuation goes first: the parser would take `expense/ratio` for a path.
    """
    name = table.name
    lexemes = f"array_to_tsvector(ARRAY[scope::text]) || {_lexemes('body')}"
    if "before" in table.c:
        # What was said before counts two fifths, as the server's own weights have it.
        lexemes = f"setweight({lexemes}, 'A') || setweight({_lexemes('before')}, 'B')"
    if "applies_when" in table.c:
        # A learning's trigger is in its body, too: its words count twice.
        lexemes = f"{lexemes} || {_lexemes('applies_when')}"
    lexemes = lexemes.replace("%", "%%")
    connection.exec_driver_sql(
        f"ALTER TABLE {name} ADD COLUMN searchable tsvector"
        f" GENERATED ALWAYS AS (CASE WHEN {active.format(row=name)} THEN {lexemes} END) STORED"
    )
    # What was written last stands in a list that each search reads whole: by default four megabytes of it.
    connection.exec_driver_sql(
        f"CREATE INDEX {name}_searchable ON {name} USING gin (searchable) WITH (gin_pending_list_limit = 64)"
    )


def _lexemes(column: str) -> str:
    plain = f"translate(left({column}, {INDEXED}), '{_PUNCTUATION}', repeat(' ', 32))"
    return f"to_tsvector('learngate', {plain})"


def search(
    connection: Connection, table: Table, *, scopes: Iterable[str], asked: Sequence[str], limit: int, bodies: bool
) -> list[tuple[int, float, str]]:
    """Return (row, rank, body) of the rows in `scopes` that hold one of the words; rare words weigh more."""
    (key,) = (column.name for column in table.primary_key.columns)
    # The index narrows it down; the column decides, because a text may hold another scope's token.
    scoped = "searchable @@ (CAST(:scopes AS tsquery) && {words}) AND scope = ANY(:exactly)"
    exactly = list(scopes)
    found = connection.execute(
        text(
            "WITH asked AS MATERIALIZED (SELECT words, ln((:common + 1) / (0.5 + (SELECT count(*) FROM"
            f" (SELECT FROM {table.name} WHERE {scoped.format(words='words')} LIMIT :common) AS held))) AS weight"
            " FROM (SELECT to_tsquery('learngate', word) AS words"
            " FROM unnest(CAST(:each AS text[])) AS word) AS each),"
            " whole AS MATERIALIZED (SELECT to_tsquery('learngate', :all) AS words)"
            f" SELECT {key} AS row, {'body' if bodies else repr('')} AS body,"
            " (SELECT sum(weight * ts_rank(searchable, asked.words, 1)) FROM asked) AS score"
            f" FROM {table.name}, whole WHERE numnode(whole.words) > 0 AND {scoped.format(words='whole.words')}"
            f" ORDER BY score DESC, {key} LIMIT :limit"
        ),
        {
            "each": [f"'{word}'" for word in asked],
            "all": " | ".join(f"'{word}'" for word in asked),
            "scopes": " | ".join(f"'{scope}'" for scope in exactly),
            "exactly": exactly,
            "common": COMMON,
            "limit": limit,
        },
    )
    return [(row.row, float(row.score), row.body) for row in found.all()]
