"""The compiled graph with a door: whose session it is, is settled before anything runs, shows or is stored."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import replace
from typing import Any, Self, cast
from uuid import uuid4

from langchain_core.messages import (
    AIMessage,
    AnyMessage,
    BaseMessage,
    HumanMessage,
    ToolMessage,
    convert_to_messages,
)
from langchain_core.runnables import RunnableConfig
from langchain_core.runnables.config import ensure_config, merge_configs
from langchain_core.runnables.graph import Graph
from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from langgraph.graph import END
from langgraph.graph.state import CompiledStateGraph
from langgraph.types import Command, StateSnapshot, StateUpdate

from learngate.nodes.context import GOES_ON, Caller, caller_of, session_of
from learngate.nodes.review import HOW_TO_ANSWER
from learngate.nodes.state import Delivery
from learngate.stores.errors import Conflict, InvalidInput, NotAllowed, NotFound
from learngate.stores.memory import Memory
from learngate.stores.records import ROOT
from learngate.stores.text import MESSAGE_LIMIT, check_name, check_text

RESUMING = "__pregel_resuming"
"""LangGraph's mark on a subgraph that goes on after a stop; its parent hands its input over once more."""
OF_PARENT = {"__pregel_checkpointer", "__pregel_durability"}
"""Where LangGraph keeps, for a subgraph, what writes its steps, and when."""
CARRIED = ("_output_mapper", "_state_mapper", "_serde_allowlist")
"""What LangGraph sets on a compiled graph after it is made: no argument of its class."""
EXPECTED = 'pass {"messages": [("user", "…")]}'


