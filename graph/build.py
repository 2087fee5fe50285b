"""The graph: nodes and edges. It reads like the picture that Studio draws."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, fields
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from langchain_core.language_models import BaseChatModel
from langchain_core.runnables import Runnable
from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.errors import NodeError
from langgraph.graph import END, START, StateGraph
from langgraph.graph.state import CompiledStateGraph
from langgraph.types import Command, RetryPolicy

from learngate import nodes
from learngate.graph import routes
from learngate.graph.gated import GatedGraph
from learngate.graph.models import model_name, reflector_of, resolve_model, with_tools
from learngate.nodes.flow import Driven
from learngate.nodes.prompts import INSTRUCTIONS
from learngate.nodes.state import State
from learngate.stores import ConfigurationError, LearngateError, Memory, StoreUnavailable
from learngate.stores.records import ReflectionStatus
from learngate.stores.sessions import Sessions

if TYPE_CHECKING:
    from langchain_core.tools import BaseTool

Reflect = Literal["inline", "background", "off"]
OWN: Any = object()
"""Stands for the memory's own checkpointer."""

ATTEMPTS = 3
MOST = 10_000_000
"""The largest budget there is: more than any prompt holds, and a number that every database takes."""
_log = logging.getLogger(__name__)


def worth_another_try(error: Exception) -> bool:
    """Whether a step may succeed if it is tried again; each such failure is a line in the log."""
    if not isinstance(error, StoreUnavailable):
        return False
    _log.warning("%s (a step is tried %d times at most)", error, ATTEMPTS)
    return True


RETRY = RetryPolicy(max_attempts=ATTEMPTS, initial_interval=0.2, retry_on=worth_another_try)


@dataclass(frozen=True, slots=True, kw_only=True)
class Budgets:
    """How much is recalled; tokens are counted as four characters each.

    Raises:
        ConfigurationError: one is no whole number, or below 0; of the turns kept in state, below 1.
    """

    history_turns: int = 5
    history_tokens: int = 8_000
    memory_tokens: int = 600
    learnings: int = 5
    learning_tokens: int = 800
    past_tokens: int = 1_500
    kept_turns: int = 10
    tool_rounds: int = 8

    def __post_init__(self) -> None:
        for field in fields(self):
            given = getattr(self, field.name)
            least = 1 if field.name == "kept_turns" else 0
            # True is a whole number to Python, and a mistake here.
            if type(given) is not int or not least <= given <= MOST:
                raise ConfigurationError(
                    f"Budgets({field.name}=…) takes a whole number from {least} to {MOST:,}, such as"
                    f" {field.default}, not {given!r:.80}"
                )


def build_graph(
    memory: Memory,
    *,
    model: BaseChatModel | str,
    tools: Sequence[BaseTool | Callable[..., Any]] = (),
    reflection: Reflect = "inline",
    pause: bool = True,
    memory_tools: bool = False,
    checkpointer: BaseCheckpointSaver[Any] | bool | None = OWN,
    instructions: str = INSTRUCTIONS,
    budgets: Budgets | None = None,
    name: str = "learngate",
) -> GatedGraph:
    """Build the learning agent on a memory; it runs sync, async and streaming.

    `model` is a chat model or a name: `"offline"`, or anything `init_chat_model` takes. `reflection` says when
    a turn is reflected on: `"inline"` after the answer, `"background"` by `learngate reflect` or
    `reflect_pending`, or `"off"`. `pause` says whether the run waits at the gate for a human; where it is
    false, or the run has no checkpointer to wait in, a proposal waits in the inbox only. `memory_tools` lets
    the model itself remember, propose and search the user's past sessions. `checkpointer` defaults to the
    memory's own; `None` leaves it to the host (a server, a parent graph).

    Raises:
        ConfigurationError: something that can never work, with how to mend it.
    """
    budgets = Budgets() if budgets is None else budgets
    if not isinstance(memory, Memory):
        raise ConfigurationError(f"a graph is built on open_memory(…), not on {memory!r:.80}")
    chat = resolve_model(model)
    _refuse_options(reflection, pause, checkpointer, budgets)
    if not isinstance(instructions, str):
        raise ConfigurationError(
            f'instructions takes text, such as "You advise on funds.", not {instructions!r:.80}'
        )
    given = _tools(tools, _own_tools(memory, budgets) if memory_tools else ())
    reflector = reflector_of(chat) if reflection == "inline" else None
    builder = _wire(
        memory,
        chat=chat,
        given=given,
        reflector=reflector,
        reflection=reflection,
        pause=pause,
        instructions=instructions,
        budgets=budgets,
    )
    saver = memory.checkpointer() if checkpointer is OWN else checkpointer
    return GatedGraph.around(builder.compile(checkpointer=saver, name=name), memory)


