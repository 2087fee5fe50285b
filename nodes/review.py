"""The gate's question and every shape in which its answer may come."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, Field, model_validator

from learngate.nodes.state import ProposalState
from learngate.stores.records import Decision

ACTION = "save_learning"
_DECISIONS = ["approve", "edit", "reject"]
_WORDS = {
    "approve": "approve", "approved": "approve", "accept": "approve", "yes": "approve", "y": "approve",
    "ok": "approve", "reject": "reject", "rejected": "reject", "no": "reject", "n": "reject",
    "respond": "reject", "response": "reject", "edit": "edit", "ignore": "later", "later": "later",
    "decided": "decided",
}  # fmt: skip
HOW_TO_ANSWER = (
    'answer "approve" or "reject", or {"decisions": [{"type": "approve" | "edit" | "reject", …}]};'
    ' an edit is {"type": "edit", "edited_action": {"name": "save_learning", "args": {"insight": "…"}}}'
)


class Review(BaseModel):
    """A reviewer's answer, read leniently; `unclear` with the reason where it cannot be read."""

    type: Literal["approve", "edit", "reject", "later", "decided", "unclear"] = Field(
        description="approve, edit or reject"
    )
    title: str | None = None
    insight: str | None = None
    applies_when: str | None = None
    message: str | None = Field(default=None, description="a note, or why it was rejected")

    @model_validator(mode="before")
    @classmethod
    def _read(cls, value: Any) -> Any:
        if isinstance(value, cls):
            return value
        try:
            return _read_answer(value)
        except RecursionError:
            return {"type": "unclear", "message": f"it is nested too deeply: {HOW_TO_ANSWER}"}
        except (ValueError, TypeError) as problem:
            return {"type": "unclear", "message": f"{problem}: {HOW_TO_ANSWER}"}

    def decision(self) -> Decision:
        """Return the decision this answer stands for."""
        if self.type == "approve":
            return Decision.approve(self.message)
        if self.type == "edit":
            return Decision.edit(
                title=self.title, insight=self.insight, applies_when=self.applies_when, note=self.message
            )
        return Decision.reject(self.message)


def question(proposal: ProposalState, problem: str | None) -> dict[str, Any]:
    """Return what the interrupt shows; the shape is what LangGraph's chat UIs render as a form."""
    args = {key: proposal[key] for key in ("title", "insight", "applies_when")}
    return {
        "action_requests": [
            {"name": ACTION, "args": args, "arguments": args, "description": describe(proposal, problem)}
        ],
        "review_configs": [
            {
                "action_name": ACTION,
                "actionName": ACTION,
                "allowed_decisions": _DECISIONS,
                "allowedDecisions": _DECISIONS,
            }
        ],
        "proposal": dict(proposal),
        "problem": problem,
    }


def describe(proposal: ProposalState, problem: str | None = None) -> str:
    """Return a proposal as Markdown, as a reviewer should see it."""
    parts = [
        f"**{problem}**" if problem else "",
        f"### {proposal['title']}",
        proposal["insight"],
        f"*Applies when:* {proposal['applies_when']}" if proposal["applies_when"] else "",
        f"*Because:* {proposal['rationale']}" if proposal["rationale"] else "",
        *(f"> {line}" for text in proposal["excerpts"] for line in text.splitlines()),
        *(f"- near: learning {n['id']}, {n['title']} ({n['similarity']})" for n in proposal["nearest"]),
        f"*Namespace* {proposal['namespace']} · *proposer* {proposal['proposer']} · *proposal* {proposal['id']}",
    ]
    return "\n\n".join(part for part in parts if part)


def _read_answer(value: Any) -> dict[str, Any]:
    """Return an answer's fields, from any of the shapes that people and UIs send.

    Raises:
        ValueError: it cannot be read; the message says why.
    """
    if isinstance(value, bool):
        return {"type": "approve" if value else "reject"}
    if isinstance(value, str):
        return _read_text(value)
    if isinstance(value, list | tuple):
        if len(value) != 1:
            raise ValueError(f"one answer is needed, {len(value)} came")
        return _read_answer(value[0])
    if isinstance(value, Mapping):
        if "decisions" in value:
            return _read_answer(value["decisions"])
        return _read_decision(value)
    raise ValueError(f"{type(value).__name__} is no answer")


def _read_text(text: str) -> dict[str, Any]:
    word = text.strip().casefold()
    if word.startswith(("{", "[", '"')):
        return _read_answer(json.loads(text))
    kind = _WORDS.get(word)
    if kind is None:
        raise ValueError(f"{text[:80]!r} is no answer")
    if kind == "edit":
        raise ValueError("an edit needs its new words")
    return {"type": kind}


def _read_decision(value: Mapping[str, Any]) -> dict[str, Any]:
    kind = _WORDS.get(str(value.get("type", value.get("decision", ""))).casefold())
    if kind is None:
        raise ValueError("there is no known `type` in it")
    args = value.get("args")
    message = value.get("message", value.get("note"))
    if kind == "edit":
        edited = value.get("edited_action", value.get("editedAction", args))
        return {"type": "edit", "message": _text(message), **_edited(edited if edited is not None else value)}
    if message is None and not (kind == "approve" and isinstance(args, Mapping)):
        # An approval's `args` are the proposal once more, as some UIs send it back.
        message = args
    return {"type": kind, "message": _text(message)}


def _edited(value: Any) -> dict[str, str]:
    """Return the edited words; UIs send them nested, and as JSON text."""
    if isinstance(value, str):
        value = json.loads(value)
    if not isinstance(value, Mapping):
        raise TypeError("an edit needs its new words")
    for inner in ("args", "arguments"):
        if inner in value:
            return _edited(value[inner])
    words = {key: value[key] for key in ("title", "insight", "applies_when") if value.get(key) is not None}
    if not words or not all(isinstance(word, str) for word in words.values()):
        raise ValueError("an edit needs `title`, `insight` or `applies_when` as text")
    return words


def _text(value: Any) -> str | None:
    if value is None or value == "" or value == {}:
        return None
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
