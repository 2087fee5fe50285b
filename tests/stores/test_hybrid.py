import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.embeddings import DeterministicFakeEmbedding
from langchain_core.vectorstores import InMemoryVectorStore

from learngate.stores import open_memory
from learngate.stores.embedders import MANY, Floor
from learngate.stores.fusion import Fused
from learngate.stores.hybrid import kept, words_held
from learngate.stores.lexical import content_stems, scope_token, search
from learngate.stores.tables import user_memories
from learngate.stores.vector_store import in_vector_store
from tests.stores.support import Hashed, draft, turn

RULES = {
    "ETFs": "When comparing ETFs, check both expense ratio and tracking error.",
    "Backups": "Before a migration, restore the latest backup on a spare machine.",
    "Citations": "Quote the page number whenever a contract clause is cited.",
    "Time zones": "State the time zone with every meeting time that is proposed.",
}


@pytest.fixture
def taught(memory):
    for title, insight in RULES.items():
        memory.learnings.add(draft(insight, title), namespace="n", actor="ana")
    return memory.learnings


@pytest.mark.parametrize(
    ("query", "title"),
    [
        ("How should I compare two ETFs?", "ETFs"),
        ("expense ratio", "ETFs"),
        ("what to check before the database migration", "Backups"),
        ("cite a clause of the contract", "Citations"),
        ("propose a meeting time", "Time zones"),
    ],
)
def test_what_fits_is_found_first(taught, query, title):
    assert taught.search(query, namespace="n")[0].learning.title == title


@pytest.mark.parametrize(
    "query",
    [
        "Write me a poem about the sea",
        "Who won the world cup in 1998?",
        "hello",
        "thanks!",
        "why?",
        "?!…",
        "My cat is asleep on the sofa",
        "今天天气怎么样",
    ],
)
def test_what_does_not_fit_finds_nothing_though_something_is_nearest(taught, query):
    assert taught.search(query, namespace="n") == []
    assert len(taught.search(query, namespace="n", floor=False)) == len(RULES)


def test_a_row_that_holds_half_of_the_words_is_found_below_the_dense_floor():
    with open_memory("sqlite://", embedder=Hashed(), dense_floor=1) as memory:
        memory.learnings.add(draft("Check the expense ratio and the tracking error"), namespace="n", actor="ana")
        find = memory.learnings.search
        [hit] = find("expense ratios, please?", namespace="n")
        assert (hit.why, 0 < hit.dense < 1) == ("lexical", True)
        assert find("expense ratios, please?", namespace="n", floor=False)[0].why == "both"
        assert find("expense of a wedding party in Rome", namespace="n") == []
        # One word that is shared by chance says nothing.
        assert find("expense", namespace="n") == []


def test_what_a_row_lacks_in_words_it_must_have_in_meaning(monkeypatch):
    text = draft("Check the expense ratio and the tracking error")

    def why(query, floor):
        monkeypatch.setattr("learngate.stores.embedders.OTHER_FLOOR", Floor(floor, measured=True))
        with open_memory("sqlite://", embedder=Hashed()) as memory:
            memory.learnings.add(text, namespace="n", actor="ana")
            return [hit.why for hit in memory.learnings.search(query, namespace="n")]

    # Half of its words, and so near.
    asked = "expense ratio wedding Rome"
    with open_memory("sqlite://", embedder=Hashed()) as memory:
        memory.learnings.add(text, namespace="n", actor="ana")
        near = memory.learnings.search(asked, namespace="n", floor=False)[0].dense
    assert 0 < near < 0.4
    assert (why(asked, near), why(asked, 1.9 * near), why(asked, 2.1 * near)) == (["both"], ["lexical"], [])
    assert why("the expense ratio", 1) == ["lexical"]
    assert why("expense of a wedding party in Rome", 2 * near) == []
    # One word that is shared by chance says nothing, also where it is all.
    assert why("expense", 1) == []


class Broken(Hashed):
    def embed_documents(self, texts):
        raise ConnectionError("no route")


@pytest.mark.parametrize("floor", [0, 0.5, 1])
def test_half_of_the_words_are_enough_where_the_floor_was_given(floor):
    with open_memory("sqlite://", embedder=DeterministicFakeEmbedding(size=64), dense_floor=floor) as memory:
        memory.learnings.add(draft("Check the expense ratio and the tracking error"), namespace="n", actor="ana")
        assert len(memory.learnings.search("expense ratio wedding Rome", namespace="n")) == 1


def test_half_of_the_words_are_enough_where_nothing_was_compared():
    with open_memory("sqlite://", embedder=Broken()) as memory:
        memory.learnings.add(draft("Check the expense ratio and the tracking error"), namespace="n", actor="ana")
        hits = memory.learnings.search("expense ratio wedding Rome", namespace="n")
        assert [hit.why for hit in hits] == ["lexical"]
        assert "words alone" in hits.note
        assert memory.learnings.search("expense wedding in Rome", namespace="n") == []


@given(st.floats(-1, 1), st.floats(0, 1), st.floats(0, 1), st.floats(0, 1))
def test_nearer_or_better_named_is_kept_where_less_is(dense, more, share, floor):
    row = Fused(1, 0.5, dense, 1.0, "both")
    if kept(row, share, floor, {1}):
        assert kept(row._replace(dense=min(1, dense + more)), share, floor, {1})
        assert kept(row, min(1, share + more), floor, {1})
        assert kept(row, share, floor * more, {1})
    assert kept(row, 1, floor, {1})
    assert kept(row, 0, floor, {1}) == (dense >= floor)


