import logging
import socket
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from langchain_core.embeddings import DeterministicFakeEmbedding

from learngate.stores.embedders import DIMENSIONS, WordLlamaEmbeddings, embedder_name
from tests.stores.support import Hashed, together

LOADED = WordLlamaEmbeddings()


@given(st.lists(st.text(max_size=30), max_size=4))
@example([""])
@example(["", " ", "!!!", "\u200b", "\x00", "☕", "\n", "\u0378", "\U0010ffff"])
def test_every_text_has_a_unit_vector_without_a_nan(texts):
    vectors = np.asarray(LOADED.embed_documents(texts)).reshape(len(texts), DIMENSIONS)
    assert np.isfinite(vectors).all()
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    for text, vector in zip(texts, vectors, strict=True):
        assert np.array_equal(LOADED.embed_query(text), vector)


def test_like_is_nearer_than_unlike():
    ask, near, far = np.asarray(
        LOADED.embed_documents(["compare two ETFs", "comparing funds: check the expense ratio", "the sea at night"])
    )
    assert ask @ near > ask @ far + 0.1


def test_it_loads_without_a_network(monkeypatch):
    def refuse(*_):
        raise AssertionError("it asked for the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    assert len(WordLlamaEmbeddings().embed_query("tea")) == DIMENSIONS


def test_threads_that_come_first_at_once_are_all_served():
    fresh = WordLlamaEmbeddings()
    vectors = together(*[lambda: fresh.embed_query("tea")] * 8)
    assert all(vector == vectors[0] for vector in vectors)


def test_the_hosts_logging_is_left_alone():
    script = """
import logging
from learngate.stores.embedders import WordLlamaEmbeddings
logging.getLogger().setLevel(logging.ERROR)
WordLlamaEmbeddings().embed_query("tea")
print(logging.getLogger().handlers, logging.getLogger().level)
"""
    said = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert said.stdout == f"[] {logging.ERROR}\n"


def test_nothing_is_loaded_before_it_is_needed():
    script = """
import sys
from learngate.stores import open_memory
with open_memory("sqlite://") as memory:
    memory.users.remember("ana", "likes tea")
    memory.users.recall("ana", "tea")
print([name for name in ("wordllama", "faiss", "langchain_google_genai", "langgraph.graph") if name in sys.modules])
"""
    said = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert said.stdout == "[]\n"


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (Hashed(), DeterministicFakeEmbedding(size=8)),
        (DeterministicFakeEmbedding(size=8), DeterministicFakeEmbedding(size=9)),
        (WordLlamaEmbeddings(), Hashed()),
    ],
    ids=["classes", "sizes", "models"],
)
def test_embedders_that_differ_have_names_that_differ(one, other):
    assert embedder_name(one) != embedder_name(other)


def test_a_name_tells_class_model_and_size():
    class Remote(Hashed):
        model = "models/embedding-001"
        output_dimensionality = 768

    assert embedder_name(Remote()) == "Remote:models/embedding-001:768"
