"""What the environment says: read here and nowhere else in the graph."""

from __future__ import annotations

import os

from learngate.stores.errors import ConfigurationError

DEFAULT_MODEL = "google_genai:gemini-3-flash-preview"
OFFLINE = "offline"
GEMINI_KEYS = ("GOOGLE_API_KEY", "GEMINI_API_KEY")


def has_gemini_key() -> bool:
    """Whether a key for Gemini is set."""
    return any(os.environ.get(name) for name in GEMINI_KEYS)


def chosen_model(name: str | None = None) -> str:
    """Return the model to use: as named, else `LEARNGATE_MODEL`, else Gemini.

    Raises:
        ConfigurationError: nothing was named and Gemini has no key; `"offline"` is never chosen silently.
    """
    chosen = name or os.environ.get("LEARNGATE_MODEL")
    if chosen:
        return chosen
    if has_gemini_key():
        return DEFAULT_MODEL
    raise ConfigurationError(
        f"no model: set {GEMINI_KEYS[0]} for Gemini, name another (--model, LEARNGATE_MODEL),"
        f' or choose the stand-in "{OFFLINE}", which needs no key and no network'
    )