@pytest.mark.parametrize(
    ("query", "whole", "part"),
    [
        ("refund policy", "Refund policies for books", "Policy of a house"),
        ("flies in kitchens", "A fly in the kitchen", "Kitchen of a house"),
        ("resume of a designer", "Résumés for designers", "Designer of a house"),
        ("Résumé designern", "Resume, designern", "Designern of a house"),
    ],
)
def test_a_word_counts_in_any_form_that_the_index_finds(memory, query, whole, part):
    both, one = (memory.users.remember("ana", text) for text in (whole, part))
    scopes = [scope_token("user", "ana")]
    with memory.database.read() as connection:
        found = search(connection, user_memories, scopes=scopes, query=query, limit=9, bodies=True)
    asked = content_stems(query)
    held = words_held(asked, {row: body for row, _, body in found})
    assert held[both.id] == asked
    assert len(held[one.id]) < len(asked)


def test_a_past_turn_below_the_floor_is_found_by_its_words():
    for floor, why in ((0.0, "both"), (1, "lexical")):
        with open_memory("sqlite://", embedder=Hashed(), dense_floor=floor) as memory:
            memory.sessions.append(turn("s", "Is the expense ratio of that fund high?", user_id="ana"))
            assert [hit.why for hit in memory.sessions.search("expense ratio", user_id="ana")] == [why]


def test_the_dense_floor_is_the_embedders_own():
    for floor, expected in ((0.0, 1), (1.0, 0)):
        with open_memory("sqlite://", embedder=Hashed(), dense_floor=floor) as memory:
            memory.learnings.add(draft("tea", "tea"), namespace="n", actor="ana")
            assert len(memory.learnings.search("tea leaves", namespace="n")) == expected


@pytest.mark.parametrize(
    ("rows", "expected"), [(0, 0.2), (1, 0.2), (10, 0.2), (32, 0.3), (99, 0.4), (100, 0.4), (100_000, 0.4)]
)
def test_a_floor_rises_with_how_many_rows_there_are_and_not_beyond(rows, expected):
    assert Floor(0.4, rise=0.2).among(rows) == pytest.approx(expected, abs=0.003)
    assert Floor(0.4).among(rows) == 0.4


def test_among_few_learnings_one_is_kept_that_is_noise_among_many(memory):
    """The same question and the same learning: what else there is says whether its cosine is chance."""
    memory.learnings.add(draft("Breathe out twice as long as you breathe in"), namespace="n", actor="ana")
    query = "How do I relax my lungs?"
    [hit] = memory.learnings.search(query, namespace="n")
    assert memory.vectors.floor.among(1) < hit.dense < memory.vectors.floor.many
    for number in range(MANY):
        memory.learnings.add(draft(f"Invoice {number} of the printer is paid"), namespace="n/below", actor="ana")
    assert len(memory.learnings.search(query, namespace="n")) == 1
    assert memory.learnings.search(query, namespace="n/below") == []


class Scant(InMemoryVectorStore):
    """LangChain's own store, where it brings five at the most, whatever it is asked for."""

    def similarity_search_by_vector(self, embedding, k=4, **more):
        return super().similarity_search_by_vector(embedding, min(k, 5), **more)


@pytest.mark.parametrize("index", [None, in_vector_store(InMemoryVectorStore), in_vector_store(Scant)])
def test_a_floor_goes_by_how_many_rows_there_are_and_not_by_how_many_an_index_brings(index):
    with open_memory("sqlite://", embedder=Hashed(), index=index) as memory:
        for number in range(MANY + 10):
            space = ("n", "n/below", "n/beside")[number % 3]
            memory.learnings.add(draft(f"Invoice {number} of the printer is paid"), namespace=space, actor="ana")
        for number in range(1, 4):
            memory.learnings.retire(number, actor="ana")

        def floor(*spaces):
            scopes = [scope_token("namespace", space) for space in spaces]
            return memory.learnings._search("learning", scopes, "How are printers repaired?", k=5).floor

        among = memory.vectors.floor.among
        assert (floor("n"), floor("n", "n/below")) == (among(36), among(72))
        assert (floor("n", "n/below", "n/beside"), floor("m")) == (among(MANY), among(0))
        memory.learnings.restore(1, actor="ana")
        assert floor("n") == among(37)


def test_a_hit_says_why_and_how_well_it_fits(taught):
    hits = taught.search("compare the expense ratio of ETFs", namespace="n", floor=False, k=4)
    assert hits[0].why == "both"
    assert hits[0].score == 1.0
    assert hits[0].dense > 0.3
    assert hits[0].lexical > 0
    assert {hit.why for hit in hits} == {"both", "dense"}
    assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)
    assert all(0 <= hit.score <= 1 for hit in hits)


@pytest.mark.parametrize("k", [0, 1, 3, 60])
def test_no_more_come_than_are_asked_for(memory, k):
    for number in range(70):
        memory.learnings.add(draft(f"Compare the fees of fund {number}"), namespace="n", actor="ana")
    assert len(memory.learnings.search("compare fund fees", namespace="n", k=k)) == k


def test_a_learning_that_is_only_in_one_leg_is_ranked_with_the_others(memory):
    """A word that no embedding knows finds its row, though the dense leg brings fifty others; its cosine counts."""
    for number in range(60):
        memory.learnings.add(draft(f"Compare the fees of fund {number}"), namespace="n", actor="ana")
    rare = memory.learnings.add(draft("Ticket QX-7731 was about printers"), namespace="n", actor="ana")
    hits = memory.learnings.search("compare fund fees QX-7731", namespace="n", floor=False)
    assert rare.id in {hit.learning.id for hit in hits}
    assert next(hit.dense for hit in hits if hit.learning.id == rare.id) != 0.0
