"""Messages to text and back, losslessly: tool calls, thought signatures, usage and all.

Each text ends with a checksum of itself, because an SQLite file has none: a bit that has flipped on a disk is an
error, and never other words.
"""

from __future__ import annotations

import base64
import json
import reprlib
import zlib
from dataclasses import fields, is_dataclass
from typing import Any

from langchain_core.messages import (
    BaseMessage,
    BaseMessageChunk,
    message_chunk_to_message,
    messages_from_dict,
    messages_to_dict,
)
from pydantic import BaseModel

from learngate.stores.errors import StoreUnusable

FORMAT = 1
MAX_DEPTH = 100
"""How deeply lists and dicts may nest; what is deeper, or holds itself, is kept as its `repr`."""
UNREADABLE = (ValueError, KeyError, TypeError, AttributeError, RecursionError, LookupError)
"""What `from_text` raises of a text that is not one of `to_text`'s."""
_BYTES = "__bytes__"
_SEAL = ',"seal":"'
_SEALED = len(_SEAL) + 10
_said = reprlib.Repr()
_said.maxother = 10_000


def whole(message: BaseMessage) -> BaseMessage:
    """Return the message that a streamed chunk stands for; any other as it is."""
    return message_chunk_to_message(message) if isinstance(message, BaseMessageChunk) else message


def to_text(message: BaseMessage) -> str:
    """Return a message as JSON in ASCII, so that even a lone surrogate from a model survives.

    A tool's artifact may be any object: what JSON has no word for is kept as what it says of itself.
    """
    message = whole(message)
    artifact = getattr(message, "artifact", None)
    if artifact is None:
        dumped = messages_to_dict([message])[0]
    else:
        # pydantic refuses an artifact that holds itself.
        dumped = messages_to_dict([message.model_copy(update={"artifact": None})])[0]
        dumped["data"]["artifact"] = artifact
    text = json.dumps(_encode(dumped), separators=(",", ":"))
    return f'{text[:-1]}{_SEAL}{_checksum(text)}"}}'


def from_text(text: str) -> BaseMessage:
    """Return the message that `to_text` was given; a text without a checksum is taken as it is."""
    ending = text[-_SEALED:]
    if ending.startswith(_SEAL):
        text = f"{text[:-_SEALED]}}}"
        if ending[len(_SEAL) : -2] != _checksum(text):
            raise ValueError("it is not what was written: its checksum is another")
    return messages_from_dict([json.loads(text, object_hook=_decode)])[0]


def recorded(text: str, *, session: str) -> BaseMessage:
    """Return a message of a session, as it was recorded.

    Raises:
        StoreUnusable: it cannot be read any more.
    """
    try:
        return from_text(text)
    except UNREADABLE as error:
        raise StoreUnusable(
            f"a message of session {session!r} is damaged ({str(error).splitlines()[0]}): restore a backup, or let"
            " `learngate doctor --repair` set it aside"
        ) from error


def _checksum(text: str) -> str:
    return f"{zlib.crc32(text.encode()):08x}"


def _encode(value: Any, depth: int = 0) -> Any:
    if value is None or isinstance(value, str | int | float):
        return value
    if isinstance(value, bytes):
        return {_BYTES: base64.b64encode(value).decode()}
    if depth == MAX_DEPTH:
        return _said.repr_instance(value, 0)
    if isinstance(value, dict):
        return _escaped({str(key): _encode(one, depth + 1) for key, one in value.items()})
    if isinstance(value, list | tuple):
        return [_encode(one, depth + 1) for one in value]
    if isinstance(value, BaseModel):
        return _encode(dict(value), depth + 1)
    if is_dataclass(value) and not isinstance(value, type):
        return _encode({one.name: getattr(value, one.name, None) for one in fields(value)}, depth + 1)
    return _said.repr_instance(value, 0)


def _escaped(value: dict[str, Any]) -> dict[str, Any]:
    """Return a dict that cannot be taken for bytes: a model may well write `{"__bytes__": …}`."""
    if len(value) == 1 and (key := next(iter(value))).startswith(_BYTES):
        return {f"{key}_": value[key]}
    return value


def _decode(value: dict[str, Any]) -> Any:
    if len(value) == 1 and (key := next(iter(value))).startswith(_BYTES):
        return base64.b64decode(value[key]) if key == _BYTES else {key[:-1]: value[key]}
    return value
