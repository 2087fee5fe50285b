"""Users who are served at the same time: nothing of one is in a prompt, a stream or a listing of another."""

from __future__ import annotations

import asyncio
import re
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from typing import Any

from langchain_core.messages import AIMessage, BaseMessage

from learngate.graph import Context, build_graph
from learngate.graph.scripted import REFLECTION, ScriptedChat
from learngate.stores import Memory, NotAllowed
from tests.graph.support import opened, say, thread
from tests.reliability.counting import Count, Databases, Scenario, Tally, made
from tests.reliability.crew import Crew, arrive, at
from tests.reliability.race import only

SCENARIOS: list[Scenario] = []

SECRET = re.compile(r"secret-([\w-]+)-of-([\w-]+)-end")
QUESTIONS = ("Please keep {}.", "Which secret do I hold?", "And do I hold {} still?")


class Echo(ScriptedChat):
    """A model that repeats the last secret in its prompt, remembers it and proposes it; and keeps all prompts."""

    def _reply(self, messages: list[BaseMessage], tools: list[dict[str, Any]]) -> AIMessage:
        reflects = any(one["name"] == REFLECTION for one in tools)
        with self._lock:
            (self._reflected if reflects else self._prompts).append(list(messages))
        found = [hit[0] for message in messages for hit in SECRET.finditer(message.text)]
        words = f"I know {found[-1]}." if found else "I know nothing."
        if not reflects:
            return AIMessage(words)
        learned = {
            "title": "Secrets",
            "insight": f"When asked for secrets, always name {found[-1]}." if found else "",
            "applies_when": "asked",
        }
        fields = {
            "memories": [{"op": "add", "text": words}] if found else [],
            "learning": learned if found else None,
        }
        return AIMessage("", tool_calls=[{"name": REFLECTION, "args": fields, "id": "reflection"}])


def secret(user: str, n: int) -> str:
    return f"secret-{n}-of-{user}-end"


def questions(user: str) -> list[str]:
    return [question.format(secret(user, n)) for n, question in enumerate(QUESTIONS)]


def context(user: str) -> Context:
    return Context(user_id=user, namespace=f"team/{user}")


def listed(memory: Memory, user: str) -> dict[str, str]:
    """Return everything that can be asked for in a user's name, as text."""
    space = f"team/{user}"
    return {
        "memories": str(memory.users.list(user)),
        "recall": str(memory.users.recall(user, "Which secret do I hold?", budget=40)),
        "sessions": str(memory.sessions.list(user_id=user)),
        "search of sessions": str(memory.sessions.search("secret", user_id=user, k=100)),
        "learnings": str(memory.learnings.list(namespace=space)),
        "search of learnings": str(memory.learnings.search("secret", namespace=space, k=100, floor=False)),
        "pending": str(memory.learnings.pending(namespace=space)),
        "pending of the session": str(memory.learnings.pending(session_id=f"of-{user}")),
        "the session": str(memory.sessions.window(f"of-{user}", turns=100)),
    }


def owners(said: str) -> set[str]:
    return {hit[2] for hit in SECRET.finditer(said)}


def check_user(user: str, seen: dict[str, str], tally: Tally) -> None:
    for where, said in seen.items():
        others = owners(said) - {user}
        tally.check(not others, "leaked", f"{user} found something of {others} in {where}")
    for where in ("stream", "memories", "search of sessions", "pending"):
        # Or the suite would be looking at nothing.
        tally.check(user in owners(seen[where]), "lost", f"{user} does not find their own secret in {where}")


def check_prompts(prompts: list[list[BaseMessage]], tally: Tally) -> None:
    for prompt in prompts:
        whose = owners("\n".join(message.text for message in prompt))
        tally.check(len(whose) <= 1, "leaked", f"one prompt has something of {whose}")


