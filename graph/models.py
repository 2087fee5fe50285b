"""A name becomes a chat model, or an error that says how to mend it. Providers are imported when used."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from langchain_core.language_models import BaseChatModel
from langchain_core.runnables import Runnable, RunnableConfig, RunnableSequence

from learngate.graph.settings import GEMINI_KEYS, OFFLINE, has_gemini_key
from learngate.nodes.reflection import Reflection
from learngate.stores.errors import ConfigurationError

if TYPE_CHECKING:
    from langchain_core.tools import BaseTool

SCRIPTED = "scripted"
NOSTREAM = "nostream"
"""LangGraph's tag for a model call whose tokens are not streamed to the user."""
HOW_TO_NAME = f"write provider:model, such as google_genai:gemini-3-flash-preview or openai:gpt-5.2, or {OFFLINE!r}"


def resolve_model(model: BaseChatModel | str) -> BaseChatModel:
    """Return a chat model: one as given, `"offline"`, `"scripted"`, or any name `init_chat_model` takes.

    Raises:
        ConfigurationError: no such provider, its package is not installed, or its key is missing.
    """
    if isinstance(model, BaseChatModel):
        return model
    if not isinstance(model, str) or not model.strip():
        raise ConfigurationError(f"{model!r} is no model: give a chat model, or {HOW_TO_NAME}")
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


class Reflector(Runnable[Any, dict[str, Any]]):
    """A model bound to `Reflection`, and what reads its reply.

    It gives what LangChain's `include_raw` does, whose five steps and their threads cost ten times as much.
    """

    def __init__(self, model: Runnable[Any, Any], parser: Runnable[Any, Any]) -> None:
        self._model, self._parser = model, parser

    def invoke(self, input: Any, config: RunnableConfig | None = None, **_: Any) -> dict[str, Any]:
        """Return the raw reply, and what it was read as or why it could not be."""
        return self._read(self._model.invoke(input, config), config)

    async def ainvoke(self, input: Any, config: RunnableConfig | None = None, **_: Any) -> dict[str, Any]:
        """Return the same, asynchronously."""
        return self._read(await self._model.ainvoke(input, config), config)

    def _read(self, raw: Any, config: RunnableConfig | None) -> dict[str, Any]:
        try:
            return {"raw": raw, "parsed": self._parser.invoke(raw, config), "parsing_error": None}
        except Exception as error:  # noqa: BLE001 - a provider's parser may raise anything: `reflect` says so
            return {"raw": raw, "parsed": None, "parsing_error": error}


def reflector_of(model: BaseChatModel) -> Runnable[Any, Any]:
    """Return the model bound to `Reflection`, never streamed; it gives the raw reply beside the parsed one.

    Raises:
        ConfigurationError: the model has no structured output.
    """
    try:
        bound = model.with_structured_output(Reflection)
        if isinstance(bound, RunnableSequence) and len(bound.steps) == 2:
            return Reflector(bound.first.with_config(tags=[NOSTREAM]), bound.last)
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
        raise ConfigurationError(
            f"{name!r} needs a package that is not installed: {_install_line(error)}"
        ) from error
    except ValueError as error:
        raise ConfigurationError(f"{name!r} cannot be used ({_first_line(error)}): {HOW_TO_NAME}") from error
    except Exception as error:
        # Each provider has its own class for a missing key, and none is importable without its package.
        if type(error).__module__.split(".")[0] in {"builtins", "learngate"}:
            raise
        raise ConfigurationError(f"{name!r} cannot be used: {_first_line(error)}") from error
    if not isinstance(made, BaseChatModel):
        raise ConfigurationError(f"{name!r} names no model: {HOW_TO_NAME}")
    return made


def _install_line(error: ImportError) -> str:
    """Return the line that installs a provider; LangChain's own error knows the package."""
    named = re.search(r"pip install [\w.-]+", str(error))
    return named[0] if named else f"pip install the package that has {error.name}"


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    told = next((line for line in lines if not line.startswith("1 validation error")), "")
    return told or type(error).__name__
