import numpy as np
import pytest
from langchain_core.vectorstores import InMemoryVectorStore

from learngate.stores import ConfigurationError, open_memory
from learngate.stores.embedders import WordLlamaEmbeddings
from tests.stores.support import Hashed, turn

pytestmark = pytest.mark.anyio


def test_with_no_url_it_is_a_file_in_the_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with open_memory() as memory:
        assert memory.database.name == "learngate.db"
        assert memory.schema == 1
    assert (tmp_path / "learngate.db").exists()


def test_the_environment_may_name_another(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LEARNGATE_DB", f"sqlite:///{tmp_path}/other.db")
    open_memory().close()
    assert [path.name for path in tmp_path.iterdir()] == ["other.db"]
    open_memory("sqlite:///named.db").close()
    assert {path.name for path in tmp_path.iterdir()} == {"other.db", "named.db"}


def test_an_empty_variable_names_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LEARNGATE_DB", "")
    open_memory().close()
    assert (tmp_path / "learngate.db").exists()


def test_a_wrong_variable_is_named_in_the_error(monkeypatch):
    monkeypatch.setenv("LEARNGATE_DB", "learngate.db")
    with pytest.raises(ConfigurationError, match=r"'learngate\.db' is not a database URL"):
        open_memory()


async def test_it_closes_in_both_colours(url):
    with open_memory(url) as memory:
        assert memory.users.remember("ana", "likes tea").id == 1
    async with open_memory(url) as memory:
        assert memory.users.remember("ana", "likes coffee").id == 2
        await memory.checkpointer().aget_tuple({"configurable": {"thread_id": "t"}})
    memory.close()


@pytest.mark.parametrize(
    ("options", "says"),
    [
        *(
            ({"dense_floor": given}, r"dense_floor takes a cosine, a number from 0 to 1, not ")
            for given in ("x", "0.3", float("nan"), float("inf"), 2, -0.1, True, [0.3], 1j)
        ),
        *(
            ({"index": given}, r"index takes in_vector_store\(…\)")
            for given in ("chroma", "", 0, False, {}, InMemoryVectorStore(Hashed()), lambda embeddings: None)
        ),
        *(({"embedder": given}, "names no embedder: use 'wordllama'") for given in ("", 3, False, Hashed)),
    ],
)
def test_an_option_that_cannot_be_is_refused_before_a_database_is_made(tmp_path, options, says):
    with pytest.raises(ConfigurationError, match=says):
        open_memory(f"sqlite:///{tmp_path}/new.db", **options)
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize("floor", [0, 1, 0.35, np.float32(0.5), None])
def test_a_floor_that_can_be_is_taken(floor):
    with open_memory("sqlite://", dense_floor=floor) as memory:
        memory.users.remember("ana", "likes tea")
        assert [hit.memory.id for hit in memory.users.recall("ana", "likes tea")] == [1]


def test_what_one_closed_the_next_one_finds(url):
    with open_memory(url) as memory:
        memory.users.remember("ana", "likes tea")
        memory.sessions.append(turn("s", user_id="ana"))
    with open_memory(url) as memory:
        assert [m.text for m in memory.users.list("ana")] == ["likes tea"]
        assert [t.question for t in memory.sessions.window("s")] == ["How are you?"]


def test_the_default_embedder_needs_nothing_and_another_swaps_in():
    with open_memory("sqlite://") as memory:
        assert memory.vectors.name.startswith(f"{WordLlamaEmbeddings.__name__}:wordllama-256@")
    with open_memory("sqlite://", embedder=Hashed()) as memory:
        assert memory.vectors.name == "Hashed"


def test_an_empty_text_names_no_database(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigurationError, match="LEARNGATE_DB"):
        open_memory("")
    assert not [*tmp_path.iterdir()]
