"""Embedders: the local ones, how they are chosen, and how any of them is named in the database."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from math import log
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from langchain_core.embeddings import Embeddings

from learngate.stores.errors import ConfigurationError

if TYPE_CHECKING:
    from wordllama import WordLlamaInference

DIMENSIONS = 256
FEW, MANY = 10, 100
"""Rows in scope between which a floor rises."""


@dataclass(frozen=True, slots=True)
class Floor:
    """The cosine below which a dense hit alone is noise.

    It is lower among few rows: the best of ten foreign ones is less near than the best of a hundred.
    """

    many: float
    """From `MANY` rows on."""
    rise: float = 0.0
    """From `FEW` to `MANY`, with the logarithm of how many there are."""
    measured: bool = False
    """Whether it is known how near, by chance, rows are that name half of a question; else those words suffice."""

    def among(self, rows: int) -> float:
        """Return the floor among so many rows."""
        return self.many - self.rise * log(MANY / min(max(rows, FEW), MANY)) / log(MANY / FEW)


FLOORS = {"wordllama": Floor(0.38, 0.14, measured=True), "minilm": Floor(0.37, 0.13, measured=True)}
"""Of each local embedder; `bench/recall.py` has the rule."""
LOCAL = tuple(FLOORS)
OTHER_FLOOR = Floor(0.30, 0.10)
"""Of any other, unless `open_memory(dense_floor=…)` says more."""


class LocalEmbeddings(Embeddings):
    """One that runs in this process: nothing to wait for, no retry, no key."""

    called: ClassVar[str]
    """What chooses it."""
    batch: ClassVar[int] = 256
    patience: ClassVar[float | None] = None
    """Seconds that one search may spend on vectors that are missing; `None`: until all are there."""


class WordLlamaEmbeddings(LocalEmbeddings):
    """The local default: WordLlama with 256 dimensions; about 0.1 ms a text, no network, no key.

    Its weights come inside its wheel and are loaded at the first text.
    """

    called = "wordllama"

    def __init__(self) -> None:
        self.model = f"wordllama-{DIMENSIONS}@{version('wordllama')}"
        self._lock = threading.Lock()
        self._loaded: WordLlamaInference | None = None

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        """Return a unit vector for each text, even for one with no letters in it."""
        if not texts:
            return []
        # An empty text would come back as NaN.
        vectors: list[list[float]] = self._model().embed([text or " " for text in texts], norm=True).tolist()
        return vectors

    def embed_query(self, text: str) -> list[float]:
        """Return the unit vector of one text."""
        return self.embed_documents([text])[0]

    def _model(self) -> WordLlamaInference:
        with self._lock:
            if self._loaded is None:
                with _logging_untouched():
                    import wordllama

                # Without these two it looks for its files in a cache of its own, and fails offline.
                self._loaded = wordllama.WordLlama.load(
                    dim=DIMENSIONS, cache_dir=Path(wordllama.__file__).parent, disable_download=True
                )
            return self._loaded


@contextmanager
def _logging_untouched() -> Iterator[None]:
    """Keep the host's logging as it is: importing wordllama sets up the root logger."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    try:
        yield
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)


SETTINGS = ("model", "model_name", "dimensions", "output_dimensionality", "size")
"""What LangChain's embedders call the settings that make two of one class differ."""


def embedder_name(embedder: Embeddings) -> str:
    """Return the name under which an embedder's vectors are kept; two that differ are never compared."""
    settings: Any = [getattr(embedder, name, None) for name in SETTINGS]
    return ":".join([type(embedder).__name__, *(str(s) for s in settings if s)])


def floor_of(embedder: Embeddings) -> Floor:
    """Return the cosine below which a dense hit alone is noise for an embedder."""
    return FLOORS[embedder.called] if isinstance(embedder, LocalEmbeddings) else OTHER_FLOOR


def chosen_embedder(named: Embeddings | str | None) -> Embeddings:
    """Return the embedder that is meant: itself, one by its name, `$LEARNGATE_EMBEDDER`, or WordLlama.

    Raises:
        ConfigurationError: there is none of this name, or it needs a package that is not installed.
    """
    if isinstance(named, Embeddings):
        return named
    name = os.environ.get("LEARNGATE_EMBEDDER") or WordLlamaEmbeddings.called if named is None else named
    if name == WordLlamaEmbeddings.called:
        return WordLlamaEmbeddings()
    if name == "minilm":
        from learngate.stores.minilm import MiniLMEmbeddings

        return MiniLMEmbeddings()
    raise ConfigurationError(
        f"{name!r} names no embedder: use 'wordllama', 'minilm', or open_memory(embedder=…) with any of LangChain's"
    )
