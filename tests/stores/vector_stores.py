"""Vector stores to test with: Chroma in a folder or as a server on loopback, Qdrant in this process."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from langchain_core.vectorstores import VectorStore

from learngate.stores.vector_store import Make, StoredVectors


def chroma(client: Any) -> Make:
    """Return what makes the store of an embedder with a Chroma client."""
    from langchain_chroma import Chroma

    return lambda embedder: Chroma(embedder.name, embedder, client=client)


@contextmanager
def chroma_in(folder: Path) -> Iterator[Make]:
    import chromadb

    with chromadb.PersistentClient(folder, settings=_quiet()) as client:
        yield chroma(client)


@contextmanager
def chroma_at(port: int) -> Iterator[Make]:
    import chromadb

    with chromadb.HttpClient(host="127.0.0.1", port=port, settings=_quiet()) as client:
        try:
            yield chroma(client)
        finally:
            # It leaves its connections open.
            for one in (client, client._admin_client):
                one._server._session.close()


def _quiet() -> Any:
    import chromadb

    return chromadb.Settings(anonymized_telemetry=False)


def qdrant(client: Any = None) -> Make:
    from langchain_qdrant import QdrantVectorStore
    from qdrant_client import QdrantClient, models

    client = client or QdrantClient(":memory:")

    def make(embedder: StoredVectors) -> VectorStore:
        if not client.collection_exists(embedder.name):
            size = models.VectorParams(size=embedder.dimensions, distance=models.Distance.COSINE)
            client.create_collection(embedder.name, vectors_config=size)
        return QdrantVectorStore(client, embedder.name, embedder)

    return make


@contextmanager
def chroma_server(folder: Path, port: int | None = None) -> Iterator[tuple[int, subprocess.Popen[bytes]]]:
    """Start a Chroma server on loopback; give its port and its process."""
    if port is None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
    command = [str(Path(sys.executable).parent / "chroma"), "run", "--path", str(folder)]
    # Into a file: it says much, and waits for whoever reads it.
    with (folder.parent / "chroma.log").open("ab") as log:
        server = subprocess.Popen(
            [*command, "--host", "127.0.0.1", "--port", str(port)],
            stdout=log,
            stderr=log,
            env=os.environ | {"ANONYMIZED_TELEMETRY": "FALSE"},
        )
    try:
        _wait_for(port, server)
        yield port, server
    finally:
        server.kill()
        server.wait()


def _wait_for(port: int, server: subprocess.Popen[bytes]) -> None:
    for _ in range(2_000):
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        with suppress(subprocess.TimeoutExpired):
            raise AssertionError(f"the server ended with {server.wait(0.03)}")
    raise AssertionError("the server does not answer")
