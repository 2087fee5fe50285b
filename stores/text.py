"""The door: every text is checked here before it is stored."""

from __future__ import annotations

import hashlib
import re
import unicodedata

from learngate.stores.errors import InvalidInput

MESSAGE_LIMIT = 64_000
"""Bytes of one message's text: about 16,000 tokens."""
LEARNING_LIMIT = 4_000
TITLE_LIMIT = 200
MEMORY_LIMIT = 2_000
NAME_LIMIT = 200

ERASED = "erased user "
"""How the alias begins that stands where a person's name was erased."""
_ALIAS = re.compile(rf"{ERASED}[0-9a-f]{{8}}")

_WORD = re.compile(r"\w+", re.UNICODE)
_NEGATIVE = re.compile(r"(?<!\w)-(?=\d)")
_MEANT = frozenset("#%&*@")


class _Kept(dict[int, int]):
    """What `meant` makes of each character: itself, or a space; each is looked up once."""

    def __missing__(self, point: int) -> int:
        char = chr(point)
        self[point] = point if unicodedata.category(char)[0] in "LMNS" or char in _MEANT else ord(" ")
        return self[point]


_KEPT = _Kept()


def check_text(text: object, *, what: str, limit: int) -> str:
    """Return `text` stripped, or say why it cannot be stored.

    `limit` is in bytes of UTF-8. Lone surrogates would come back from a checkpoint as `?` and raise deep
    in a driver; NUL ends a string in half of all tools: both are refused here, before anything runs.

    Raises:
        InvalidInput: not a string, empty, too long, or holding NUL or a lone surrogate.
    """
    if not isinstance(text, str):
        raise InvalidInput(f"{what} must be text, not {type(text).__name__}")
    size = check_storable(text, what=what)
    if size > limit:
        raise InvalidInput(f"{what} has {size:,} bytes; at most {limit:,} are taken: shorten or split it")
    stripped = text.strip()
    if not stripped:
        raise InvalidInput(f"{what} is empty")
    return stripped


def check_storable(text: str, *, what: str) -> int:
    """Return how many bytes of UTF-8 a text has, or say why no database takes it.

    Raises:
        InvalidInput: it holds NUL or a lone surrogate.
    """
    try:
        size = len(text.encode())
    except UnicodeEncodeError as error:
        raise InvalidInput(
            f"{what} holds a lone surrogate at character {error.start}: decode the text properly first"
            " (for example with errors='replace')"
        ) from None
    if "\x00" in text:
        raise InvalidInput(f"{what} holds a NUL character: remove it first")
    return size


def check_name(name: object, *, what: str) -> str:
    """Return an id or a name as given, or say why it cannot be one.

    Raises:
        InvalidInput: as `check_text`, or when it holds control characters, line breaks or surrounding spaces.
    """
    checked = check_text(name, what=what, limit=NAME_LIMIT)
    if checked != name or any(unicodedata.category(c) in {"Cc", "Zl", "Zp"} for c in checked):
        raise InvalidInput(f"{what} {name!r} holds control characters or surrounding spaces: remove them")
    return checked


def is_alias(name: object) -> bool:
    """Whether a name is one that stands where a person's was erased."""
    return isinstance(name, str) and _ALIAS.fullmatch(name) is not None


def check_person(name: object, *, what: str) -> str:
    """Return the name of somebody who acts, as given: nobody acts under the name of who was erased.

    Raises:
        InvalidInput: as `check_name`, or when it reads as an erased user's alias.
    """
    checked = check_name(name, what=what)
    if is_alias(checked):
        raise InvalidInput(f"{what} {checked!r} reads as somebody who was erased: take another name")
    return checked


def check_namespace(namespace: object, *, what: str = "the namespace") -> str:
    """Return a namespace as given: segments joined by single slashes, such as `acme/finance`.

    Raises:
        InvalidInput: when a segment is empty or padded with spaces, or the name cannot be stored.
    """
    checked = check_name(namespace, what=what)
    if not all(segment and segment == segment.strip() for segment in checked.split("/")):
        raise InvalidInput(
            f"{what} {checked!r} has an empty or padded segment: write it as 'team' or 'acme/finance'"
        )
    return checked


def lineage(namespace: str) -> list[str]:
    """Return the namespaces that `namespace` reads: itself and its ancestors, nearest first."""
    parts = check_namespace(namespace).split("/")
    return ["/".join(parts[:n]) for n in range(len(parts), 0, -1)]


def words(text: str) -> list[str]:
    """Return the words of a text, folded for comparison."""
    return _WORD.findall(unicodedata.normalize("NFKC", text).casefold())


def digest(text: str) -> str:
    """Return the same digest for texts that differ only in case, spacing and punctuation."""
    return fingerprint(" ".join(meant(text)) or text.strip())


def meant(text: str) -> list[str]:
    """Return a text's words with the signs that carry meaning: C is not C++, nor 5 -5, nor 3 % three dollars."""
    marked = _NEGATIVE.sub("\N{MINUS SIGN}", unicodedata.normalize("NFKC", text).casefold())
    return marked.translate(_KEPT).split()


def fingerprint(text: str) -> str:
    """Return the same digest for the same text, to the letter."""
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def clean(text: str) -> str:
    """Return a text from a model or tool made fit for a search index: no NUL, no lone surrogate."""
    return text.replace("\x00", " ").encode(errors="replace").decode()