def _wire(
    memory: Memory,
    *,
    chat: BaseChatModel,
    given: list[BaseTool],
    reflector: Runnable[Any, Any] | None,
    reflection: Reflect,
    pause: bool,
    instructions: str,
    budgets: Budgets,
) -> StateGraph[State, nodes.Context, nodes.Input, nodes.Output]:
    sessions, users, learnings = memory.sessions, memory.users, memory.learnings
    proposer = model_name(chat)
    graph = StateGraph(State, context_schema=nodes.Context, input_schema=nodes.Input, output_schema=nodes.Output)
    step = partial(graph.add_node, retry_policy=RETRY)
    step("begin_turn", partial(nodes.begin_turn, sessions=sessions, kept_turns=budgets.kept_turns))
    loading = partial(nodes.load_history, sessions=sessions, turns=budgets.history_turns)
    step("load_history", partial(loading, budget=budgets.history_tokens))
    step("recall_user_memory", partial(nodes.recall_user_memory, users=users, budget=budgets.memory_tokens))
    searching = partial(nodes.search_learnings, learnings=learnings)
    step("search_learnings", partial(searching, k=budgets.learnings, budget=budgets.learning_tokens))
    answering = nodes.respond(
        model=chat,
        model_with_tools=with_tools(chat, given),
        sessions=sessions,
        instructions=instructions,
        history_budget=budgets.history_tokens,
        max_tool_rounds=budgets.tool_rounds,
    )
    step("respond", Driven(answering, name="respond"))
    status: ReflectionStatus = "off" if reflection == "off" else "pending"
    step("save_turn", partial(nodes.save_turn, sessions=sessions, reflection=status, proposer=proposer))

    graph.add_edge(START, "begin_turn")
    graph.add_conditional_edges("begin_turn", routes.after_begin, [*routes.RECALL, END])
    for recalling in routes.RECALL:
        # They end in one step, so `respond` runs once. A joined edge would wait for all three again where a
        # fork edits one of them, and LangGraph's server does not say that `respond` is next.
        graph.add_edge(recalling, "respond")
    if given:
        from langgraph.prebuilt import ToolNode

        graph.add_node("tools", ToolNode(given, handle_tool_errors=True))
        graph.add_conditional_edges("respond", routes.after_respond, ["tools", "save_turn"])
        graph.add_edge("tools", "respond")
    else:
        graph.add_edge("respond", "save_turn")

    _add_effects(graph, memory)
    if reflector is not None:
        _add_reflect(graph, memory, reflector, proposer=proposer)
        graph.add_edge("save_turn", "reflect")
    else:
        graph.add_conditional_edges("save_turn", routes.next_effect, routes.EFFECTS)

    if pause:
        step("review_learning", nodes.review_learning)
        step("save_learning", partial(nodes.save_learning, learnings=learnings))
        graph.add_conditional_edges("propose_learning", routes.after_propose, ["review_learning", END])
        answered = ["review_learning", "save_learning", END]
        graph.add_conditional_edges("review_learning", routes.after_review, answered)
        graph.add_conditional_edges("save_learning", routes.after_save_learning, ["review_learning", END])
    else:
        graph.add_edge("propose_learning", END)
    return graph


