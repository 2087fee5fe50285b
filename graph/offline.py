"""The offline stand-in: a deterministic chat model that follows written rules, with no key and no network.

It shows what reached it: it answers from the window, the memories, the learnings and the tool results that it
was given, and names them. It does not reason, and says so.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from langchain_core.messages import AIMessage, BaseMessage, ToolMessage

from learngate.graph.scripted import REFLECTION, ToolSpeaker
from learngate.nodes.prompts import read_blocks, read_items, read_question
from learngate.nodes.reflection import Candidate, MemoryChange, Reflection
from learngate.stores.lexical import content_words

SIGNATURE = "(offline stand-in)"

_LEANING = re.compile(r"\b(that|it|this|them|those|these|which|both|they|one)\b", re.IGNORECASE)
_RULE = re.compile(
    r"^(?:please\s+|remember(?:\s+that)?:?\s+|rule:\s+|note:\s+)?"
    r"(?P<rule>(?:when(?:ever)?|before|after|if)\s+(?P<when>[^,]{4,80}),\s*(?P<what>.{8,})|(?:always|never)\s.{8,})$",
    re.IGNORECASE | re.DOTALL,
)
_ADVICE = re.compile(
    r"\b(always|never|check|compare|use|look|make sure|should|must|avoid|prefer|ask|start|verify|consider|include"
    r"|divide|measure|weigh)\b",
    re.IGNORECASE,
)
_CLAUSE = re.compile(r"(?<=[.!?])\s+|\n+|;\s*|,\s*(?=(?:and\s+)?(?:i|i'm|my)\b)|\s+and\s+(?=(?:i|i'm|my)\b)", re.I)
_VERBS = "like|love|hate|prefer|own|hold|work|live|avoid|trade|invest|speak|use|manage|follow"
_STATES = r"interested|based|allergic|from|an?|the|vegan|vegetarian|new to|\d"
_FACTS = tuple(
    (re.compile(f"^{said}$", re.IGNORECASE), kept)
    for said, kept in (
        (r"my\s+(?P<a>[\w' -]{2,60}?)\s+(?P<v>is|are|was)\s+(?:now\s+)?(?P<b>.+)", "The user's {a} {v} {b}"),
        (rf"(?:i'm|i am)\s+(?P<b>(?:{_STATES})\b.*)", "The user is {b}"),
        (r"(?:please\s+)?call me\s+(?P<b>.+)", "The user wants to be called {b}"),
        (rf"i\s+(?P<v>{_VERBS})\s+(?P<b>.+)", "The user {v}s {b}"),
        (r"i\s+have\s+(?P<b>(?:an?|two|three|no|moderate|low|high)\b.*)", "The user has {b}"),
        (r"i\s+(?:don't|do not)\s+(?P<v>like|own|want|eat|trade|use)\s+(?P<b>.+)", "The user does not {v} {b}"),
    )
)
_FORGET = re.compile(r"^(?:please\s+)?forget\s+(?:that\s+|about\s+)?(?P<what>.+)$", re.IGNORECASE)


class OfflineChat(ToolSpeaker):
    """The `"offline"` model. The same prompt always gets the same reply."""

    @property
    def _llm_type(self) -> str:
        return "offline"

    def _reply(self, messages: list[BaseMessage], tools: list[dict[str, Any]]) -> AIMessage:
        if any(tool["name"] == REFLECTION for tool in tools):
            found = reflection_on(read_question(messages), read_items(messages)["memory"])
            return AIMessage("", tool_calls=[{"name": REFLECTION, "args": found.model_dump(), "id": "reflection"}])
        prompt = _Prompt.of(messages)
        calls = _calls(prompt, tools)
        if calls:
            return AIMessage("", tool_calls=calls)
        return AIMessage("\n".join([*_answer(prompt), SIGNATURE]))


@dataclass(slots=True)
class _Prompt:
    """A prompt as the rules see it."""

    question: str = ""
    asked_before: list[str] = field(default_factory=list)
    results: list[str] = field(default_factory=list)
    answered_tools: bool = False
    memories: list[tuple[int, str]] = field(default_factory=list)
    learnings: list[tuple[int, str]] = field(default_factory=list)

    @classmethod
    def of(cls, messages: Sequence[BaseMessage]) -> _Prompt:
        humans = [i for i, m in enumerate(messages) if m.type == "human" and not read_blocks(m.text)]
        items = read_items(messages)
        if not humans:
            return cls(memories=items["memory"], learnings=items["learning"])
        mine = messages[humans[-1] :]
        return cls(
            question=mine[0].text,
            asked_before=[messages[i].text for i in humans[:-1]],
            results=[m.text for m in mine if isinstance(m, ToolMessage)],
            answered_tools=any(isinstance(m, ToolMessage) for m in mine),
            memories=items["memory"],
            learnings=items["learning"],
        )


def reflection_on(question: str, known: Sequence[tuple[int, str]]) -> Reflection:
    """Return what the rules keep of a user's words: facts in the first person, and general rules."""
    changes: list[MemoryChange] = []
    candidate: Candidate | None = None
    for clause in _clauses(question):
        rule = _rule(clause)
        if rule is not None:
            candidate = candidate or rule
            continue
        change = _change(clause, known)
        if change is not None:
            changes.append(change)
    return Reflection(memories=changes, learning=candidate)


