"""A name becomes a chat model, or an error that says how to mend it. Providers are imported when used."""

from __future__ import annotations

import importlib.util
from typing import Any

from langchain_core.language_models import BaseChatModel
from langchain_core.runnables import Runnable
from langchain_core.tools import BaseTool

from learngate.graph.settings import GEMINI_KEYS, OFFLINE, has_gemini_key
from learngate.nodes.reflection import Reflection
from learngate.stores.errors import ConfigurationError

SCRIPTED = "scripted"
NOSTREAM = "nostream"
"""LangGraph's tag for a model call whose tokens are not streamed to the user."""


def resolve_model(model: BaseChatModel | str) -> BaseChatModel:
    """Return a chat model: one as given, `"offline"`, `"scripted"`, or any name `init_chat_model` takes.

    Raises:
        ConfigurationError: no such provider, its package is not installed, or its key is missing.
    """
    if isinstance(model, BaseChatModel):
        return model
    if not isinstance(model, str) or not model.strip():
        raise ConfigurationError(
            f"model must be a chat model or a name such as 'google_genai:gemini-3-flash-preview', not {model!r}"
        )
    if model == OFFLINE:
        from learngate.graph.offline import OfflineChat

        return OfflineChat()
    if model == SCRIPTED:
        from learngate.graph.scripted import ScriptedChat

        return ScriptedChat()
    return _from_provider(model)


def model_name(model: BaseChatModel) -> str:
    """Return a model's name as a proposer: what the provider calls it."""
    for attribute in ("model", "model_name", "model_id"):
        name = getattr(model, attribute, None)
        if isinstance(name, str) and name:
            return name.removeprefix("models/")
    return model._llm_type


def reflector_of(model: BaseChatModel) -> Runnable[Any, Any]:
    """Return the model bound to `Reflection`, never streamed; it gives the raw reply beside the parsed one.

    Raises:
        ConfigurationError: the model has no structured output.
    """
    try:
        bound = model.with_structured_output(Reflection, include_raw=True)
    except NotImplementedError:
        raise ConfigurationError(
            f"{type(model).__name__} has no structured output, which reflection needs:"
            ' use another model, or build the graph with reflection="off"'
        ) from None
    return bound.with_config(tags=[NOSTREAM])


def with_tools(model: BaseChatModel, tools: list[BaseTool]) -> Runnable[Any, Any]:
    """Return the model with tools bound to it.

    Raises:
        ConfigurationError: the model takes no tools.
    """
    if not tools:
        return model
    try:
        return model.bind_tools(tools)
    except NotImplementedError:
        raise ConfigurationError(
            f"{type(model).__name__} takes no tools: leave `tools` and `memory_tools` out, or use another model"
        ) from None


def _from_provider(name: str) -> BaseChatModel:
    from langchain.chat_models import init_chat_model

    provider = name.split(":", 1)[0] if ":" in name else ""
    if provider == "google_genai" and not has_gemini_key():
        raise ConfigurationError(
            f"{name} needs a key: set {GEMINI_KEYS[0]}, or choose the stand-in {OFFLINE!r}, which needs none"
        )
    try:
        made = init_chat_model(name)
    except ImportError as error:
        raise ConfigurationError(_install_line(name, provider, error)) from error
    except ValueError as error:
        raise ConfigurationError(f"{name!r} cannot be used: {_first_line(error)}") from error
    except Exception as error:
        # Each provider has its own class for a missing key, and none is importable without its package.
        if type(error).__module__.split(".")[0] in {"builtins", "learngate"}:
            raise
        raise ConfigurationError(f"{name!r} cannot be used: {_first_line(error)}") from error
    if not isinstance(made, BaseChatModel):
        raise ConfigurationError(f"{name!r} names no model: write provider:model, such as openai:gpt-5.2")
    return made


def _install_line(name: str, provider: str, error: ImportError) -> str:
    package = f"langchain-{provider.replace('_', '-')}" if provider else "the provider's LangChain package"
    if error.name and importlib.util.find_spec(error.name.split(".")[0]) is None:
        package = error.name.split(".")[0].replace("_", "-")
    return f"{name!r} needs a package that is not installed: pip install {package}"


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    told = next((line for line in lines if not line.startswith("1 validation error")), "")
    return told or type(error).__name__
