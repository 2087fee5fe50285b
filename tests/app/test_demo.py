"""The demo tells its story, and what it acknowledged is there for the next process."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from learngate.stores import open_memory
from tests.doubles.gemini import Call, Calls, GeminiDouble, Json, Text

COMMAND = [str(Path(sys.executable).parent / "learngate"), "demo"]
RULE = "When comparing ETFs, check both expense ratio and tracking error."


def tell(*options, tmp_path, **environment):
    done = subprocess.run(
        [*COMMAND, *options],
        env=os.environ | {"TMPDIR": str(tmp_path), "COLUMNS": "100", "NO_COLOR": "1"} | environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    return tell("--yes", tmp_path=tmp_path_factory.mktemp("demo"))


def database(told):
    return re.search(r"^database +(\S+)", told, re.MULTILINE)[1]


def test_it_tells_the_three_memories_and_taking_one_back(told):
    chapters = ("Session memory", "User memory", "Learned memory", "Taking it back", "Where to go next")
    positions = [told.index(chapter) for chapter in chapters]
    assert positions == sorted(positions)
    assert "the demo approves it by itself" in told
    assert "learning 1 reached ben, who never met ana" in told
    assert "recalled before: yes · after: no" in told
    assert "offline stand-in" in told


def test_the_comparison_knows_what_that_was(told):
    compared = told.split("Compare that to Tesla")[1].split("▸")[0]
    assert "NVIDIA (NVDA" in compared
    assert "Tesla (TSLA" in compared


def test_another_process_sees_everything_that_was_acknowledged(told):
    with open_memory(f"sqlite:///{database(told)}") as memory:
        assert sum(session.turns for session in memory.sessions.list(user_id="ana")) == 6
        assert sum(session.turns for session in memory.sessions.list(user_id="ben")) == 3
        assert len(memory.users.list("ana")) == 2
        assert memory.users.list("ben") == []
        (learning,) = memory.learnings.list(namespace="finance")
        assert learning.insight == RULE
        (first,) = memory.learnings.history(learning.id)
        assert (first.proposer, first.reviewer) == ("offline", "ana")
        assert [one.change for one in memory.learnings.history(2)] == ["created", "retired"]


def test_the_commands_it_names_at_the_end_work(told):
    lines = re.findall(r"(learngate learnings .+ --db \S+)", told)
    assert len(lines) == 2
    for line in lines:
        done = subprocess.run(
            [COMMAND[0], *line.split()[1:]], capture_output=True, text=True, timeout=100, check=False
        )
        assert done.returncode == 0, done.stderr
        assert "ETF" in done.stdout


def test_with_a_key_it_runs_on_gemini_and_says_so(tmp_path):
    proposed = {"memories": [], "learning": {"title": "Compare ETFs", "insight": RULE}}
    nothing = {"memories": [], "learning": None}
    with GeminiDouble(
        answers=[Calls((Call("market_data", {"name": "NVIDIA"}),)), *[Text("As you say.")] * 9],
        structured=[*[Json(nothing)] * 5, Json(proposed), *[Json(nothing)] * 3],
    ) as gemini:
        told = tell(tmp_path=tmp_path, GOOGLE_API_KEY="test", GOOGLE_GEMINI_BASE_URL=gemini.url)
    assert "google_genai:gemini-3-flash-preview" in told
    assert "learning 1 reached ben" in told
    assert len(gemini.prompts()) == 10


def test_a_model_that_does_not_answer_is_one_line(tmp_path):
    done = subprocess.run(
        [*COMMAND, "--yes", "--model", "openai:gpt-5.2"], capture_output=True, text=True, timeout=100, check=False
    )
    assert done.returncode == 2
    assert "pip install langchain-openai" in done.stderr
    assert "Traceback" not in done.stderr