def talk(graph: Any, user: str) -> str:
    """Let a user ask everything; return all that was streamed to them."""
    config, streamed = thread(f"of-{user}"), []
    for question in questions(user):
        modes = ["updates", "messages", "values"]
        streamed += map(str, graph.stream(say(question), config, context=context(user), stream_mode=modes))
    return "\n".join(streamed)


async def atalk(graph: Any, user: str) -> str:
    config, streamed = thread(f"of-{user}"), []
    for question in questions(user):
        modes = ["updates", "messages", "values"]
        parts = graph.astream(say(question), config, context=context(user), stream_mode=modes)
        async with aclosing(parts):
            streamed += [str(part) async for part in parts]
    return "\n".join(streamed)


def intrude(graph: Any, user: str, other: str, tally: Tally) -> None:
    """Try another's session; nothing of it is shown."""
    try:
        shown = [
            *graph.stream(say("Which secret?"), thread(f"of-{other}"), context=context(user), stream_mode="values")
        ]
        tally.note("leaked", f"{user} was let into the session of {other}: {shown}")
    except NotAllowed as refused:
        tally.check(not owners(str(refused)), "leaked", f"the refusal says {refused}")


def judged(memory: Memory, graph: Any, model: Echo, streams: dict[str, str], tally: Tally) -> None:
    users = [*streams]
    for user, streamed in streams.items():
        check_user(user, {"stream": streamed, **listed(memory, user)}, tally)
    check_prompts([*model.prompts, *model.reflected], tally)
    intrude(graph, users[0], users[-1], tally)
    check_prompts([*model.prompts, *model.reflected], tally)


@made(SCENARIOS, long=50, sample=1)
def threads(databases: Databases, rounds: int) -> Iterator[Count]:
    """4 users in threads of one process."""
    url = databases.ready()
    with opened(url) as memory, ThreadPoolExecutor(4) as pool:
        for number in range(rounds):
            tally, model = Tally(), Echo()
            graph = build_graph(memory, model=model, pause=False)
            users = [f"user-{number}-{i}" for i in range(4)]
            barrier = threading.Barrier(len(users))

            def together(user: str, graph: Any = graph, barrier: threading.Barrier = barrier) -> str:
                barrier.wait()
                return talk(graph, user)

            streams = dict(zip(users, pool.map(together, users), strict=True))
            judged(memory, graph, model, streams, tally)
            yield tally.count()


@made(SCENARIOS, long=50, sample=1)
def tasks(databases: Databases, rounds: int) -> Iterator[Count]:
    """4 users in async tasks of one process."""
    url = databases.ready()
    with opened(url) as memory:
        for number in range(rounds):
            tally, model = Tally(), Echo()
            graph = build_graph(memory, model=model, pause=False)
            users = [f"user-{number}-{i}" for i in range(4)]

            async def together(graph: Any = graph, users: list[str] = users) -> list[str]:
                return await asyncio.gather(*(atalk(graph, user) for user in users))

            streams = dict(zip(users, asyncio.run(together()), strict=True))
            judged(memory, graph, model, streams, tally)
            yield tally.count()


def serve(number: int, url: str, turn: int) -> tuple[str, str, list[list[BaseMessage]]]:
    user, model = f"user-{turn}-{number}", Echo()
    streamed = talk(build_graph(at(url), model=model, pause=False), user)
    return user, streamed, [*model.prompts, *model.reflected]


@made(SCENARIOS, long=50, sample=1)
def apart(databases: Databases, rounds: int) -> Iterator[Count]:
    """2 users in 2 processes."""
    url = databases.ready()
    with opened(url) as memory, Crew(2) as crew:
        crew.all(arrive, url)
        for number in range(rounds):
            tally, streams = Tally(), {}
            for outcome in only(crew.all(serve, url, number), tally):
                user, streamed, prompts = outcome.value
                streams[user] = streamed
                check_prompts(prompts, tally)
            model = Echo()
            judged(memory, build_graph(memory, model=model, pause=False), model, streams, tally)
            yield tally.count()
