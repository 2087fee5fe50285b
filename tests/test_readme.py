"""Every code block of the README is run, as it stands there."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from learngate.stores import open_memory

ROOT = Path(__file__).parent.parent
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```$", (ROOT / "README.md").read_text(), re.MULTILINE | re.DOTALL)
PYTHON = [code for language, code in BLOCKS if language == "python"]
SHELL = [line for language, code in BLOCKS if language == "" for line in code.splitlines()]
COMMANDS = [line.split("#")[0].strip() for line in SHELL]
LEARNGATE = [line for line in COMMANDS if line.startswith("learngate ")]


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder of the reader's own, in which a block is run."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(code, name="README"):
    space = {"__name__": "readme"}
    exec(compile(code, name, "exec"), space)
    return space


def block(containing):
    (found,) = [code for code in PYTHON if containing in code]
    return found


def test_embedding_it_saves_a_learning(here, capsys):
    run(block("ana-etfs"))
    rule = "When comparing ETFs, check both expense ratio and tracking error."
    assert capsys.readouterr().out.strip().endswith(repr([rule]))
    run(block("ana-etfs"))  # what is known is not proposed again, and nothing breaks
    assert capsys.readouterr().out.strip().endswith(repr([rule]))


def test_serving_it_pauses_and_resumes_and_refuses_strangers(here):
    app = run(block("FastAPI"))["app"]
    with TestClient(app, raise_server_exceptions=False) as client:
        rule = "When comparing ETFs, check both expense ratio and tracking error."
        asked = client.post("/chat/s", params={"user": "ana", "text": rule}).json()
        assert asked["asked"][0]["proposal"]["status"] == "pending"
        again = client.post("/chat/s", params={"user": "ana", "answer": "perhaps"}).json()
        assert "no answer" in again["asked"][0]["problem"]
        answered = client.post("/chat/s", params={"user": "ana", "answer": "approve"}).json()
        assert answered["proposal"]["status"] == "approved"
        stranger = client.post("/chat/s", params={"user": "ben", "text": "What did ana say?"})
        assert stranger.status_code == 403
        assert "tracking" not in stranger.text
        assert client.post("/chat/s", params={"user": "ana", "text": " "}).status_code == 400
        hers = client.post("/chat/t", params={"user": "ben", "text": "How do I compare ETFs?"}).json()
        assert "tracking error" in hers["answer"]


def test_swapping_the_model_builds(here):
    assert run(block('google_genai:gemini-3-flash-preview")  #'))["graph"]


def test_the_example_test_passes(here):
    run(block("def test_the_next_user"))["test_the_next_user_gets_the_benefit"]()


def test_the_guide_runs_from_top_to_bottom(here):
    guide = (ROOT / "docs" / "guide.md").read_text()
    run("\n".join(re.findall(r"^```python\n(.*?)^```$", guide, re.MULTILINE | re.DOTALL)), "guide")


def test_no_python_block_is_forgotten():
    assert len(PYTHON) == 4


@pytest.mark.parametrize("target", ["demo", "test"])
def test_the_make_targets_exist(target):
    assert f"make {target}" in " ".join(COMMANDS)
    subprocess.run(["make", "-n", target], cwd=ROOT, check=True, capture_output=True, timeout=60)


@pytest.mark.parametrize("line", LEARNGATE, ids=lambda line: line.split()[1])
def test_each_command_runs(line, tmp_path):
    environment = os.environ | {"LEARNGATE_DB": f"sqlite:///{tmp_path}/readme.db", "LEARNGATE_MODEL": "offline"}
    with open_memory(environment["LEARNGATE_DB"]) as memory:  # most commands make none
        memory.users.remember("ana", "The user likes short answers.")
    command = [str(Path(sys.executable).parent / "learngate"), *shlex.split(line)[1:]]
    done = subprocess.run(
        command,
        cwd=tmp_path,
        env=environment,
        input="hello\n",
        text=True,
        capture_output=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr


def test_studio_finds_the_graph():
    import json

    assert any(line.endswith("langgraph dev") for line in COMMANDS)
    assert json.loads((ROOT / "langgraph.json").read_text())["graphs"] == {"agent": "learngate.app.studio:agent"}
