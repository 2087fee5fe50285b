"""load_history, recall_user_memory and search_learnings, called by hand."""

from langchain_core.messages import AIMessage, HumanMessage

from learngate.nodes import load_history, recall_user_memory, search_learnings
from learngate.stores import Memory, ProposalDraft, Turn
from tests.nodes.support import record, state, turn

ETF = "When comparing ETFs, check both expense ratio and tracking error."
RATES = "Bond ETFs react to interest rates: name the duration when comparing ETFs."


def learn(memory: Memory, insight: str, namespace: str = "finance") -> int:
    return memory.learnings.add(ProposalDraft("A title", insight), namespace=namespace, actor="kim").id


# -- load_history --------------------------------------------------------------------------------------------


def test_history_is_the_last_turns_back_from_the_parent(memory: Memory) -> None:
    record(memory, *"1234")
    update = load_history(state(turn=turn(parent="id-3")), sessions=memory.sessions, turns=2, budget=8_000)
    assert update == {
        "recall": {
            "history": [
                {"kind": "turn", "id": "id-2", "text": "2", "shown": True, "tokens": 2},
                {"kind": "turn", "id": "id-3", "text": "3", "shown": True, "tokens": 2},
            ]
        }
    }


def test_history_follows_the_branch(memory: Memory) -> None:
    record(memory, "1", "2")
    record(memory, "other", parent="id-1")
    update = load_history(state(turn=turn(parent="id-other")), sessions=memory.sessions, turns=5, budget=8_000)
    assert [item["id"] for item in update["recall"]["history"]] == ["id-1", "id-other"]


def test_history_is_empty_before_the_first_turn_and_where_none_is_wanted(memory: Memory) -> None:
    record(memory, "1")
    for parent, turns in (("", 5), ("id-1", 0)):
        update = load_history(state(turn=turn(parent=parent)), sessions=memory.sessions, turns=turns, budget=8_000)
        assert update == {"recall": {"history": []}}


def test_history_carries_first_words_only(memory: Memory) -> None:
    record(memory, "w" * 100)
    [item] = load_history(
        state(turn=turn(parent=f"id-{'w' * 100}")), sessions=memory.sessions, turns=1, budget=8_000
    )["recall"]["history"]
    assert item["text"] == "w" * 80


def test_history_says_which_turns_the_budget_leaves_out_and_what_each_costs(memory: Memory) -> None:
    for size, letter in ((4_000, "a"), (400, "b"), (400, "c")):
        words = (HumanMessage(letter * size), AIMessage("ok"))
        memory.sessions.append(Turn("s", words, id=letter, user_id="ana"))
    given = {"sessions": memory.sessions, "turns": 5}
    here = state(turn=turn(parent="c"))
    items = load_history(here, **given, budget=300)["recall"]["history"]
    assert [item["shown"] for item in items] == [False, True, True]
    assert [item["tokens"] for item in items] == [1001, 101, 101]
    # The newest is cut to the budget, and never left out: half of the room for each side.
    items = load_history(here, **given, budget=10)["recall"]["history"]
    assert [(item["shown"], item["tokens"]) for item in items] == [(False, 1001), (False, 101), (True, 6)]


# -- recall_user_memory ----------------------------------------------------------------------------------------


def test_all_memories_while_they_fit(memory: Memory) -> None:
    memory.users.remember("ana", "Ana wants low costs.")
    memory.users.remember("ana", "Ana lives in Rome.", pinned=True)
    memory.users.remember("ben", "Ben is in debt.")
    [first, second] = recall_user_memory(state(), users=memory.users, budget=600)["recall"]["memories"]
    assert first == {
        "kind": "memory",
        "id": 2,
        "revision": 1,
        "score": 1.0,
        "text": "Ana lives in Rome.",
        "shown": True,
    }
    assert second["text"] == "Ana wants low costs."


def test_what_does_not_fit_is_named_without_its_text(memory: Memory) -> None:
    memory.users.remember("ana", "Which ETF? One with low costs. " * 3)
    memory.users.remember("ana", "Ana lives in Rome. " * 3)
    found = recall_user_memory(state("Which ETF has low costs?"), users=memory.users, budget=30)["recall"][
        "memories"
    ]
    assert [(item["shown"], bool(item["text"])) for item in found] == [(True, True), (False, False)]
    assert "low costs" in found[0]["text"]


def test_nobody_has_no_memories_and_none_is_looked_for(memory: Memory) -> None:
    memory.users.remember("ana", "Ana wants low costs.")
    update = recall_user_memory(state(turn=turn(user_id=None)), users=memory.users, budget=600)
    assert update == {"recall": {"memories": []}}


# -- search_learnings ------------------------------------------------------------------------------------------


def test_learnings_that_fit_are_found_with_why(memory: Memory) -> None:
    learn(memory, ETF)
    [item] = search_learnings(state("What about comparing ETFs?"), learnings=memory.learnings, k=5, budget=800)[
        "recall"
    ]["learnings"]
    assert (item["id"], item["revision"], item["shown"]) == (1, 1, True)
    assert (item["title"], item["text"]) == ("A title", ETF)
    assert item["why"] in {"dense", "lexical", "both"}
    assert 0 <= item["score"] <= 1


def test_below_the_floor_there_is_nothing(memory: Memory) -> None:
    learn(memory, ETF)
    update = search_learnings(state("How do I bake bread?"), learnings=memory.learnings, k=5, budget=800)
    assert update == {"recall": {"learnings": []}}


def test_a_siblings_learnings_are_not_found(memory: Memory) -> None:
    learn(memory, ETF, "legal")
    update = search_learnings(state("What about comparing ETFs?"), learnings=memory.learnings, k=5, budget=800)
    assert update == {"recall": {"learnings": []}}


def test_what_the_budget_does_not_reach_is_named_without_its_text(memory: Memory) -> None:
    learn(memory, ETF)
    learn(memory, RATES)
    found = search_learnings(state("What about comparing ETFs?"), learnings=memory.learnings, k=5, budget=25)
    [first, second] = found["recall"]["learnings"]
    assert (first["shown"], second["shown"]) == (True, False)
    assert (second["title"], second["text"]) == ("", "")
    assert second["id"]


def test_no_more_than_k(memory: Memory) -> None:
    learn(memory, ETF)
    learn(memory, RATES)
    update = search_learnings(state("What about comparing ETFs?"), learnings=memory.learnings, k=1, budget=800)
    assert len(update["recall"]["learnings"]) == 1


def test_the_question_is_this_turns_and_not_an_earlier_one(memory: Memory) -> None:
    learn(memory, ETF)
    asked = state(
        HumanMessage("What about comparing ETFs?", id="old"), HumanMessage("How do I bake bread?", id="q")
    )
    update = search_learnings(asked, learnings=memory.learnings, k=5, budget=800)
    assert update == {"recall": {"learnings": []}}


def test_a_picture_without_words_finds_nothing_and_breaks_nothing(memory: Memory) -> None:
    learn(memory, ETF)
    picture = HumanMessage([{"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}], id="q")
    update = search_learnings(state(picture), learnings=memory.learnings, k=5, budget=800)
    assert update == {"recall": {"learnings": []}}
    for n in range(30):
        memory.users.remember("ana", f"Ana's note number {n} is a long one, with many words in it.")
    assert recall_user_memory(state(picture), users=memory.users, budget=60)["recall"]["memories"]
