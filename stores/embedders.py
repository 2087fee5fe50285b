"""Embedders: the local default, and how any of them is named in the database."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from langchain_core.embeddings import Embeddings

if TYPE_CHECKING:
    from wordllama import WordLlamaInference

DIMENSIONS = 256


class WordLlamaEmbeddings(Embeddings):
    """The local default: WordLlama with 256 dimensions; about 0.1 ms a text, no network, no key.

    Its weights come inside its wheel and are loaded at the first text.
    """

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
