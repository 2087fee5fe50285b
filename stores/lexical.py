"""Full-text search: the database's own, FTS5 on SQLite and tsvector on PostgreSQL, the scope inside the index.

A row's scope (its namespace or its user) is in the index itself, in front of each word or as one token, which
keeps strangers' rows out: a hundred times cheaper than filtering afterwards, and scoped by construction.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Iterable

from sqlalchemy import Connection, Table

from learngate.stores import fts5, tsvector
from learngate.stores.text import clean, words

_WORD = re.compile(r"\w+")
_CONTROL = re.compile(r"[\x01-\x08\x0b\x0c\x0e-\x1f\x7f]")
_BEHIND_A_SIGN = re.compile(r"(?<=[^\w\x00-\x7f])\w+")
_VOWELLESS = str.maketrans("ae", "gh")
_MARKED = re.compile(r"([a-z])[\u0300-\u036f]+", re.IGNORECASE)
_CJK = re.compile(r"[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af]+")

STOP_WORDS = frozenset(
    """
    a about after all also am an and any are as at be because been before being but by can could did do does for
    from had has have he her his how i if in into is it its me more most my no not of on only or other our out
    over own she should so some such than that the their them then there these they this those to too up us was
    we were what when where which while who whom why will with would you your
    """.split()  # noqa: SIM905 - a list of a hundred quoted words is no easier to read
)

ENDINGS = ("ings", "ing", "ed", "es", "s")


def scope_token(kind: str, scope: str) -> str:
    """Return the one search token that stands for a namespace or a user.

    It has no vowel: in front of a word, one would count as a syllable for the stemmer.
    """
    digest = hashlib.blake2b(f"{kind}:{scope}".encode(), digest_size=10).hexdigest()
    return "x" + digest.translate(_VOWELLESS)


def search_body(*texts: str) -> str:
    """Return what the index reads of a row.

    What the indexes do not do is added: a word as a query folds it (ß, full-width letters, fractions), the pairs
    of characters of Chinese, Japanese and Korean, a run of which is one word to them, and a word behind a sign
    beyond ASCII, which SQLite's takes for no beginning of a word.
    """
    body = _CONTROL.sub(" ", clean("\n".join(t for t in texts if t)))
    if body.isascii():
        return body
    added = [word for raw in _WORD.findall(body) for word in _forms(raw)]
    added += _BEHIND_A_SIGN.findall(body)
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


def content_stems(query: str) -> set[str]:
    """Return the stems of a query's content words."""
    return {stem(word) for word in content_words(query)}


def plain(text: str) -> str:
    """Return a text without the accents of Latin letters, which the indexes leave out, too."""
    if text.isascii():
        return text
    return unicodedata.normalize("NFC", _MARKED.sub(r"\1", unicodedata.normalize("NFD", text)))


def stem(word: str) -> str:
    """Return what is left of an English word without its ending; enough to compare two texts' words in memory.

    The databases' own stemmers are not within reach here. Any other word stays, or is folded alike on both sides.
    """
    word = plain(word)
    for ending in ENDINGS if word.endswith(ENDINGS) else ():
        if word.endswith(ending) and len(word) - len(ending) >= 3 and not word.endswith("ss"):
            word = word[: -len(ending)]
            break
    # "Policies" has lost its ending, "policy" is made like it.
    if len(word) > 2 and word[-1] == "y" and word[-2] not in "aeiou":
        return f"{word[:-1]}i"
    doubled = len(word) > 3 and word[-1] == word[-2] and word[-1] not in "aeiouls"
    return word[:-1] if doubled else word.removesuffix("e") if len(word) > 3 else word


def starts(stems: Iterable[str]) -> set[str]:
    """Return the three letters that a plain word begins with if it has one of these stems."""
    first = {word[:3] for word in stems}
    return first | {f"{letters[:2]}y" for letters in first if letters[2:] == "i"}


def prepare(connection: Connection) -> None:
    """Create, once and before the first index, what the database needs to read words."""
    if _is_postgres(connection):
        tsvector.prepare(connection)


def create(connection: Connection, table: Table, *, active: str) -> None:
    """Create the index of a table's `body` and `scope`, kept current by the database while `active` holds.

    `active` is SQL over a row called `{row}`.
    """
    creates = tsvector.create if _is_postgres(connection) else fts5.create
    creates(connection, table, active=active)


def search(
    connection: Connection, table: Table, *, scopes: Iterable[str], query: str, limit: int, bodies: bool = False
) -> list[tuple[int, float, str]]:
    """Return (row, score, body) of the rows in `scopes` that share a word with `query`, best first.

    The score is positive, larger is better, and compares within one search only. The body is the row's
    own text, without what was said before it, and `""` unless `bodies` are asked for. Any text is a safe query.
    """
    asked = content_words(query)
    if not asked:
        return []
    finds = tsvector.search if _is_postgres(connection) else fts5.search
    return finds(connection, table, scopes=scopes, asked=asked, limit=limit, bodies=bodies)


def _is_postgres(connection: Connection) -> bool:
    return connection.dialect.name == "postgresql"