def _clauses(text: str) -> list[str]:
    parts = (re.sub(r"^and\s+", "", part.strip(), flags=re.IGNORECASE) for part in _CLAUSE.split(text))
    return [part for part in parts if part and not part.endswith("?")]


def _rule(clause: str) -> Candidate | None:
    found = _RULE.match(clause)
    if found is None or not _ADVICE.search(clause) or re.search(r"\b(i|i'm|my|me)\b", clause, re.IGNORECASE):
        return None
    insight = _sentence(found["rule"])
    when = (found["when"] or "").strip()
    title = when if when else insight.rstrip(".")
    return Candidate(
        title=_sentence(" ".join(title.split()[:10])).rstrip("."),
        insight=insight,
        applies_when=when,
        rationale="The user stated it as a general rule.",
    )


def _change(clause: str, known: Sequence[tuple[int, str]]) -> MemoryChange | None:
    forget = _FORGET.match(clause)
    if forget is not None:
        near = _nearest(forget["what"], known)
        return None if near is None else MemoryChange(op="forget", id=near)
    for pattern, template in _FACTS:
        found = pattern.match(clause.rstrip(".!"))
        if found is not None:
            text = _sentence(template.format(**found.groupdict()))
            there = _same_subject(text, known)
            if any(text == old for _, old in known):
                return None
            if there is not None:
                return MemoryChange(op="update", id=there, text=text)
            return MemoryChange(op="add", text=text)
    return None


def _same_subject(text: str, known: Sequence[tuple[int, str]]) -> int | None:
    """Return the known memory that says something else of the same thing (`The user's X is …`)."""
    subject = re.match(r"(The user's .+? )(?:is|are|was) ", text)
    if subject is None:
        return None
    return next((number for number, old in known if old.startswith(subject[1])), None)


def _nearest(what: str, known: Sequence[tuple[int, str]]) -> int | None:
    wanted = set(content_words(what)) - {"user"}
    scored = [(len(wanted & set(content_words(text))), number) for number, text in known]
    best = max(scored, default=(0, 0))
    return best[1] if best[0] > 0 else None


def _calls(prompt: _Prompt, tools: Sequence[dict[str, Any]]) -> list[Any]:
    """Call every tool one of whose choices the question names, and the memory tools where there is something."""
    if prompt.answered_tools:
        return []
    calls: list[tuple[str, dict[str, Any]]] = []
    for tool in tools:
        calls += [(tool["name"], arguments) for arguments in _arguments(prompt, tool)]
    return [{"name": name, "args": args, "id": f"call_{i}"} for i, (name, args) in enumerate(calls[:6])]


def _arguments(prompt: _Prompt, tool: dict[str, Any]) -> list[dict[str, Any]]:
    found = reflection_on(prompt.question, prompt.memories)
    if tool["name"] == "remember":
        return [{"text": change.text} for change in found.memories if change.op == "add"]
    if tool["name"] == "propose_learning":
        learning = found.learning
        return [learning.model_dump(include={"title", "insight", "applies_when"})] if learning else []
    schema = tool.get("parameters", {})
    for name, parameter in schema.get("properties", {}).items():
        choices = [choice for choice in parameter.get("enum", []) if isinstance(choice, str)]
        if choices and set(schema.get("required", [])) <= {name}:
            return [{name: choice} for choice in _named(prompt, choices)]
    return []


def _named(prompt: _Prompt, choices: Sequence[str]) -> list[str]:
    """Return the choices that the question names; where it leans on what came before, those named there too."""

    def named(text: str) -> list[str]:
        return [one for one in choices if re.search(rf"\b{re.escape(one)}\b", text, re.IGNORECASE)]

    here = named(prompt.question)
    if not _LEANING.search(prompt.question):
        return here
    before: list[str] = []
    for asked in reversed(prompt.asked_before):
        before += [one for one in named(asked) if one not in before]
        if not _LEANING.search(asked) and before:
            break
    return [one for one in reversed(before) if one not in here] + here


def _answer(prompt: _Prompt) -> list[str]:
    found = reflection_on(prompt.question, prompt.memories)
    lines: list[str] = []
    if found.learning is not None:
        lines.append(f"Noted as a general rule: {found.learning.insight}")
    lines += [f"Noted about you: {change.text}" for change in found.memories if change.text]
    if prompt.results:
        lines += [
            "What the tools say:",
            *(f"- {line}" for text in prompt.results for line in text.splitlines() if line),
        ]
    if prompt.learnings:
        lines.append("Learned before, and approved by a reviewer:")
        lines += [f"- learning {number}, {text}" for number, text in prompt.learnings]
    if prompt.memories:
        lines.append("What you told me earlier:")
        lines += [f"- memory {number}: {text}" for number, text in prompt.memories]
    if prompt.asked_before and _LEANING.search(prompt.question):
        lines.append(f"Before this you asked: “{_short(prompt.asked_before[-1])}”")
    return lines or [f"You asked: “{_short(prompt.question)}” Nothing I was given speaks to it."]


def _sentence(text: str) -> str:
    text = " ".join(text.split()).rstrip(".!")
    return f"{text[:1].upper()}{text[1:]}."


def _short(text: str, limit: int = 90) -> str:
    flat = " ".join(text.split())
    return flat if len(flat) <= limit else f"{flat[: limit - 2]} …"
