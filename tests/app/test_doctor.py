"""`learngate doctor`: each line is true, and what is broken is said."""

import json
import sqlite3

import pytest

from learngate.stores import open_memory
from learngate.stores.sessions import MAX_ATTEMPTS
from tests.databases import database, needs_postgres


@pytest.fixture
def findings(run):
    def findings(*options, status=0):
        result = run("doctor", "--json", *options)
        assert result.exit_code == status, result.output
        report = json.loads(result.stdout)
        assert report["broken"] == sum(one["state"] == "broken" for one in report["findings"])
        return {one["what"]: one for one in report["findings"]}

    return findings


def test_a_healthy_database_is_in_order(findings, known, monkeypatch):
    found = findings("--model", "offline")
    assert {name for name, one in found.items() if one["state"] != "ok"} == {"inbox", "reflection", "audit"}
    assert "schema 1" in found["database"]["says"]
    assert found["rows"]["says"] == "1 session · 1 turn · 1 memory of 1 user · 1 learning, 1 retired"
    assert found["inbox"]["says"] == "1 proposal for a reviewer: 1 in default"
    assert found["inbox"]["todo"] == "`learngate review --namespace default`"
    assert (found["reflection"]["says"], found["reflection"]["todo"]) == ("1 turn pending", "`learngate reflect`")


def test_a_retired_learning_is_no_damage_of_the_index(findings, stocked):
    stocked.users.forget("ana", 1)
    stocked.learnings.retire(1, actor="ana")
    assert findings()["search"]["state"] == "ok"


def test_a_database_that_is_not_there_is_not_made(findings, path):
    found = findings()
    assert found["database"]["state"] == "look"
    assert "is not there yet" in found["database"]["says"]
    assert not path.exists()


def test_no_key_means_the_stand_in_and_a_line_that_says_what_to_do(findings, known):
    model = findings()["model"]
    assert model["state"] == "look"
    assert "GOOGLE_API_KEY is not set" in model["says"]
    assert "--model" in model["todo"]


def test_a_key_is_never_shown_and_no_model_is_called(run, known, monkeypatch):
    monkeypatch.setenv("GOOGLE_API_KEY", "AIza-secret")
    monkeypatch.setenv("GOOGLE_GEMINI_BASE_URL", "http://127.0.0.1:9")
    result = run("doctor")
    assert result.exit_code == 0
    assert "google_genai:gemini-3-flash-preview; it was not called · GOOGLE_API_KEY is set" in result.stdout
    assert "AIza" not in result.output


def test_a_model_that_cannot_be_used_is_broken(findings, known):
    model = findings("--model", "openai:gpt-5.2", status=1)["model"]
    assert (model["state"], "pip install langchain-openai" in model["says"]) == ("broken", True)


def test_damage_is_found(findings, known, path):
    size = path.stat().st_size
    with path.open("r+b") as file:
        for page in range(5, size // 4096):
            file.seek(page * 4096 + 100)
            file.write(b"\xff" * 600)
    found = findings(status=1)
    assert any(
        (one["state"] == "broken" and ("malformed" in one["says"] or "damaged" in one["says"]))
        or (one["what"] == "integrity" and one["state"] == "broken")
        for one in found.values()
    )
    assert found["embedder"]["state"] in {"ok", "broken"}
    assert found["versions"]["state"] == "ok"


def test_a_damaged_full_text_index_is_found(findings, known, path):
    with sqlite3.connect(path) as connection:
        connection.execute("DELETE FROM learnings_fts_data WHERE id > 10")
    connection.close()
    search = findings(status=1)["search"]
    assert search["state"] == "broken"
    assert "damaged" in search["says"]


def test_a_reflection_that_was_given_up_is_shown_with_its_reason(findings, stocked):
    for _ in range(MAX_ATTEMPTS):
        stocked.sessions.mark_reflection("mine", "t1", "failed", error="the model said nonsense")
    reflection = findings()["reflection"]
    assert f"given up on 1 turn after {MAX_ATTEMPTS} attempts" in reflection["says"]
    assert "the model said nonsense" in reflection["says"]


def test_a_read_only_database_is_looked_at_as_far_as_it_goes(findings, known, path):
    found = findings("--db", f"sqlite:///file:{path}?mode=ro&uri=true")
    assert found["search"]["state"] == "look"
    assert "read-only" in found["search"]["says"]
    assert found["rows"]["state"] == "ok"


def test_doctor_changes_nothing(findings, known, rows):
    before = rows()
    findings()
    assert rows() == before


def test_vectors_are_counted(findings, stocked, path):
    assert "0 vectors for 3 rows" in findings()["embedder"]["says"]
    stocked.learnings.search("comparing ETFs", namespace="default")
    assert "1 vector for 3 rows" in findings()["embedder"]["says"]
    with open_memory(f"sqlite:///{path}") as other, other.database.write() as connection:
        connection.exec_driver_sql("UPDATE embeddings SET embedder = 'another'")
    assert "1 of other embedders" in findings()["embedder"]["says"]


def test_its_lines_are_aligned_in_a_pipe(told, known):
    lines = told("doctor", "--model", "offline").splitlines()
    assert all(line[:8].strip() in {"ok", "look", "broken", ""} for line in lines[:-2])
    assert lines[-1] == "0 broken · 3 to look at"


@needs_postgres
def test_a_postgres_database_is_looked_at_and_mended(findings, tmp_path):
    with database("postgres", tmp_path) as url:
        with open_memory(url) as memory:
            memory.users.remember("ana", "The user likes short answers.")
            with memory.database.write() as connection:
                connection.exec_driver_sql("UPDATE user_memories SET body = 'x'")
        found = findings("--repair", "--db", url)
        assert "PostgreSQL 1" in found["database"]["says"]
        assert "rows of user_memories" in found["repair"]["says"]
        assert {found[name]["state"] for name in ("database", "repair", "integrity", "search", "rows")} == {"ok"}
