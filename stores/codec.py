"""Messages to text and back, losslessly: tool calls, thought signatures, usage and all."""

from __future__ import annotations

import base64
import json
from typing import Any

from langchain_core.messages import (
    BaseMessage,
    BaseMessageChunk,
    message_chunk_to_message,
    messages_from_dict,
    messages_to_dict,
)

FORMAT = 1
_BYTES = "__bytes__"


def to_text(message: BaseMessage) -> str:
    """Return a message as JSON in ASCII, so that even a lone surrogate from a model survives."""
    if isinstance(message, BaseMessageChunk):
        message = message_chunk_to_message(message)
    return json.dumps(messages_to_dict([message])[0], default=_encode, separators=(",", ":"))


def from_text(text: str) -> BaseMessage:
    """Return the message that `to_text` was given."""
    return messages_from_dict([json.loads(text, object_hook=_decode)])[0]


def _encode(value: Any) -> Any:
    if isinstance(value, bytes):
        return {_BYTES: base64.b64encode(value).decode()}
    # A tool's artifact may be any object: what it says of itself is kept.
    return repr(value)


def _decode(value: dict[str, Any]) -> Any:
    if value.keys() == {_BYTES}:
        return base64.b64decode(value[_BYTES])
    return value
