from datetime import UTC, datetime, timedelta, timezone

import pytest
from langchain_core.messages import AIMessage, AIMessageChunk, HumanMessage, ToolMessage

from learngate.stores import (
    Excerpt,
    InvalidInput,
    MemoryOperation,
    NotAllowed,
    NotFound,
    Turn,
    open_memory,
)
from learngate.stores.records import ROOT, Recalled
from learngate.stores.sessions import MAX_ATTEMPTS, Sessions
from tests.stores.support import draft, go, processes, rows, together, turn


def answers(hits):
    return [hit.turn.answer for hit in hits]


UNKNOWN = "no such turn"


class SessionsConformance:
    """What holds of conversations, on every database."""

    # -- recording ---------------------------------------------------------------------------------------------

    def test_a_turn_comes_back_whole(self, memory):
        happened = datetime(2024, 3, 5, 9, 30, tzinfo=timezone(timedelta(hours=2)))
        given = Turn(
            "s",
            (
                HumanMessage("What does NVDA cost?", name="Ana", additional_kwargs={"source": b"\x00"}),
                AIMessage("", tool_calls=[{"name": "quote", "args": {"symbol": "NVDA"}, "id": "c1"}]),
                ToolMessage("901", tool_call_id="c1", artifact={"price": 901}),
                AIMessage("901 dollars, \ud800 and a \x00.", id="a1"),
            ),
            id="q1",
            user_id="ana",
            namespace="acme/finance",
            reflection="pending",
            happened_at=happened,
            checkpoint_id="c-1",
            usage={"input_tokens": 5, "output_tokens": 2, "total_tokens": 7},
            recalled=(Recalled("learning", 1, 2, 0.9, True), Recalled("memory", 3, 1, 0.5, False)),
        )
        recorded = memory.sessions.append(given)
        assert recorded == memory.sessions.get("s", "q1")
        assert recorded.messages[0].id == "q1"
        assert recorded.messages[1:] == given.messages[1:]
        assert recorded.messages[0].additional_kwargs == {"source": b"\x00"}
        assert recorded.question == "What does NVDA cost?"
        assert recorded.answer == "901 dollars, \ud800 and a \x00."
        assert recorded.happened_at == happened
        assert recorded.recorded_at is not None
        assert recorded.parent == ROOT
        for name in ("user_id", "namespace", "reflection", "checkpoint_id", "usage", "recalled", "status"):
            assert getattr(recorded, name) == getattr(given, name)

    def test_what_a_turn_recalled_is_named_once(self, memory):
        twice = (Recalled("learning", 1, 1, 0.9, True), Recalled("learning", 1, 2, 0.4, False))
        with pytest.raises(InvalidInput, match="name each one once"):
            memory.sessions.append(turn("s", recalled=twice))
        assert memory.sessions.standing("s") is None
        both = (Recalled("learning", 1, 1, 0.9, True), Recalled("memory", 1, 1, 0.4, False))
        assert memory.sessions.append(turn("s", recalled=both)).recalled == both

    def test_a_turn_delivered_again_is_the_one_that_was_recorded(self, memory):
        first = memory.sessions.append(turn("s", "Hello", "Hi", id="q1"))
        second = memory.sessions.append(turn("s", "Next", "Yes", id="q2"))
        again = memory.sessions.append(turn("s", "Something else", "Other words", id="q1", parent=UNKNOWN))
        assert again == first
        assert memory.sessions.record(turn("s", "Something else", id="q1", parent=UNKNOWN)) == first
        assert memory.sessions.record(turn("t", "Hello", id="q1")) is None
        assert memory.sessions.window("s") == [first, second]
        assert rows(memory, "messages") == 6

    def test_one_turn_delivered_by_many_threads_at_once_is_one_turn(self, memory):
        recorded = together(*[lambda n=n: memory.sessions.append(turn("s", f"by {n}", id="q1")) for n in range(8)])
        assert len({one.question for one in recorded}) == 1
        assert len(memory.sessions.window("s")) == 1
        assert rows(memory, "messages") == 2

    def test_the_same_id_in_two_sessions_is_two_turns(self, memory):
        memory.sessions.append(turn("one", "Hello", id="q1"))
        memory.sessions.append(turn("other", "Goodbye", id="q1"))
        assert memory.sessions.get("one", "q1").question == "Hello"
        assert memory.sessions.get("other", "q1").question == "Goodbye"

    def test_a_streamed_answer_is_recorded_and_found_as_a_message(self, memory):
        recorded = memory.sessions.append(Turn("s", (HumanMessage("Name an animal"), AIMessageChunk("A zebra"))))
        assert type(recorded.messages[1]) is AIMessage
        assert recorded.answer == "A zebra"
        assert [hit.turn.id for hit in memory.sessions.search("zebra", user_id=None)] == [recorded.id]

    @pytest.mark.parametrize(
        "given",
        [
            Turn("", (HumanMessage("x"),)),
            Turn("s\n", (HumanMessage("x"),)),
            Turn("s" * 201, (HumanMessage("x"),)),
            Turn("s", (HumanMessage("x"),), id=""),
            Turn("s", (HumanMessage("x"),), id="\ud800"),
            Turn("s", (HumanMessage("x"),), user_id=""),
            Turn("s", (HumanMessage("x"),), user_id="ana\x00"),
            Turn("s", (HumanMessage("x"),), namespace="a//b"),
            Turn("s", (HumanMessage("x"), AIMessage("y", id="\ud800"))),
            Turn("s", (HumanMessage("x"),), usage={"tokens": object()}),
            Turn("s", ()),
            Turn("s", (AIMessage("x"),)),
            Turn("s", (ToolMessage("x", tool_call_id="c"), HumanMessage("x"))),
        ],
    )
    def test_a_turn_that_cannot_be_stored_is_refused_and_opens_nothing(self, memory, given):
        with pytest.raises(InvalidInput):
            memory.sessions.append(given)
        assert rows(memory, "sessions") == rows(memory, "turns") == 0

    def test_a_turn_follows_one_of_its_own_session_or_none(self, memory):
        with pytest.raises(NotFound, match="has no turn 'elsewhere' to follow"):
            memory.sessions.append(turn("s", parent="elsewhere"))
        assert memory.sessions.standing("s") is None

    # -- branches ----------------------------------------------------------------------------------------------

    @pytest.fixture
    def deep(self, memory):
        for number in range(30):
            memory.sessions.append(turn("s", f"question {number}", id=f"q{number}"))
        memory.sessions.append(turn("s", "another way", id="fork", parent="q10"))
        return memory.sessions

    def test_a_message_far_behind_the_kept_window_is_known(self, deep):
        placed = deep.place("s", head="q29", message_id="q2", keep=3)
        assert placed.known == "behind"
        assert placed.kept == ("q27", "q28", "q29")
        assert deep.place("s", head="fork", message_id="q10", keep=1).known == "behind"
        assert deep.place("s", head="fork", message_id="q11", keep=3).known == "elsewhere"
        assert deep.place("s", head="q5", message_id="q6", keep=3).known == "elsewhere"
        assert deep.place("s", head=ROOT, message_id="q6", keep=3).known == "elsewhere"
        assert deep.place("s", head="q5", message_id="q99", keep=3).known == "new"

    def test_a_window_is_the_end_of_its_own_branch(self, deep):
        assert [t.id for t in deep.window("s", turns=3, head="fork")] == ["q9", "q10", "fork"]
        assert [t.id for t in deep.window("s", turns=2, head="q29")] == ["q28", "q29"]
        assert [t.id for t in deep.window("s", turns=1)] == ["fork"]
        assert len(deep.window("s", turns=500, head="q29")) == 30

    def test_a_failed_turn_is_in_no_window_though_a_branch_leads_through_it(self, memory):
        memory.sessions.append(turn("s", "first", id="q1"))
        memory.sessions.append(turn("s", "broken", id="q2", status="failed"))
        memory.sessions.append(turn("s", "third", id="q3", parent="q2"))
        assert [t.id for t in memory.sessions.window("s", turns=2)] == ["q1", "q3"]
        assert [t.id for t in memory.sessions.window("s", head="q2")] == ["q1"]
        assert memory.sessions.place("s", head="q3", message_id="q2", keep=1).known == "elsewhere"

    def test_turns_are_given_in_the_order_that_is_asked_for(self, deep):
        assert [t.id for t in deep.turns("s", ["q3", "q1", UNKNOWN, "q2"])] == ["q3", "q1", "q2"]
        assert deep.turns("s", []) == []
        assert deep.turns("other", ["q1"]) == []

    # -- whose it is -------------------------------------------------------------------------------------------

    def test_of_two_threads_that_open_a_session_one_owns_it(self, memory):
        def claim(user: str) -> str | None:
            return memory.sessions.claim("s", user).owner

        results = together(lambda: claim("ana"), lambda: claim("ben"), lambda: claim("ana"), lambda: claim("ben"))
        owner = memory.sessions.standing("s").owner
        assert [r for r in results if not isinstance(r, NotAllowed)] == [owner, owner]

    @pytest.mark.parametrize("name", ["", " s", "s\n", "s" * 201, None, 5])
    def test_a_session_cannot_be_claimed_by_a_name_that_is_none(self, memory, name):
        with pytest.raises(InvalidInput):
            memory.sessions.claim(name, "ana")
        if name is not None:
            with pytest.raises(InvalidInput):
                memory.sessions.claim("s", name)
        assert rows(memory, "sessions") == 0

    # -- searching ---------------------------------------------------------------------------------------------

    @pytest.fixture
    def past(self, memory):
        when = datetime(2024, 3, 5, 12, tzinfo=UTC)
        memory.sessions.append(
            turn("a", "Which fund is cheap?", "The index fund.", user_id="ana", happened_at=when)
        )
        said = (HumanMessage("我想比较基金费用", name="Melanie"), AIMessage("好的", name="Advisor"))
        memory.sessions.append(Turn("a", said, user_id="ana", happened_at=when + timedelta(days=1)))
        memory.sessions.append(turn("b", "Which fund is cheap?", "None.", user_id="ben", happened_at=when))
        memory.sessions.append(turn("n", "Which fund is cheap?", "All.", happened_at=when))
        return memory.sessions

    def test_everybody_finds_their_own_turns_and_nobody_elses(self, past):
        # The turn after one that has the word is found, too.
        assert answers(past.search("fund", user_id="ana")) == ["The index fund.", "好的"]
        assert answers(past.search("fund", user_id="ben")) == ["None."]
        assert answers(past.search("fund", user_id=None)) == ["All."]
        assert past.search("fund", user_id="nobody") == []
        assert past.search("fund", user_id="") == []

    @pytest.mark.parametrize(
        ("query", "found"),
        [
            ("what did Melanie say", "好的"),
            ("advisor", "好的"),
            ("2024-03-06", "好的"),
            ("Wednesday", "好的"),
            ("on Tuesday 5 March", "The index fund."),
            ("费用", "好的"),
            ("基金", "好的"),
            ("index FUNDS!", "The index fund."),
            ('"fund" AND (NEAR cheap*', "The index fund."),
        ],
    )
    def test_words_speakers_and_dates_are_found_in_any_script(self, past, query, found):
        assert answers(past.search(query, user_id="ana"))[0] == found

    def test_the_best_come_first_and_no_more_than_asked_for(self, memory):
        for number in range(6):
            memory.sessions.append(turn("s", " ".join(["fund"] * (number + 1) + ["other"] * 6), id=f"q{number}"))
        hits = memory.sessions.search("fund", user_id=None, k=3)
        assert [hit.turn.id for hit in hits] == ["q5", "q4", "q3"]
        assert hits[0].score > hits[1].score > hits[2].score > 0

    @pytest.mark.parametrize("query", ["", " ", "x" * 10_001, "a\x00", "\ud800", None])
    def test_a_query_that_is_none_is_refused(self, past, query):
        with pytest.raises(InvalidInput, match="the query"):
            past.search(query, user_id="ana")

    def test_a_query_of_marks_alone_finds_nothing(self, past):
        assert past.search("?!… ___ ☕", user_id="ana") == []

    # -- listing and deleting ----------------------------------------------------------------------------------

    def test_sessions_are_listed_latest_first_with_their_first_words(self, memory):
        when = datetime(2024, 3, 5, tzinfo=UTC)
        memory.sessions.append(turn("old", "Which fund: this or that?", user_id="ana", happened_at=when))
        memory.sessions.append(turn("new", "x" * 200, user_id="ana", happened_at=when + timedelta(days=2)))
        memory.sessions.append(turn("old", "Later words", user_id="ana", happened_at=when + timedelta(days=1)))
        memory.sessions.claim("empty", "ana")
        listed = memory.sessions.list(user_id="ana")
        assert [s.id for s in listed] == ["empty", "new", "old"]
        assert [s.title for s in listed] == ["", "x" * 80, "Which fund: this or that?"]
        assert (listed[2].turns, listed[2].last_at) == (2, when + timedelta(days=1))
        assert [s.id for s in memory.sessions.list(user_id="ana", limit=1)] == ["empty"]
        assert memory.sessions.show("old") == listed[2]

    def test_deleting_a_session_leaves_its_owner_and_nothing_else(self, memory):
        for session in ("gone", "kept"):
            source = memory.sessions.append(
                turn(
                    session,
                    f"the secret of {session}",
                    id="q1",
                    user_id="ana",
                    reflection="pending",
                    recalled=(Recalled("learning", 1, 1, 0.9, True),),
                )
            )
            memory.sessions.append(turn(session, "and more", user_id="ana"))
            noted = [MemoryOperation("add", text=f"from {session}")]
            memory.users.apply("ana", noted, source=(session, source.id), final=False)
            quoted = (Excerpt("a secret", "ana", "ana", session, "q1"),)
            memory.learnings.propose(
                draft(f"insight of {session}", rationale="they told a secret", excerpts=quoted),
                namespace="n",
                user_id="ana",
                source=(session, "q1"),
            )
            config = {"configurable": {"thread_id": session, "checkpoint_ns": ""}}
            config = memory.checkpointer().put(config, {"v": 4, "id": "1", "channel_values": {}}, {}, {})
            memory.checkpointer().put_writes(config, [("x", 1)], "task")
        assert memory.sessions.delete("gone", user_id="ana") == 2

        for table in ("turns", "excerpts", "sessions"):
            column = "session_id" if table != "sessions" else "deleted_at IS NULL AND id"
            assert rows(memory, table, f"{column} = 'gone'") == 0
            assert rows(memory, table, f"{column} = 'kept'") > 0
        writes = "writes" if memory.database.dialect == "sqlite" else "checkpoint_writes"
        for table in ("checkpoints", writes):
            assert rows(memory, table, "thread_id = 'gone'") == 0
            assert rows(memory, table, "thread_id = 'kept'") == 1
        for table in ("messages", "effects", "recalls"):
            assert rows(memory, table) == rows(memory, table, "turn_seq IN (SELECT seq FROM turns)") > 0
        assert {hit.turn.session_id for hit in memory.sessions.search("secret", user_id="ana")} == {"kept"}
        assert [s.id for s in memory.sessions.list(user_id="ana")] == ["kept"]
        assert [t.session_id for t in memory.sessions.unreflected()] == ["kept"]
        with pytest.raises(NotFound):
            memory.sessions.show("gone")
        # What the user said of themselves and what was proposed stay: they are not the conversation.
        assert len(memory.users.list("ana")) == 2
        gone, kept = memory.learnings.pending(namespace="n")
        assert (gone.insight, gone.rationale, gone.user_id, gone.excerpts) == ("insight of gone", "", None, ())
        assert (kept.rationale, kept.user_id, len(kept.excerpts)) == ("they told a secret", "ana", 1)

        for stranger in ("ben", None):
            with pytest.raises(NotAllowed):
                memory.sessions.claim("gone", stranger)
            with pytest.raises(NotAllowed):
                memory.sessions.append(turn("gone", user_id=stranger))
        again = memory.sessions.append(turn("gone", "a new start", id="q1", user_id="ana"))
        assert again.parent == ROOT
        assert [t.question for t in memory.sessions.window("gone")] == ["a new start"]
        assert memory.sessions.delete("gone") == 1

    def test_sessions_without_a_checkpointer_are_deleted_too(self, memory):
        alone = Sessions(memory.database, memory.sessions._search)
        alone.append(turn("s"))
        assert alone.delete("s") == 1
        assert alone.window("s") == []

    def test_only_the_owner_deletes_where_a_user_is_named(self, memory):
        memory.sessions.append(turn("s", user_id="ana"))
        with pytest.raises(NotFound, match="'ben' has no session 's'"):
            memory.sessions.delete("s", user_id="ben")
        with pytest.raises(NotFound, match="there is no session 'other'"):
            memory.sessions.delete("other", user_id="ben")
        assert len(memory.sessions.window("s")) == 1

    def test_a_deleted_session_that_failed_again_can_be_deleted_again(self, memory):
        memory.sessions.append(turn("s"))
        memory.sessions.delete("s")
        memory.sessions.append(turn("s", status="failed"))
        assert memory.sessions.show("s").turns == 1
        assert memory.sessions.delete("s") == 1

    # -- reflection --------------------------------------------------------------------------------------------

    def test_turns_wait_for_their_reflection_until_it_is_done_or_has_failed_too_often(self, memory):
        for name, reflection in (("off", "off"), ("one", "pending"), ("two", "pending"), ("broken", "pending")):
            status = "failed" if name == "broken" else "complete"
            memory.sessions.append(turn("s", id=name, reflection=reflection, status=status))

        def waiting():
            return [t.id for t in memory.sessions.unreflected()]

        assert waiting() == ["one", "two"]
        memory.sessions.mark_reflection("s", "one", "failed", error="garbage")
        assert waiting() == ["two", "one"]
        failed = memory.sessions.get("s", "one")
        assert (failed.reflection, failed.error, failed.attempts) == ("failed", "garbage", 1)
        memory.sessions.mark_reflection("s", "two", "done")
        memory.sessions.mark_reflection("s", "two", "failed", error="too late")
        assert memory.sessions.get("s", "two").reflection == "done"
        assert waiting() == ["one"]
        for _ in range(MAX_ATTEMPTS - 1):
            assert waiting() == ["one"]
            memory.sessions.mark_reflection("s", "one", "failed", error="garbage")
        assert waiting() == []
        assert memory.sessions.unreflected(limit=0) == []

    @pytest.mark.parametrize("reason", ["a\x00b", "\ud800", "x" * 100_000])
    def test_a_reflection_that_failed_with_any_words_is_noted(self, memory, reason):
        memory.sessions.append(turn("s", id="q1", reflection="pending"))
        memory.sessions.mark_reflection("s", "q1", "failed", error=reason)
        assert memory.sessions.get("s", "q1").reflection == "failed"

    def test_what_a_models_tools_noted_waits_until_it_has_taken_effect(self, memory):
        noted = {"operations": [{"op": "add", "text": "likes \ud800 tea"}], "candidate": None}
        memory.sessions.append(turn("s", id="noted", noted=noted))
        memory.sessions.append(turn("s", id="both", noted=noted, reflection="pending"))
        memory.sessions.append(turn("s", id="plain"))
        assert [(t.id, t.noted) for t in memory.sessions.unreflected()] == [("noted", noted), ("both", noted)]
        memory.sessions.settle("s", "noted", reflected=False)
        memory.sessions.settle("s", "both", reflected=False)
        assert [(t.id, t.noted) for t in memory.sessions.unreflected()] == [("both", None)]
        memory.sessions.settle("s", "both", reflected=True)
        assert memory.sessions.unreflected() == []
        assert memory.sessions.get("s", "both").reflection == "done"

    def test_notes_are_settled_in_the_transaction_that_gives_them_their_effect(self, memory):
        noted = {"operations": [], "candidate": None}
        for name in ("by users", "by learnings"):
            memory.sessions.append(turn("s", id=name, user_id="ana", noted=noted))
        once = {"effect": "tools", "final": False, "settles": True}
        memory.users.apply("ana", [MemoryOperation("add", "likes tea")], source=("s", "by users"), **once)
        assert [t.id for t in memory.sessions.unreflected()] == ["by learnings"]
        given = {"namespace": "n", "proposer": "m", "user_id": "ana", "source": ("s", "by learnings")}
        memory.learnings.propose_once(draft("Mind costs"), **given, **once)
        assert memory.sessions.unreflected() == []

    # -- messages as they were recorded ------------------------------------------------------------------------

    def test_recorded_messages_are_given_by_their_ids_and_of_one_session_only(self, memory):
        said = (HumanMessage("Hi"), AIMessage("Hello", id="a1", additional_kwargs={"signature": b"\xff"}))
        memory.sessions.append(Turn("s", said, id="q1"))
        memory.sessions.append(turn("other", "Secret", id="q2"))
        recorded = memory.sessions.recorded("s", ["q1", "a1", "q2", UNKNOWN])
        assert recorded == {"q1": HumanMessage("Hi", id="q1"), "a1": said[1]}
        assert memory.sessions.recorded("s", []) == {}


class SharedSessionsConformance:
    """What holds where several programs open a session at once."""

    def test_of_two_processes_that_open_a_session_one_owns_it(self, url):
        open_memory(url).close()
        script = """
    from langchain_core.messages import AIMessage, HumanMessage
    from learngate.stores import NotAllowed, Turn, open_memory
    with open_memory(sys.argv[1]) as memory:
        memory.sessions.list(user_id=None)
        ready()
        try:
            memory.sessions.append(Turn("s", (HumanMessage("Hi"), AIMessage("Hi")), user_id=sys.argv[2]))
            print("mine")
        except NotAllowed:
            print("refused")
    """
        with processes(script, [url, "ana"], [url, "ben"]) as started:
            said = dict(zip(["ana", "ben"], go(started), strict=True))
        with open_memory(url) as memory:
            owner = memory.sessions.standing("s").owner
            assert said == {"ana": ["refused"], "ben": ["refused"], owner: ["mine"]}
            assert [t.user_id for t in memory.sessions.window("s")] == [owner]
