import threading
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.documents import Document
from langchain_core.messages import (
    AIMessage,
    AIMessageChunk,
    ChatMessage,
    HumanMessage,
    HumanMessageChunk,
    SystemMessage,
    ToolMessage,
    message_chunk_to_message,
)

from learngate.stores.codec import UNREADABLE, from_text, to_text, whole

# With lone surrogates: a model may write one.
TEXT = st.text(alphabet=st.characters(exclude_categories=()), max_size=20)
KEYS = TEXT | st.sampled_from(["__bytes__", "__bytes___", "__bytes____", "lc", "type"])
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | TEXT | st.binary(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=8,
)
DICTS = st.dictionaries(KEYS, VALUES, max_size=3)
BLOCKS = DICTS.map(lambda d: {"type": "text", "text": "x", "extras": d}) | TEXT
COMMON = {
    "content": TEXT | st.lists(BLOCKS, max_size=3),
    "additional_kwargs": DICTS,
    "response_metadata": DICTS,
    "name": st.none() | TEXT,
    "id": st.none() | TEXT,
}
CALLS = st.builds(
    lambda n, a, i: {"name": n, "args": a, "id": i, "type": "tool_call"}, TEXT, DICTS, st.none() | TEXT
)
BAD_CALLS = st.builds(
    lambda n, a: {"name": n, "args": a, "id": None, "error": "not JSON", "type": "invalid_tool_call"}, TEXT, TEXT
)
COUNT = st.integers(0, 10**9)
USAGE = st.none() | st.builds(
    lambda i, o, c: {
        "input_tokens": i,
        "output_tokens": o,
        "total_tokens": i + o,
        "input_token_details": {"cache_read": c},
        "output_token_details": {"reasoning": c},
    },
    COUNT,
    COUNT,
    COUNT,
)
MESSAGES = st.one_of(
    st.builds(HumanMessage, **COMMON),
    st.builds(SystemMessage, **COMMON),
    st.builds(ChatMessage, role=TEXT, **COMMON),
    st.builds(
        AIMessage,
        tool_calls=st.lists(CALLS, max_size=2),
        invalid_tool_calls=st.lists(BAD_CALLS, max_size=1),
        usage_metadata=USAGE,
        **COMMON,
    ),
    st.builds(
        ToolMessage,
        tool_call_id=TEXT,
        status=st.sampled_from(["success", "error"]),
        artifact=VALUES,
        **COMMON,
    ),
)


@given(MESSAGES)
def test_a_message_comes_back_as_it_was(message):
    text = to_text(message)
    assert text.isascii()
    again = from_text(text)
    assert type(again) is type(message)
    assert again == message
    assert to_text(again) == text


def test_what_gemini_needs_to_have_back_comes_back():
    message = AIMessage(
        content=[
            {"type": "thinking", "thinking": "compare both", "signature": "c2lnbmVk"},
            {"type": "text", "text": "Let me look.", "extras": {"signature": "AfQ="}},
        ],
        tool_calls=[{"name": "quote", "args": {"symbol": "NVDA"}, "id": "call-1"}],
        additional_kwargs={
            "function_call": {"name": "quote", "arguments": '{"symbol": "NVDA"}'},
            "__gemini_function_call_thought_signatures__": {"call-1": b"\xfb\xff\xfe signed"},
        },
        response_metadata={"finish_reason": "STOP", "model_provider": "google_genai"},
        usage_metadata={"input_tokens": 9, "output_tokens": 4, "total_tokens": 13},
    )
    assert from_text(to_text(message)) == message


def test_a_row_of_the_first_format_is_read():
    stored = (
        '{"type":"ai","data":{"content":"Hi","additional_kwargs":{"signature":{"__bytes__":"+/8="}},'
        '"response_metadata":{},"type":"ai","name":null,"id":"a1","tool_calls":[],"invalid_tool_calls":[],'
        '"usage_metadata":null}}'
    )
    assert from_text(stored) == AIMessage("Hi", id="a1", additional_kwargs={"signature": b"\xfb\xff"})


def test_a_streamed_answer_is_stored_as_the_message_that_it_is():
    chunks = AIMessageChunk(
        "Let me ",
        id="a1",
        tool_call_chunks=[
            {"name": "quote", "args": '{"symbol": ', "id": "c1", "index": 0, "type": "tool_call_chunk"}
        ],
    ) + AIMessageChunk(
        "look.",
        tool_call_chunks=[{"name": None, "args": '"NVDA"}', "id": None, "index": 0, "type": "tool_call_chunk"}],
        usage_metadata={"input_tokens": 1, "output_tokens": 2, "total_tokens": 3},
    )
    again = from_text(to_text(chunks))
    assert type(again) is AIMessage
    assert again == message_chunk_to_message(chunks)
    assert again.tool_calls[0]["args"] == {"symbol": "NVDA"}


def test_only_a_chunk_is_made_whole():
    message = HumanMessage("Hi")
    assert whole(message) is message
    assert whole(HumanMessageChunk("Hi")) == HumanMessage("Hi")


class Unspeakable:
    def __repr__(self):
        raise RuntimeError("no words")


@dataclass
class Quote:
    symbol: str
    raw: bytes


def circle():
    ring = []
    ring.append(ring)
    return ring


def tower():
    built = []
    for _ in range(5_000):
        built = [built]
    return built


@pytest.mark.parametrize(
    ("artifact", "kept"),
    [
        (object(), "<object object"),
        (Unspeakable(), "<Unspeakable instance"),
        (threading.Lock(), "<unlocked _thread.lock"),
        (lambda: 1, "<function <lambda>"),
        ((number for number in range(3)), "<generator object"),
        (circle(), "[[[["),
        (tower(), "[[[["),
        ({1, 2}, "{1, 2}"),
        (Quote, "<class "),
        ("\ud800", "\ud800"),
        ("x" * 50_000, "xxxx"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_any_object_may_be_a_tools_artifact(artifact, kept):
    message = ToolMessage("done", tool_call_id="c1", artifact=artifact)
    again = from_text(to_text(message))
    assert again.content == "done"
    assert str(again.artifact).startswith(kept)


def test_an_artifact_keeps_its_shape_where_json_has_one():
    artifact = {
        1: (1, 2.5, None),
        (2, 3): Document("page", metadata={"at": 1}),
        "quote": Quote("NVDA", b"\xff"),
        "__bytes__": "not base64!",
    }
    again = from_text(to_text(ToolMessage("x", tool_call_id="c1", artifact=artifact)))
    assert again.artifact == {
        "1": [1, 2.5, None],
        "(2, 3)": {"id": None, "metadata": {"at": 1}, "page_content": "page", "type": "Document"},
        "quote": {"symbol": "NVDA", "raw": b"\xff"},
        "__bytes__": "not base64!",
    }


def test_an_objects_own_words_are_kept_up_to_a_length():
    class Chatty:
        def __repr__(self):
            return "x" * 1_000_000

    text = to_text(ToolMessage("x", tool_call_id="c1", artifact=Chatty()))
    assert len(text) < 12_000


@given(st.text(st.characters(codec="ascii")), st.data())
def test_a_bit_that_flips_is_an_error_and_never_other_words(words, data):
    message = AIMessage(words, id="m")
    stored = bytearray(to_text(message).encode())
    place = data.draw(st.integers(0, len(stored) - 1))
    stored[place] ^= 1 << data.draw(st.integers(0, 6))
    try:
        again = from_text(stored.decode())
    except UNREADABLE:
        return
    assert again == message