class GatedGraph(CompiledStateGraph[Any, Any, Any, Any]):
    """A `CompiledStateGraph` that refuses strangers at its door.

    A guard node would be too late: `stream_mode="values"` has shown the owner's messages before the first
    node runs, and the refused text would stay in the thread. Every way in (`invoke`, `batch`, events, a
    server, a parent graph) goes through `stream` or `astream`.
    """

    def __init__(self, *, memory: Memory, **parts: Any) -> None:
        super().__init__(**parts)
        self.memory = memory

    @classmethod
    def around(cls, compiled: CompiledStateGraph[Any, Any, Any, Any], memory: Memory) -> Self:
        """Return a compiled graph with the door in it."""
        return cls._made_from(compiled, {"memory": memory})

    def copy(self, update: dict[str, Any] | None = None) -> Self:
        """Return a copy that has the same door."""
        return self._made_from(self, update or {})

    @classmethod
    def _made_from(cls, other: CompiledStateGraph[Any, Any, Any, Any], update: dict[str, Any]) -> Self:
        parts = {key: value for key, value in vars(other).items() if key not in (*CARRIED, "__orig_class__")}
        made = cls(**(parts | update))
        for name in CARRIED:
            setattr(made, name, getattr(other, name))
        return made

    def stream(
        self, input: Any, config: RunnableConfig | None = None, *, context: Any = None, **options: Any
    ) -> Iterator[Any]:
        """Stream a run, once the caller has been let in; see `CompiledStateGraph.stream`.

        Raises:
            NotAllowed: the session belongs to somebody else.
            NotFound: nothing to resume: neither the session nor a checkpoint of it is there.
            Conflict: an answer, where the session's last turn waits for none.
            InvalidInput: nothing to answer, or a text, an id or a thread that cannot be taken.
        """
        admitted = self._admit(input, config, context)
        if self._resumes(input):
            _check_waits(self.get_state(ensure_config(config)), input)
        config = _marked(input, config)
        durable = self._durable(input, options, at_once=self._writes_at_once(config))
        yield from super().stream(admitted, config, context=context, **durable)

    async def astream(
        self, input: Any, config: RunnableConfig | None = None, *, context: Any = None, **options: Any
    ) -> AsyncIterator[Any]:
        """Stream a run asynchronously, once the caller has been let in; as `stream`."""
        admitted = await asyncio.to_thread(self._admit, input, config, context)
        if self._resumes(input):
            _check_waits(await self.aget_state(ensure_config(config)), input)
        config = _marked(input, config)
        # A consumer who stops listening stops the run now, not when the garbage is collected.
        parts = cast(
            AsyncGenerator[Any], super().astream(admitted, config, context=context, **self._durable(input, options))
        )
        async with aclosing(parts):
            async for part in parts:
                yield part

    def bulk_update_state(
        self, config: RunnableConfig, supersteps: Sequence[Sequence[StateUpdate]]
    ) -> RunnableConfig:
        """Write into a thread's state, as a fork in Studio does, but not whose turn it is, nor a decision.

        A server lets whoever owns a thread write anything into it; and what stands in `turn` is what the
        nodes go by. `update_state` comes through here.

        Raises:
            NotAllowed: the values name another user, session or its proposal, or a reviewer's answer.
        """
        self._check_edits(config, supersteps)
        return super().bulk_update_state(config, supersteps)

    async def abulk_update_state(
        self, config: RunnableConfig, supersteps: Sequence[Sequence[StateUpdate]]
    ) -> RunnableConfig:
        """Write into a thread's state asynchronously; as `bulk_update_state`."""
        await asyncio.to_thread(self._check_edits, config, supersteps)
        return await super().abulk_update_state(config, supersteps)

    def get_graph(self, config: RunnableConfig | None = None, *, xray: int | bool = False) -> Graph:
        """Return the drawing: the nodes of a turn, without those that LangGraph adds for errors."""
        return _drawn(super().get_graph(config, xray=xray))

    async def aget_graph(self, config: RunnableConfig | None = None, *, xray: int | bool = False) -> Graph:
        """Return the drawing, as `get_graph`; a server asks this way."""
        return _drawn(await super().aget_graph(config, xray=xray))

    def get_input_jsonschema(self, config: RunnableConfig | None = None) -> dict[str, Any]:
        """Return what a caller gives: messages. The door adds the rest."""
        schema = super().get_input_jsonschema(config)
        schema.get("properties", {}).pop("delivery", None)
        schema.get("$defs", {}).pop("Delivery", None)
        return schema

    def _admit(self, input: Any, config: RunnableConfig | None, context: Any) -> Any:
        config = ensure_config(merge_configs(self.config, config))
        caller, session_id = caller_of(config, context), session_of(config)
        if isinstance(input, Mapping):
            if not caller.said and _resumed_by_parent(config):
                caller = self._as_owner(session_id, caller)
            return self._admit_turn(input, session_id, caller, forks=_forks(config))
        if input is not None:
            _check_command(input)
        self._admit_more(session_id, caller, resumes=input is not None)
        return input

    def _as_owner(self, session_id: str, caller: Caller) -> Caller:
        """Return the caller as the session's own user: so a parent graph resumes that says nothing."""
        standing = self.memory.sessions.standing(session_id)
        return caller if standing is None else replace(caller, user_id=standing.owner)

    def _admit_turn(
        self, input: Mapping[str, Any], session_id: str, caller: Caller, *, forks: bool
    ) -> dict[str, Any]:
        messages = read_messages(input.get("messages"))
        standing = self.memory.sessions.claim(session_id, caller.user_id)
        messages = self._unrecorded(session_id, messages, forks=forks)
        position = _last_question(messages)
        question = messages[position]
        if question.id is None:
            question = messages[position] = question.model_copy(update={"id": str(uuid4())})
        delivery = Delivery(
            message_id=str(question.id),
            # A fork at a checkpoint without a head is one before the first turn.
            newest=ROOT if forks else standing.newest,
            forks=forks,
            user_id=caller.user_id,
            namespace=caller.namespace,
        )
        return {**input, "messages": messages, "delivery": delivery}

    def _unrecorded(self, session_id: str, messages: list[AnyMessage], *, forks: bool) -> list[AnyMessage]:
        """Return the messages without those that are recorded already: what is recorded is not written over.

        Some clients send the whole transcript with each message. The user's last stays, because it may be a
        redelivery; in other words under its id it is refused, unless a checkpoint says where it branches.
        """
        known = self.memory.sessions.recorded(session_id, [message.id for message in messages if message.id])
        question = messages[_last_question(messages)]
        before = known.get(question.id or "")
        if before is not None and before.content != question.content and not forks:
            place = self.memory.sessions.place(session_id, head=None, message_id=str(question.id), keep=1)
            if place.known == "behind":
                raise InvalidInput(
                    f"message {question.id!r} is recorded with other words: give the new ones an id of their own,"
                    " or a config with the checkpoint_id from which to branch"
                )
        return [message for message in messages if message is question or message.id not in known]

    def _admit_more(self, session_id: str, caller: Caller, *, resumes: bool) -> None:
        """Let a run go on: the session's own user's, or one of a host that says nothing at all.

        Chat UIs and crash recovery resume without a context; whoever does give one must name the owner.
        """
        standing = self.memory.sessions.standing(session_id)
        if standing is None and resumes:
            raise NotFound(f"there is no session {session_id!r} to resume: {EXPECTED} to begin one")
        if standing is None and caller.said:
            standing = self.memory.sessions.claim(session_id, caller.user_id)
        if standing is not None and caller.said and caller.user_id != standing.owner:
            raise NotAllowed(
                f"session {session_id!r} does not belong to {_name(caller.user_id)}: resume it with"
                " Context(user_id=…) of whoever opened it, and name the reviewer in Context(reviewer=…)"
            )

    def _resumes(self, given: Any) -> bool:
        return isinstance(given, Command) and isinstance(self.checkpointer, BaseCheckpointSaver)

    def _writes_at_once(self, config: RunnableConfig | None) -> bool:
        """Whether a step is written sooner than another thread is woken for it; a parent decides for itself."""
        given = ensure_config(merge_configs(self.config, config))["configurable"]
        return bool(getattr(self.checkpointer, "at_once", False)) and not OF_PARENT.intersection(given)

    def _durable(self, given: Any, options: dict[str, Any], *, at_once: bool = False) -> dict[str, Any]:
        """Write each step of a resume, or any `at_once`, before the next begins, even where "async" is asked for.

        A process that dies while a decision is written would keep the answer, but not who gave it.
        """
        lazy = options.get("durability") in (None, "async") and "checkpoint_during" not in options
        return {**options, "durability": "sync"} if lazy and (at_once or self._resumes(given)) else options

    def _check_edits(self, config: RunnableConfig, supersteps: Sequence[Sequence[StateUpdate]]) -> None:
        session_id = session_of(ensure_config(merge_configs(self.config, config)))
        standing = self.memory.sessions.standing(session_id)
        owner = standing.owner if standing is not None else None
        for edit in (edit for superstep in supersteps for edit in superstep):
            values = _edited(edit.values)
            named = [values[key] for key in ("turn", "delivery") if values.get(key)]
            others = any(
                one.get("user_id") != owner or one.get("session_id", session_id) != session_id for one in named
            )
            proposal = values.get("proposal")
            if proposal and self.memory.learnings.proposal(proposal.get("id")).session_id != session_id:
                others = True
            if others or values.get("review"):
                raise NotAllowed(f"the state of session {session_id!r} cannot be made another's")