def build_reflection(memory: Memory, *, model: BaseChatModel | str) -> CompiledStateGraph[Any, Any, Any, Any]:
    """Build the part of the graph that looks back at a recorded turn; what it proposes waits in the inbox.

    Raises:
        ConfigurationError: the model cannot be used.
    """
    chat = resolve_model(model)
    graph = StateGraph(State, context_schema=nodes.Context)
    _add_effects(graph, memory)
    _add_reflect(graph, memory, reflector_of(chat), proposer=model_name(chat))
    graph.add_edge(START, "reflect")
    graph.add_edge("propose_learning", END)
    return graph.compile(name="learngate-reflection")


def _add_reflect(
    graph: StateGraph[Any, Any, Any, Any], memory: Memory, reflector: Runnable[Any, Any], *, proposer: str
) -> None:
    flow = nodes.reflect(reflector=reflector, proposer=proposer, sessions=memory.sessions, users=memory.users)
    failed = partial(reflection_failed, sessions=memory.sessions)
    graph.add_node("reflect", Driven(flow, name="reflect"), retry_policy=RETRY, error_handler=failed)
    graph.add_conditional_edges("reflect", routes.next_effect, routes.EFFECTS)


def _add_effects(graph: StateGraph[Any, Any, Any, Any], memory: Memory) -> None:
    step = partial(graph.add_node, retry_policy=RETRY)
    step("remember_user", partial(nodes.remember_user, users=memory.users))
    proposing = partial(nodes.propose_learning, learnings=memory.learnings, sessions=memory.sessions)
    step("propose_learning", proposing)
    graph.add_conditional_edges("remember_user", routes.after_remember, ["propose_learning", END])


def reflection_failed(state: State, error: NodeError, *, sessions: Sessions) -> Command[Any]:
    """Let the answer stand where the reflection failed, note why, and apply what the model's tools noted."""
    turn, name = state["turn"], type(error.error).__name__
    if isinstance(error.error, LearngateError):
        reason = f"{name}: {error.error}"[:500]
    else:
        # What a provider says may hold a key or an address, and the reason is kept with the turn.
        reason = f"{name}: see the log"
        _log.warning("the reflection on turn %s failed (%s: %.500s)", turn["id"], name, error.error)
    sessions.mark_reflection(turn["session_id"], turn["id"], "failed", error=reason)
    return Command(goto=routes.next_effect(state))


def _own_tools(memory: Memory, budgets: Budgets) -> tuple[BaseTool, ...]:
    from learngate.nodes.tools import MEMORY_TOOLS, past_sessions

    return (*MEMORY_TOOLS, past_sessions(memory.sessions, budget=budgets.past_tokens))


def _tools(tools: Any, own: Sequence[BaseTool]) -> list[BaseTool]:
    if not tools:
        return list(own)
    if not isinstance(tools, Iterable):
        raise ConfigurationError(
            f"tools takes a list, such as [{getattr(tools, '__name__', 'search')}], not {tools!r:.80}"
        )
    given = [*(_as_tool(one) for one in tools), *own]
    names = [one.name for one in given]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ConfigurationError(
            f"two tools are called {', '.join(twice)}: rename one, so that the model can tell them apart"
        )
    return given


def _as_tool(given: Any) -> BaseTool:
    from langchain_core.tools import BaseTool, tool

    if isinstance(given, BaseTool):
        return given
    reason = ""
    try:
        made = tool(given)
        if isinstance(made, BaseTool):  # of a text LangChain makes a decorator
            return made
    except (TypeError, ValueError, AttributeError) as error:
        reason = f" ({error})"
    raise ConfigurationError(
        f"{given!r:.80} is no tool{reason}: give a function with a docstring, or one that is decorated with"
        " langchain_core.tools.tool"
    )


def _refuse_options(reflection: object, pause: object, checkpointer: object, budgets: object) -> None:
    if reflection not in {"inline", "background", "off"}:
        raise ConfigurationError(f'reflection must be "inline", "background" or "off", not {reflection!r}')
    if not isinstance(pause, bool):
        raise ConfigurationError(f"pause is True or False, not {pause!r:.80}")
    if pause and checkpointer is False:
        raise ConfigurationError(
            "a run can only pause where it is checkpointed: leave `checkpointer` out, or build with pause=False"
        )
    if not isinstance(budgets, Budgets):
        raise ConfigurationError(f"budgets takes Budgets(…), such as Budgets(learnings=3), not {budgets!r:.80}")
