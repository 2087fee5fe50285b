"""What the lines of an export look like: each field's type, so that nothing else is ever imported."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, get_args, overload

from learngate.stores.errors import InvalidInput
from learngate.stores.guard import MOST
from learngate.stores.records import (
    DecisionType,
    LearningStatus,
    ProposalKind,
    ProposalStatus,
    ReflectionStatus,
    TurnStatus,
)
from learngate.stores.text import MEMORY_LIMIT, check_name, check_namespace, check_text

Check = Callable[[Any], bool]
Shape = Mapping[str, Check]

_UID = re.compile(r"[0-9a-f]{32}")


@overload
def when(text: str) -> datetime: ...
@overload
def when(text: str | None) -> datetime | None: ...
def when(text: str | None) -> datetime | None:
    """Return a time of a line."""
    return None if text is None else datetime.fromisoformat(text)


def _text(value: Any) -> bool:
    if not isinstance(value, str):
        return False
    value.encode()  # a lone surrogate has no place in a database
    return True


def _name(value: Any) -> bool:
    return bool(check_name(value, what="a name") == value)


def _space(value: Any) -> bool:
    return bool(check_namespace(value) == value)


def _fact(value: Any) -> bool:
    return bool(check_text(value, what="the memory", limit=MEMORY_LIMIT) == value)


def _number(value: Any) -> bool:
    return type(value) is int and 0 <= value <= MOST


def _score(value: Any) -> bool:
    return type(value) in {int, float} and math.isfinite(value)


def _time(value: Any) -> bool:
    """Whether it is a time as it is written: a moment has one way of being written only."""
    if not isinstance(value, str):
        return False
    moment = datetime.fromisoformat(value)
    offset = moment.utcoffset()
    return offset is not None and not offset and moment.isoformat(timespec="microseconds") == value


def _uid(value: Any) -> bool:
    return isinstance(value, str) and _UID.fullmatch(value) is not None


def _flag(value: Any) -> bool:
    return isinstance(value, bool)


def _anything(_: Any) -> bool:
    return True


def _object(value: Any) -> bool:
    return isinstance(value, dict)


def _one_of(*values: str) -> Check:
    return lambda value: isinstance(value, str) and value in values


def _maybe(check: Check) -> Check:
    return lambda value: value is None or check(value)


def _each(shape: Shape) -> Check:
    return lambda value: isinstance(value, list) and all(_fits(one, shape) for one in value)


def _fits(value: Any, shape: Shape) -> bool:
    return isinstance(value, dict) and value.keys() == shape.keys() and all(shape[k](v) for k, v in value.items())


_STATUS = _one_of(*get_args(LearningStatus))
_WORDS: Shape = {"title": _text, "insight": _text, "applies_when": _text}
_SOURCE: Shape = {"source_session": _maybe(_text), "source_turn": _maybe(_text)}
_QUOTE: Shape = {name: _maybe(_text) for name in ("speaker", "user_id", "session_id", "turn_id")} | {"text": _text}
_CHANGE = _one_of("created", "edited", "reverted", "retired", "restored")
_SAVED: Shape = {
    "learning": _uid,
    "revision": _number,
    "namespace": _space,
    "change": _CHANGE,
    **_WORDS,
    "status": _STATUS,
    "at": _time,
}
_DECISION: Shape = {
    "type": _one_of(*get_args(DecisionType)),
    "reviewer": _name,
    "note": _maybe(_text),
    "decided_at": _time,
    "revision": _maybe(lambda value: _fits(value, _SAVED)),
}
_VERSION: Shape = {
    "revision": _number,
    "change": _one_of("added", "updated", "forgotten"),
    "text": _fact,
    "at": _time,
    **_SOURCE,
}
_MESSAGE: Shape = {"id": _maybe(_text), "role": _text, "format": _number, "data": _anything}
_RECALL: Shape = {
    "of": _one_of("memory", "learning"),
    "row": _uid,
    "revision": _number,
    "rank": _number,
    "score": _score,
    "fate": _one_of("shown", "cut", "withheld"),
}

SHAPES: dict[str, Shape] = {
    "erased": {"token": _text, "erased_at": _time},
    "session": {
        "id": _name,
        "user_id": _maybe(_name),
        "opened_at": _time,
        "deleted_at": _maybe(_time),
        "newest": _maybe(_text),
    },
    "memory": {
        "uid": _uid,
        "user_id": _name,
        "namespace": _maybe(_space),
        "text": _fact,
        "pinned": _flag,
        "revision": _number,
        **_SOURCE,
        "valid_from": _time,
        "valid_to": _maybe(_time),
        "created_at": _time,
        "updated_at": _time,
        "revisions": _each(_VERSION),
    },
    "proposal": {
        "uid": _uid,
        "namespace": _space,
        "of": _one_of(*get_args(ProposalKind)),
        **_WORDS,
        "rationale": _text,
        "taint": _maybe(_text),
        "proposer": _name,
        "status": _one_of(*get_args(ProposalStatus)),
        "digest": _text,
        "user_id": _maybe(_text),
        "session_id": _maybe(_text),
        "turn_id": _maybe(_text),
        "created_at": _time,
        "expires_at": _maybe(_time),
        "base_revision": _maybe(_number),
        "target": _maybe(_uid),
        "excerpts": _each(_QUOTE),
        "decisions": _each(_DECISION),
    },
    "learning": {
        "uid": _uid,
        "namespace": _space,
        **_WORDS,
        "status": _STATUS,
        "revision": _number,
        "created_at": _time,
        "updated_at": _time,
    },
    "turn": {
        "session": _name,
        "parent": _maybe(_text),
        "id": _name,
        "user_id": _maybe(_name),
        "namespace": _space,
        "status": _one_of(*get_args(TurnStatus)),
        "reflection": _one_of(*get_args(ReflectionStatus)),
        "reflection_attempts": _number,
        "reflection_error": _maybe(_text),
        "happened_at": _time,
        "recorded_at": _time,
        "checkpoint_id": _maybe(_text),
        "usage": _maybe(_object),
        "noted": _maybe(_object),
        "messages": _each(_MESSAGE),
        "effects": _each({"effect": _text, "at": _time}),
        "recalls": _each(_RECALL),
    },
}


def _begins(messages: list[dict[str, Any]]) -> bool:
    """Whether a turn begins with what a human said."""
    if not messages or messages[0]["role"] != "human":
        return False
    data = messages[0]["data"]
    return not isinstance(data, dict) or data.get("type") == "human"


def check(number: int, row: dict[str, Any]) -> None:
    """Make sure that a line has the fields of its kind, of their types, and no others.

    Raises:
        InvalidInput: it has not; the message names the line and the field.
    """
    shape = SHAPES[row["kind"]]
    missing, more = shape.keys() - row.keys(), row.keys() - shape.keys() - {"kind"}
    if missing or more:
        raise InvalidInput(
            f"line {number} of the export cannot be read: it lacks {sorted(missing)} or has {sorted(more)}"
        )
    for name, fits in shape.items():
        try:
            sound = fits(row[name])
        except (ValueError, RecursionError, OverflowError) as error:
            raise InvalidInput(f"line {number} of the export cannot be read: {name}: {error}") from error
        if not sound:
            raise InvalidInput(f"line {number} of the export cannot be read: {name} is {str(row[name])[:100]!r}")
    # A repair takes messages that cannot be read out of a turn, which counts as failed from then on.
    if row["kind"] == "turn" and row["status"] != "failed" and not _begins(row["messages"]):
        raise InvalidInput(
            f"line {number} of the export cannot be read: its turn does not begin with a human message"
        )