def _edited(values: Any) -> Mapping[str, Any]:
    """Return what an edit writes: nothing, or a dict; a `Command` would write past the door.

    Raises:
        InvalidInput: anything else, or a turn or a proposal that is no dict.
    """
    if values is None:
        return {}
    if not isinstance(values, Mapping):
        raise InvalidInput(f"a state is edited with a dict, not with {type(values).__name__}")
    for key in ("turn", "delivery", "proposal"):
        if values.get(key) and not isinstance(values[key], Mapping):
            raise InvalidInput(f"`{key}` in the state is a dict, not {type(values[key]).__name__}")
    return values


def read_messages(given: Any) -> list[AnyMessage]:
    """Return a run's messages; the user's last, which is the one to answer, can be stored.

    Raises:
        InvalidInput: there are none, they cannot be read, none is the user's, or its text is refused.
    """
    if not given:
        raise InvalidInput(f"there is nothing to answer: {EXPECTED}")
    try:
        messages = convert_to_messages(given if isinstance(given, list) else [given])
    except (ValueError, TypeError, NotImplementedError, KeyError) as error:
        raise InvalidInput(f"the messages cannot be read ({str(error).splitlines()[0]}): {EXPECTED}") from error
    for message in messages:
        if message.type == "system":
            raise InvalidInput(
                "a system message is not part of a turn: give it once, as build_graph(instructions=…)"
            )
    if not any(message.type == "human" for message in messages):
        raise InvalidInput(f"there is no message of the user's: {EXPECTED}")
    if any(not isinstance(message, HumanMessage | AIMessage | ToolMessage) for message in messages):
        raise InvalidInput(f"a turn is made of user, assistant and tool messages only: {EXPECTED}")
    messages = _one_question(messages)
    question = messages[_last_question(messages)]
    _check_question(question)
    if question.id is not None:
        check_name(question.id, what="the message id")
    return cast(list[AnyMessage], messages)


