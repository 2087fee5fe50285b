"""The real `langgraph dev` on loopback, for tests: started in a folder of its own, spoken to over its SDK."""

import importlib.util
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from langgraph_sdk import get_sync_client

from learngate.stores import Memory, open_memory

HERE = Path(__file__).parent
NODES = [
    "begin_turn",
    "load_history",
    "recall_user_memory",
    "search_learnings",
    "respond",
    "tools",
    "save_turn",
    "reflect",
    "remember_user",
    "propose_learning",
    "review_learning",
    "save_learning",
]
RULE = "When comparing ETFs, always check both expense ratio and tracking error."
FACT = "My risk tolerance is moderate."

needs_server = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("langgraph_cli", "langgraph_api")),
    reason="langgraph dev is not installed: pip install 'learngate[studio]'",
)


# -- the server ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Server:
    """One `langgraph dev` in a folder of its own, and the memory it writes to, opened from here as well."""

    home: Path
    client: Any
    memory: Memory
    process: subprocess.Popen[bytes]

    def kill(self) -> None:
        """End the server by a signal that nothing can catch."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def thread(self) -> str:
        thread_id: str = self.client.threads.create()["thread_id"]
        return thread_id

    def run(self, thread: str | None, given: Any = None, *, graph: str = "agent", **options: Any) -> list[Any]:
        """Run to the end or to a stop, and return the stream's parts; an error is its last."""
        options.setdefault("stream_mode", ["updates"])
        given = say(given) if isinstance(given, str) else given
        return list(self.client.runs.stream(thread, graph, input=given, **options))

    def resume(self, thread: str, answer: Any, **options: Any) -> list[Any]:
        return self.run(thread, command={"resume": answer}, **options)

    def state(self, thread: str) -> Any:
        return self.client.threads.get_state(thread)

    def asked(self, thread: str) -> Any:
        """Return what the gate asks on a thread; `None` where it does not wait there."""
        (asked,) = self.state(thread)["interrupts"] or [{"value": None}]
        return asked["value"]

    def proposal(self, thread: str) -> dict[str, Any]:
        proposal: dict[str, Any] = self.state(thread)["values"]["proposal"]
        return proposal


NOTE_CONNECTIONS = """
import sys

print("watched", file=open("connections.txt", "a"))

def note(event, args):
    if event in ("socket.connect", "socket.getaddrinfo"):
        with open("connections.txt", "a") as file:
            print(event, args[1] if event == "socket.connect" else args[0], file=file)

sys.addaudithook(note)
"""


def laid_out(home: Path) -> Path:
    """Lay out a folder to serve: the project's own graph and the spied one, watched for where it connects to."""
    config = json.loads((HERE.parents[1] / "langgraph.json").read_text())
    config["graphs"]["spied"] = "spied_agent:agent"
    (home / "langgraph.json").write_text(json.dumps(config))
    (home / "sitecustomize.py").write_text(NOTE_CONNECTIONS)
    shutil.copy(HERE / "spied_agent.py", home)
    return home


@contextmanager
def serving(home: Path) -> Iterator[Server]:
    """Serve a folder's langgraph.json, and end that server, and what it started, by its process group."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("LANG", "GOOGLE_"))}
    quiet = {"LANGSMITH_TRACING": "false", "LANGGRAPH_CLI_NO_ANALYTICS": "1", "LANGGRAPH_NO_VERSION_CHECK": "true"}
    dev = ["dev", "--no-browser", "--no-reload", "--port", str(port), "--n-jobs-per-worker", "16"]
    database = f"sqlite:///{home / 'learngate.db'}"
    with (home / "log.txt").open("a") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "langgraph_cli", *dev],
            cwd=home,
            env=kept | quiet | {"LEARNGATE_DB": database, "PYTHONPATH": str(home)},
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        wait_for(f"http://127.0.0.1:{port}/ok", process, home / "log.txt")
        with open_memory(database) as memory:
            client = get_sync_client(url=f"http://127.0.0.1:{port}", api_key=None)
            with client.http.client:
                yield Server(home, client, memory, process)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def wait_for(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    for _ in range(300):
        try:
            with urllib.request.urlopen(url):
                return
        except (urllib.error.URLError, ConnectionError):
            if process.poll() is not None:
                break
            time.sleep(0.2)
    raise AssertionError(f"the server did not start:\n{log.read_text()}")


def say(words: str, message_id: str | None = None) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": words, "id": message_id}]}


def who(user: str, **more: str) -> dict[str, Any]:
    """Return a context of a user and a namespace of their own, so that no test meets another's learnings."""
    return {"user_id": user, "namespace": user, **more}


def together(work: Callable[[Any], Any], over: list[Any]) -> list[Any]:
    # The server looks for new runs twice a second: side by side they wait for that once.
    with ThreadPoolExecutor(len(over)) as pool:
        return list(pool.map(work, over))


def events(parts: list[Any], name: str) -> list[Any]:
    return [part.data for part in parts if part.event == name]


def answer_of(parts: list[Any]) -> str:
    (said,) = [update["respond"]["messages"] for update in events(parts, "updates") if "respond" in update]
    text: str = said[0]["content"]
    return text
