"""A scripted chat model, for tests of apps that embed the graph."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from langchain_core.callbacks import CallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel, LanguageModelInput
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage
from langchain_core.messages.ai import UsageMetadata
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langchain_core.runnables import Runnable
from langchain_core.utils.function_calling import convert_to_openai_tool
from pydantic import BaseModel, ConfigDict, Field, PrivateAttr

from learngate.nodes.reflection import Candidate, MemoryChange, Reflection

if TYPE_CHECKING:
    from langchain_core.tools import BaseTool

Reply = str | AIMessage | Exception | Callable[[list[BaseMessage]], "str | AIMessage"]
Reflected = Reflection | dict[str, Any] | str | Exception | None

REFLECTION = Reflection.__name__


class ToolSpeaker(BaseChatModel):
    """A chat model in Python that takes tools, and answers structured calls as a tool call of that name."""

    model_config = ConfigDict(arbitrary_types_allowed=True)

    def bind_tools(
        self,
        tools: Sequence[dict[str, Any] | type | Callable[..., Any] | BaseTool],
        *,
        tool_choice: str | None = None,  # noqa: ARG002
        **kwargs: Any,
    ) -> Runnable[LanguageModelInput, AIMessage]:
        """Bind tools by what they say of themselves."""
        kwargs.pop("ls_structured_output_format", None)
        return self.bind(tools=[convert_to_openai_tool(one)["function"] for one in tools], **kwargs)

    def _reply(self, messages: list[BaseMessage], tools: list[dict[str, Any]]) -> AIMessage:
        raise NotImplementedError

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,  # noqa: ARG002
        run_manager: CallbackManagerForLLMRun | None = None,  # noqa: ARG002
        *,
        tools: Sequence[dict[str, Any]] = (),
        **_: Any,
    ) -> ChatResult:
        reply = self._reply(messages, list(tools))
        return ChatResult(generations=[ChatGeneration(message=_counted(reply, messages))])

    def _stream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,  # noqa: ARG002
        run_manager: CallbackManagerForLLMRun | None = None,
        *,
        tools: Sequence[dict[str, Any]] = (),
        **_: Any,
    ) -> Iterator[ChatGenerationChunk]:
        reply = _counted(self._reply(messages, list(tools)), messages)
        for piece in _pieces(reply):
            chunk = ChatGenerationChunk(message=piece)
            if run_manager is not None:
                run_manager.on_llm_new_token(piece.text, chunk=chunk)
            yield chunk


class ScriptedChat(ToolSpeaker):
    """A model that says what it was told to, and remembers what it was asked.

    `answers` are given in order: text, an `AIMessage` (with tool calls, if you like), an exception to raise, or
    a function of the prompt; the last one repeats. `reflections` likewise: a `Reflection` or its fields,
    `None` for nothing worth keeping, a text for garbage, an exception. `.prompts` are the prompts of the
    answers so far, `.reflected` those of the reflections.
    """

    answers: list[Any] = Field(default_factory=lambda: ["ok"])
    reflections: list[Any] = Field(default_factory=list)
    _prompts: list[list[BaseMessage]] = PrivateAttr(default_factory=list)
    _reflected: list[list[BaseMessage]] = PrivateAttr(default_factory=list)
    _lock: Any = PrivateAttr(default_factory=threading.Lock)

    @property
    def prompts(self) -> list[list[BaseMessage]]:
        """The prompts that were answered, the first first."""
        return self._prompts

    @property
    def reflected(self) -> list[list[BaseMessage]]:
        """The prompts that were reflected on, the first first."""
        return self._reflected

    @property
    def _llm_type(self) -> str:
        return "scripted"

    def _reply(self, messages: list[BaseMessage], tools: list[dict[str, Any]]) -> AIMessage:
        if any(one["name"] == REFLECTION for one in tools):
            return _reflection_message(self._next(self.reflections, self._reflected, messages, default=None))
        reply = self._next(self.answers, self._prompts, messages, default="ok")
        if callable(reply):
            reply = reply(messages)
        return reply.model_copy() if isinstance(reply, AIMessage) else AIMessage(reply)

    def _next(
        self, script: list[Any], seen: list[list[BaseMessage]], messages: list[BaseMessage], *, default: Any
    ) -> Any:
        with self._lock:
            reply = script[min(len(seen), len(script) - 1)] if script else default
            seen.append(list(messages))
        if isinstance(reply, Exception):
            raise reply
        return reply


def learning(title: str, insight: str, **more: str) -> Reflection:
    """Return a reflection that proposes one learning, for a script."""
    return Reflection(learning=Candidate(title=title, insight=insight, **more))


def memory(*texts: str) -> Reflection:
    """Return a reflection that remembers facts about the user, for a script."""
    return Reflection(memories=[MemoryChange(op="add", text=text) for text in texts])


def _reflection_message(reply: Reflected) -> AIMessage:
    if isinstance(reply, str):
        return AIMessage(reply)
    fields = reply.model_dump() if isinstance(reply, BaseModel) else (reply or {})
    return AIMessage("", tool_calls=[{"name": REFLECTION, "args": fields, "id": "reflection"}])


def _counted(reply: AIMessage, messages: list[BaseMessage]) -> AIMessage:
    """Give a reply the usage a provider would report: four characters to a token."""
    asked, said = (sum(len(m.text) for m in some) // 4 + 1 for some in (messages, [reply]))
    usage = UsageMetadata(input_tokens=asked, output_tokens=said, total_tokens=asked + said)
    return reply.model_copy(update={"usage_metadata": reply.usage_metadata or usage})


def _pieces(reply: AIMessage) -> Iterator[AIMessageChunk]:
    """Cut a reply into chunks, word by word; tool calls and usage come with the last."""
    text = reply.text
    words = text.split(" ") if text else []
    for i, word in enumerate(words):
        yield AIMessageChunk(content=word if i == 0 else f" {word}")
    yield AIMessageChunk(
        content="",
        additional_kwargs=reply.additional_kwargs,
        response_metadata=reply.response_metadata,
        usage_metadata=reply.usage_metadata,
        tool_call_chunks=[
            {"name": call["name"], "args": json.dumps(call["args"]), "id": call["id"], "index": i}
            for i, call in enumerate(reply.tool_calls)
        ],
        chunk_position="last",
    )