def _one_question(messages: list[BaseMessage]) -> list[BaseMessage]:
    """Join what the user wrote in several messages into one; refuse a past that was never recorded.

    Messages with ids are a client's transcript of this thread. One without can only be new, and none of those
    is dropped silently.

    Raises:
        InvalidInput: there are messages before the user's last ones that have no id.
    """
    last = first = _last_question(messages)
    while first > 0 and messages[first - 1].type == "human" and messages[first - 1].id is None:
        first -= 1
    if any(message.id is None for message in messages[:first]):
        raise InvalidInput(
            "a run takes the user's new message; record what was said before with"
            " memory.sessions.append(Turn(session_id, (HumanMessage(…), AIMessage(…)), user_id=…))"
        )
    if first == last:
        return messages
    parts = messages[first : last + 1]
    content: Any = "\n\n".join(part.text for part in parts)
    if not all(isinstance(part.content, str) for part in parts):
        content = [block for part in parts for block in part.content_blocks]
    joined = HumanMessage(content, id=messages[last].id, name=messages[last].name)
    return [*messages[:first], joined, *messages[last + 1 :]]


def _last_question(messages: Sequence[BaseMessage]) -> int:
    return max(i for i, message in enumerate(messages) if message.type == "human")


def _check_command(given: Any) -> None:
    if not isinstance(given, Command):
        raise InvalidInput(f"a run takes a dict, a Command or None: {EXPECTED}")
    if given.update:
        # It would write whose turn it is, past the door.
        raise InvalidInput(f"a Command cannot write state: {EXPECTED}, or resume with Command(resume=…)")
    goto = given.goto if isinstance(given.goto, list | tuple) else [given.goto] if given.goto else []
    if any(target != END for target in goto):
        # A `Send` brings a state of its own, and a node by name would run without what comes before it.
        raise InvalidInput(f"a Command can only go to the end ({END!r}): {EXPECTED}, or Command(resume=…)")
    if given.resume is None and not goto:
        raise InvalidInput(f"a resume needs an answer: {HOW_TO_ANSWER}")
    if isinstance(given.resume, dict) and not all(isinstance(key, str) for key in given.resume):
        # LangGraph compares the keys with the ids of its interrupts.
        raise InvalidInput(f"the keys of an answer are text: {HOW_TO_ANSWER}")
    try:
        JsonPlusSerializer().dumps_typed(given.resume)
    except (TypeError, ValueError, RecursionError) as error:
        # A checkpoint keeps the answer as it came.
        raise InvalidInput(f"the answer cannot be kept ({error}): {HOW_TO_ANSWER}") from error


def _check_waits(snapshot: StateSnapshot, given: Command[Any]) -> None:
    """Refuse an answer that nothing waits for: LangGraph would take it for a new run's input, or for nothing.

    A server that was killed may still have the answer in its queue, but no longer the run it belongs to; and who
    wrote on has left the question behind. Answering twice is harmless: the first decision comes back.
    """
    if snapshot.created_at is None:
        raise NotFound(
            "no checkpoint is left of the run to resume: what it proposed waits in the inbox (learngate review),"
            " and the session goes on with its next message"
        )
    undecided = (snapshot.values.get("proposal") or {}).get("status", "pending") == "pending"
    # Not `next`: a step that has written, but whose checkpoint is not there yet, is no longer in it.
    if given.resume is not None and not snapshot.tasks and undecided:
        raise Conflict(
            "this session does not wait for an answer: if something was proposed in it, learngate review, or"
            " memory.learnings.pending(session_id=…), shows whether that still waits"
        )


def _marked(given: Any, config: RunnableConfig | None) -> RunnableConfig | None:
    """Mark a run that only goes on: an answer that it finds was given to another run, by whoever ran that."""
    return merge_configs(config, {"configurable": {GOES_ON: True}}) if given is None else config


def _resumed_by_parent(config: RunnableConfig) -> bool:
    """Whether a parent graph resumes this one; a server's client can send the mark, but not a function."""
    given = config["configurable"]
    return bool(given.get(RESUMING)) and callable(given.get("__pregel_read"))


def _forks(config: RunnableConfig) -> bool:
    """Whether a run names the checkpoint that it goes back to."""
    return bool((config.get("configurable") or {}).get("checkpoint_id"))


def _drawn(graph: Graph) -> Graph:
    for node in [node for name, node in graph.nodes.items() if name.startswith("__error_handler__")]:
        graph.remove_node(node)
    return graph


def _check_question(question: BaseMessage) -> None:
    if isinstance(question.content, list) and any(
        isinstance(block, dict) and block.get("type") != "text" for block in question.content
    ):
        if question.text.strip():
            check_text(question.text, what="the message", limit=MESSAGE_LIMIT)
        return
    check_text(question.text, what="the message", limit=MESSAGE_LIMIT)


def _name(user_id: str | None) -> str:
    return "you, who named no user" if user_id is None else repr(user_id)
