import json
import sqlite3

from learngate.stores.embedders import WordLlamaEmbeddings


def vectors(path):
    with sqlite3.connect(path) as connection:
        return dict(connection.execute("SELECT embedder, count(*) FROM embeddings GROUP BY embedder").fetchall())


def test_it_embeds_what_is_missing_and_says_so(told, known, path):
    shown = told("embed")
    assert shown.startswith("embedded 3 of 3 rows with WordLlamaEmbeddings:wordllama-256@")
    assert list(vectors(path).values()) == [3]
    assert told("embed").startswith("nothing was missing for WordLlamaEmbeddings:wordllama-256@")


def test_where_nothing_was_missing_another_embedder_may_have_gaps(run, told, known, path):
    told("embed", "--embedder", "minilm")
    told("embed")
    with sqlite3.connect(path) as connection:
        connection.execute("DELETE FROM embeddings WHERE embedder LIKE 'MiniLM%' AND kind = 'turn'")
    for json_ in ((), ("--json",)):
        result = run("embed", "--db", path, *json_)
        assert "has 2 vectors for 3 rows here: `learngate embed --embedder minilm --db " in result.stderr
        assert f"{path}`" in result.stderr.replace("\n", "")
    told("embed", "--embedder", "minilm")
    assert run("embed").stderr == ""


def test_whoever_stops_it_is_told_where_and_goes_on_there(run, told, known, monkeypatch):
    embed, texts = WordLlamaEmbeddings.embed_documents, []

    def stopped(self, given):
        texts.extend(given)
        if len(texts) == 3:  # what is harmless, one row, and no second
            raise KeyboardInterrupt
        return embed(self, given)

    monkeypatch.setattr(WordLlamaEmbeddings, "batch", 1)
    monkeypatch.setattr(WordLlamaEmbeddings, "embed_documents", stopped)
    result = run("embed")
    assert (result.exit_code, result.stdout) == (130, "")
    assert result.stderr == "stopped at 1 of 3: run it again to go on\n"


def test_it_goes_on_where_it_was_stopped(told, known, path):
    told("embed")
    with sqlite3.connect(path) as connection:
        connection.execute("DELETE FROM embeddings WHERE kind != 'learning'")
    assert told("embed").startswith("embedded 2 of 3 rows")


def test_another_embedder_is_chosen_and_doctor_says_what_is_missing(told, known, path):
    told("embed")
    shown = told("doctor", "--embedder", "minilm", "--model", "offline")
    assert "minilm, 384 dimensions, local · 0 vectors for 3 rows · 3 of other embedders" in shown
    assert "learngate embed --embedder minilm" in shown
    said = json.loads(told("embed", "--embedder", "minilm", "--json"))
    assert (said["embedded"], said["rows"]) == (3, 3)
    assert list(vectors(path).values()) == [3, 3]
    assert "3 vectors for 3 rows" in told("doctor", "--embedder", "minilm", "--model", "offline")


def test_an_unknown_embedder_is_refused_by_name(run, known):
    for command in (("embed",), ("chat", "-m", "hi", "--model", "offline")):
        refused = run(*command, "--embedder", "nope")
        assert refused.exit_code == 2
        assert "'nope' names no embedder" in refused.stderr
    shown = run("doctor", "--embedder", "nope")
    assert shown.exit_code == 1
    assert "'nope' names no embedder" in shown.stdout
    assert "1 broken" in shown.stdout


def test_a_database_that_is_not_there_is_not_made(run, path):
    assert run("embed").exit_code != 0
    assert not path.exists()
