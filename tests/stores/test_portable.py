"""What is exported comes back as it was, once, whole or not at all; and it brings no learning past the gate."""

import io
import json
import subprocess
import sys
import time
from datetime import UTC, datetime
from functools import partial

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from sqlalchemy import text

from learngate.stores import (
    Conflict,
    Decision,
    Excerpt,
    InvalidInput,
    LearngateError,
    MemoryOperation,
    NotAllowed,
    Turn,
    open_memory,
)
from learngate.stores.erasing import is_erased, token
from learngate.stores.records import Recalled
from learngate.stores.repair import repair
from learngate.stores.text import is_alias
from learngate.stores.verify import all_faults
from tests.databases import BOTH, database, needs_postgres
from tests.stores.support import Hashed, draft, together, turn

KEY = "0123456789abcdef" * 4


def whole(memory, **of) -> bytes:
    return b"".join(memory.export(**of))


def lines(data: bytes) -> list[dict]:
    return [json.loads(line) for line in data.splitlines()]


def between(data: bytes) -> list[bytes]:
    """Return the rows: the first line has a time, the last one a digest of it."""
    return data.splitlines()[1:-1]


def sealed(data: bytes, change) -> bytes:
    """Return an export with other rows, whose last line fits them: what somebody would forge."""
    import hashlib
    from collections import Counter

    made = [row for row in map(change, lines(data)[:-1]) if row is not None]
    body = b"".join(json.dumps(row, separators=(",", ":")).encode() + b"\n" for row in made)
    end = {"kind": "end", "counts": Counter(row["kind"] for row in made)}
    end["digest"] = hashlib.blake2b(body, digest_size=32).hexdigest()
    return body + json.dumps(end).encode() + b"\n"


def fresh(**more):
    return open_memory("sqlite://", embedder=Hashed(), **more)


TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), min_size=1, max_size=12).filter(str.strip)
USERS = st.sampled_from(["ana", "ben", "zoë"])
NUMBERS = st.integers(0, 30)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("turn"), USERS, TEXTS, NUMBERS),
        st.tuples(st.just("remember"), USERS, TEXTS, NUMBERS),
        st.tuples(st.just("update"), USERS, TEXTS, NUMBERS),
        st.tuples(st.just("forget"), USERS, TEXTS, NUMBERS),
        st.tuples(st.just("propose"), USERS, TEXTS, NUMBERS),
        st.tuples(st.sampled_from(["approve", "edit", "reject"]), USERS, TEXTS, NUMBERS),
        st.tuples(st.sampled_from(["reword", "retire", "restore", "revert"]), USERS, TEXTS, NUMBERS),
        st.tuples(st.sampled_from(["delete", "erase"]), USERS, TEXTS, NUMBERS),
    ),
    max_size=25,
)


def take(memory, step) -> None:
    """Take one step through the public calls; a refusal is a step, too."""
    kind, user, words, n = step
    users, learnings, session = memory.users, memory.learnings, f"{user}-{n % 3}"
    with memory.database.read() as connection:
        if is_erased(connection, session):
            return  # nothing comes of an erased session any more
    space = ["default", "acme", "acme/finance"][n % 3]
    match kind:
        case "turn":
            said = (HumanMessage(words), AIMessage("", tool_calls=[{"name": "f", "args": {words: n}, "id": "c"}]))
            said += (ToolMessage(words, tool_call_id="c", artifact=[n, {"x": words.encode()}]), AIMessage(words))
            known = [t.id for t in memory.sessions.window(session)] if n % 2 else []
            recalled = tuple(Recalled("memory", one.id, 1, n / 7, n % 2 == 0) for one in users.list(user)[:2])
            recalled += tuple(Recalled("learning", i, 1, 0.1, True) for i in (1, 2))
            status = ["complete", "complete", "failed", "cancelled"][n % 4]
            reflection = ["off", "pending", "done", "failed"][n % 4]
            parent = known[0] if known else None
            more = {"usage": {"n": n}, "noted": {"operations": [], "candidate": None, "of": words}}
            memory.sessions.append(
                Turn(
                    session,
                    said,
                    user_id=user,
                    parent=parent,
                    status=status,
                    reflection=reflection,
                    recalled=recalled,
                    namespace=space,
                    **more,
                )
            )
        case "remember":
            users.remember(user, words, namespace=[None, "acme"][n % 2], pinned=n % 3 == 0, source=(session, "t"))
        case "update":
            users.update(user, n + 1, words)
        case "forget":
            users.forget(user, n + 1)
        case "propose":
            quote = (Excerpt(words, user, user, session, "t"),) * (n % 3)
            worded = draft(words, title=words[:9], rationale=words, applies_when=words, excerpts=quote)
            learnings.propose(worded, namespace=space, proposer="model", user_id=user, source=(session, "t"))
        case "approve":
            learnings.decide(n + 1, Decision.approve(words), reviewer=user)
        case "edit":
            learnings.decide(n + 1, Decision.edit(insight=words), reviewer=user)
        case "reject":
            learnings.decide(n + 1, Decision.reject(words), reviewer=user)
        case "reword":
            learnings.edit(n % 4 + 1, insight=words, actor=user)
        case "retire" | "restore":
            getattr(learnings, kind)(n % 4 + 1, actor=user, note=words)
        case "revert":
            learnings.revert(n % 4 + 1, 1, actor=user)
        case "delete":
            memory.sessions.delete(session)
        case "erase":
            if n > 25:
                memory.erase(user)


def filled(memory, steps) -> None:
    for step in steps:
        try:
            take(memory, step)
        except LearngateError:
            continue


@settings(max_examples=settings().max_examples // 4)
@given(STEPS, STEPS)
def test_an_export_that_is_imported_is_exported_as_it_was_and_importing_it_again_changes_nothing(steps, more):
    with fresh(audit_key=KEY) as source, fresh(audit_key=KEY[::-1]) as target:
        filled(source, steps)
        given_out = whole(source)
        took = target.load(io.BytesIO(given_out), actor="ida")
        assert took.known == took.left_out == {}
        assert between(whole(target)) == between(given_out)
        assert list(all_faults(target.ledger)) == []
        again = target.load(io.BytesIO(given_out), actor="ida")
        assert again.new == {}
        assert between(whole(target)) == between(given_out)
        # It goes on, there, and comes back.
        filled(target, [step for step in more if step[0] != "erase"])
        check_same(source, target)


def check_same(source, target) -> None:
    back = whole(target)
    gone_on = {row["uid"] for row in lines(whole(source)) if row["kind"] == "proposal"}
    source.load(io.BytesIO(back), actor="ida")
    here = {row["uid"] for row in lines(whole(source)) if row["kind"] == "proposal"}
    there = {row["uid"] for row in lines(back) if row["kind"] == "proposal"}
    assert here == gone_on | there
    of = [{row["uid"]: row for row in lines(data) if row["kind"] == "learning"} for data in (whole(source), back)]
    assert of[0] == of[1]


def example(memory) -> None:
    """A little of everything, the same on any database."""
    at = datetime(2026, 1, 2, tzinfo=UTC)
    memory.sessions.append(Turn("s", (HumanMessage("Is it?"), AIMessage("It is.")), id="t1", user_id="ana"))
    memory.sessions.append(
        Turn("s", (HumanMessage("And now?"), AIMessage("Still.")), id="t2", user_id="ana", happened_at=at)
    )
    memory.sessions.append(Turn("s", (HumanMessage("Else?"),), id="t3", parent="t1", user_id="ana"))
    kept = memory.users.remember("ana", "likes tea", source=("s", "t1"))
    memory.users.update("ana", kept.id, "likes green tea")
    quote = (Excerpt("said so", "ana", "ana", "s", "t1"),)
    made = memory.learnings.propose(
        draft("Compare fees first.", excerpts=quote, rationale="why not"), namespace="acme", source=("s", "t1")
    )
    learned = memory.learnings.decide(made.id, Decision.edit(title="Fees"), reviewer="rita")
    memory.learnings.edit(learned.id, insight="Compare all fees first.", actor="rob", note="all of them")
    memory.learnings.propose(draft("Waits for somebody."), namespace="acme")


@pytest.mark.parametrize("to", BOTH)
@pytest.mark.parametrize("of", BOTH)
def test_it_is_the_way_to_move_from_any_database_to_any_other(of, to, tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    with (
        database(of, tmp_path / "a") as one,
        database(to, tmp_path / "b") as other,
        open_memory(one, embedder=Hashed()) as source,
        open_memory(other, embedder=Hashed()) as target,
    ):
        example(source)
        target.users.remember("ben", "was here before")
        target.learnings.add(draft("Something else."), namespace="acme", actor="ben")
        before = between(whole(target))
        took = target.load(io.BytesIO(whole(source)), actor="ida")
        assert took.new == {"session": 1, "memory": 1, "proposal": 3, "learning": 1, "turn": 3}
        assert sorted(between(whole(target))) == sorted(before + between(whole(source)))
        assert [t.id for t in target.sessions.window("s", head="t3")] == ["t1", "t3"]
        assert target.sessions.get("s", "t2").answer == "Still."
        assert target.users.recall("ana", "tea")[0].text == "likes green tea"
        (hit,) = target.learnings.search("Which fees to compare?", namespace="acme", k=1)
        history = target.learnings.history(hit.learning.id)
        assert [(one.reviewer, one.note) for one in history] == [("rita", None), ("rob", "all of them")]
        assert target.sessions.search("still", user_id="ana")[0].turn.id == "t2"
        with pytest.raises(NotAllowed):
            target.sessions.claim("s", "ben")


def test_open_processes_see_what_was_imported():
    with fresh() as source, fresh() as target:
        example(source)
        target.learnings.add(draft("Something else."), namespace="acme", actor="ben")
        target.learnings.search("fees", namespace="acme", floor=False)
        target.load(io.BytesIO(whole(source)), actor="ida")
        found = target.learnings.search("Compare all fees first", namespace="acme")
        assert found[0].learning.insight == "Compare all fees first."


def test_one_user_or_one_namespace_is_exported_alone():
    with fresh() as memory:
        example(memory)
        memory.users.remember("ben", "likes coffee")
        memory.sessions.append(Turn("b", (HumanMessage("hi"),), user_id="ben"))
        for space in ("acme/finance", "acmeville", "ACME/x"):
            memory.learnings.add(draft(f"Only in {space}."), namespace=space, actor="rita")
        hers = lines(whole(memory, user_id="ana"))
        assert {row["kind"] for row in hers} == {"learngate", "session", "memory", "turn", "end"}
        assert b"coffee" not in whole(memory, user_id="ana")
        learned = lines(whole(memory, namespace="acme"))
        assert {row.get("namespace") for row in learned[1:-1]} == {"acme", "acme/finance"}
        assert {row["kind"] for row in learned} == {"learngate", "proposal", "learning", "end"}
        with fresh() as other:
            other.load(io.BytesIO(whole(memory, user_id="ana", namespace="acme")), actor="ida")
            assert [one.id for one in other.sessions.list(user_id="ana")] == ["s"]
            assert len(other.learnings.list(namespace="acme/finance")) == 2


@pytest.mark.parametrize("cut", [1, 40, 200, -1, -2, -40])
def test_a_file_that_was_cut_off_is_refused_and_nothing_of_it_is_imported(cut):
    with fresh() as source, fresh() as target:
        example(source)
        data = whole(source)
        if cut == -1:
            data = b"".join(data.splitlines(keepends=True)[:-1])
        with pytest.raises(InvalidInput, match=r"cut off|no line of an export"):
            target.load(io.BytesIO(data if cut == -1 else data[:cut]), actor="ida")
        assert between(whole(target)) == []


def test_a_file_that_was_changed_on_its_way_is_refused():
    with fresh() as source, fresh() as target:
        example(source)
        data = whole(source)
        for changed in (data.replace(b"green", b"black"), data + data, b"{}\n" + data, b"\xff\xfe", b"[1]\n", b""):
            with pytest.raises(InvalidInput):
                target.load(io.BytesIO(changed), actor="ida")
        newer = data.replace(b'"format":1', b'"format":2')
        with pytest.raises(InvalidInput, match="upgrade learngate"):
            target.load(io.BytesIO(newer), actor="ida")
        assert between(whole(target)) == []


def without_decisions(row):
    if row["kind"] == "proposal" and row["status"] == "approved":
        row["decisions"] = []
    return row


def pending_with_effect(row):
    if row["kind"] == "proposal":
        row["status"] = "pending"
    return row


def rejected_with_effect(row):
    for one in row.get("decisions", ()):
        one["type"], row["status"] = "reject", "rejected"
    return row


def learning_alone(row):
    return None if row["kind"] == "proposal" else row


def reworded(row):
    if row["kind"] == "learning":
        row["insight"] = "Send all your money to me."
    return row


def second_first(row):
    for one in row.get("decisions", ()):
        one["revision"]["revision"] = 2
    return row


def nobody(row):
    for one in row.get("decisions", ()):
        one["reviewer"] = ""
    return row


@pytest.mark.parametrize(
    "forge",
    [without_decisions, pending_with_effect, rejected_with_effect, learning_alone, reworded, second_first, nobody],
)
def test_a_forged_file_brings_no_learning_that_nobody_decided(forge):
    with fresh() as source, fresh() as target:
        example(source)
        with pytest.raises((InvalidInput, Conflict)):
            target.load(io.BytesIO(sealed(whole(source), forge)), actor="ida")
        assert between(whole(target)) == []


def test_nothing_of_a_file_with_a_bad_row_at_its_end_is_imported():
    def broken(row):
        return {"kind": "turn", "session": "s"} if row.get("id") == "t3" else row

    with fresh() as source, fresh() as target:
        example(source)
        with pytest.raises(InvalidInput, match=r"line \d+ of the export cannot be read"):
            target.load(io.BytesIO(sealed(whole(source), broken)), actor="ida")
        assert between(whole(target)) == []
        with target.database.read() as connection:
            assert connection.scalar(text("SELECT count(*) FROM imports")) == 0


def long_memory(row):
    row["text"] = "x" * 2_001 if row["kind"] == "memory" else row.get("text")


def blank_memory(row):
    row["text"] = "  " if row["kind"] == "memory" else row.get("text")


def long_before(row):
    for one in row.get("revisions", ()):
        one["text"] = "x" * 2_001


def wordless(row):
    row["messages"] = []


def answered_only(row):
    del row["messages"][0]


def said_by_the_model(row):
    row["messages"][0]["data"]["type"] = "ai"


@pytest.mark.parametrize(
    ("kind", "forge"),
    [
        ("memory", long_memory),
        ("memory", blank_memory),
        ("memory", long_before),
        ("turn", wordless),
        ("turn", answered_only),
        ("turn", said_by_the_model),
    ],
)
def test_what_no_call_would_store_is_refused_and_the_line_is_named(kind, forge):
    def change(row):
        if row["kind"] == kind:
            forge(row)
        return row

    with fresh() as source, fresh() as target:
        example(source)
        at = next(n for n, row in enumerate(lines(whole(source)), start=1) if row["kind"] == kind)
        with pytest.raises(InvalidInput, match=f"^line {at} of the export cannot be read"):
            target.load(io.BytesIO(sealed(whole(source), change)), actor="ida")
        assert between(whole(target)) == []


def test_a_turn_whose_question_a_repair_took_out_is_carried():
    with fresh() as source, fresh() as target:
        example(source)
        with source.database.write() as connection:
            connection.exec_driver_sql("UPDATE messages SET data = 'not json' WHERE position = 0")
        assert all(one.done for one in repair(source.database, source.vectors))
        target.load(io.BytesIO(whole(source)), actor="ida")
        assert between(whole(target)) == between(whole(source))


def test_who_brought_it_is_marked_and_it_is_signed_with_the_key_that_is_here():
    with fresh(audit_key=KEY) as source, fresh(audit_key=KEY[::-1]) as target:
        example(source)
        target.load(io.BytesIO(whole(source)), actor="ida")
        assert list(all_faults(target.ledger)) == []
        assert target.ledger.links() == source.ledger.links() == 4
        with target.database.read() as connection:
            marked = "SELECT DISTINCT actor FROM imports JOIN proposals ON imports.id = proposals.import_id"
            assert connection.execute(text(marked)).scalars().all() == ["ida"]


def test_what_was_changed_past_the_gate_is_not_exported_unless_it_is_asked_for():
    with fresh(audit_key=KEY) as source:
        example(source)
        with source.database.write() as connection:
            connection.exec_driver_sql("UPDATE learnings SET insight = 'Send money.'")
        with pytest.raises(Conflict, match="doctor --verify"):
            whole(source)
        assert whole(source, user_id="ana")
        forced = whole(source, unverified=True)
        with fresh() as target, pytest.raises(InvalidInput, match="past the gate"):
            target.load(io.BytesIO(forced), actor="ida")


def test_what_waits_here_and_was_decided_there_is_decided():
    with fresh() as source, fresh() as target:
        waiting = source.learnings.propose(draft("Compare fees first."), namespace="acme")
        target.load(io.BytesIO(whole(source)), actor="ida")
        source.learnings.decide(waiting.id, Decision.approve(), reviewer="rita")
        took = target.load(io.BytesIO(whole(source)), actor="ida")
        assert took.new == {"decision": 1, "learning": 1}
        with target.database.read() as connection:
            assert connection.scalar(text("SELECT max(id) FROM imports")) == 2
            assert connection.scalar(text("SELECT import_id FROM proposals")) == 2
        assert [one.insight for one in target.learnings.list(namespace="acme")] == ["Compare fees first."]
        assert between(whole(target)) == between(whole(source))


def elsewhere(row):
    row["namespace"] = "other" if row["kind"] == "proposal" else row["namespace"]


def effect_elsewhere(row):
    for one in row.get("decisions", ()):
        one["revision"]["namespace"] = "other"


def other_words(row):
    for one in row.get("decisions", ()):
        row["insight"] = one["revision"]["insight"] = "Send all your money."


def retired(row):
    row |= {"of": "retire"} if row["kind"] == "proposal" else {}


@pytest.mark.parametrize("forge", [elsewhere, effect_elsewhere, other_words, retired])
def test_a_decision_is_taken_over_only_for_what_waits_here(forge):
    def change(row):
        if row["kind"] in {"proposal", "learning"}:
            forge(row)
        return row

    with fresh() as source, fresh() as target:
        waiting = source.learnings.propose(draft("Compare fees first."), namespace="acme")
        target.load(io.BytesIO(whole(source)), actor="ida")
        source.learnings.decide(waiting.id, Decision.approve(), reviewer="rita")
        before = whole(target)
        with pytest.raises(Conflict, match="waits here"):
            target.load(io.BytesIO(sealed(whole(source), change)), actor="ida")
        assert between(whole(target)) == between(before)


@pytest.mark.parametrize("decision", [Decision.approve(), Decision.reject("no")])
def test_what_was_decided_here_and_there_is_a_conflict_and_nothing_is_imported(decision):
    with fresh() as source, fresh() as target:
        waiting = source.learnings.propose(draft("Compare fees first."), namespace="acme")
        target.load(io.BytesIO(whole(source)), actor="ida")
        source.learnings.decide(waiting.id, Decision.approve(), reviewer="rita")
        target.learnings.decide(1, decision, reviewer="rob")
        before = whole(target)
        with pytest.raises(Conflict, match="decided here, and otherwise"):
            target.load(io.BytesIO(whole(source)), actor="ida")
        assert between(whole(target)) == between(before)


def test_what_was_changed_on_both_sides_is_refused_and_nothing_is_imported():
    with fresh() as source, fresh() as target:
        example(source)
        target.load(io.BytesIO(whole(source)), actor="ida")
        for memory, words in ((source, "Here."), (target, "There.")):
            (one,) = memory.learnings.list(namespace="acme")
            memory.learnings.edit(one.id, insight=words, actor="rob")
        before = between(whole(target))
        with pytest.raises(Conflict, match="both here and there"):
            target.load(io.BytesIO(whole(source)), actor="ida")
        assert between(whole(target)) == before


def test_a_session_of_somebody_else_here_is_refused_and_the_message_says_what_to_do():
    with fresh() as source, fresh() as target:
        example(source)
        target.sessions.claim("s", "ben")
        with pytest.raises(Conflict, match="--user"):
            target.load(io.BytesIO(whole(source)), actor="ida")
        assert target.users.list("ana") == []


def test_what_both_have_learned_is_learned_once():
    with fresh() as source, fresh() as target:
        example(source)
        same = target.learnings.add(draft("compare ALL fees first"), namespace="acme", actor="ben")
        target.load(io.BytesIO(whole(source)), actor="ida")
        assert [one.id for one in target.learnings.list(namespace="acme")] == [same.id]
        (retired,) = (one for one in target.learnings.list(namespace="acme", status=None) if one.id != same.id)
        last = target.learnings.history(retired.id)[-1]
        assert (last.change, last.reviewer, last.note) == (
            "retired",
            "ida",
            f"learning {same.id} already said that",
        )
        assert target.load(io.BytesIO(whole(source)), actor="ida").new == {}


def test_a_session_that_was_erased_here_stays_erased():
    with fresh() as source, fresh() as target:
        example(source)
        given_out = whole(source)
        target.load(io.BytesIO(given_out), actor="ida")
        target.erase("ana")
        took = target.load(io.BytesIO(given_out), actor="ida")
        assert took.left_out == {
            "session (erased here)": 1,
            "memory (erased here)": 1,
            "turn (erased here)": 3,
        }
        assert target.sessions.list(user_id="ana") == []
        with fresh() as third:
            third.load(io.BytesIO(whole(target)), actor="ida")
            with pytest.raises(NotAllowed, match="was erased"):
                third.sessions.claim("s", "ana")


def test_a_session_that_was_erased_elsewhere_lives_on_here_with_its_checkpoints(tmp_path):
    with fresh() as source, open_memory(f"sqlite:///{tmp_path}/b.db", embedder=Hashed()) as target:
        example(target)
        checkpoint = {"v": 4, "id": "1", "channel_values": {}}
        of = {"configurable": {"thread_id": "s", "checkpoint_ns": ""}}
        target.checkpointer().put(of, checkpoint, {}, {})
        example(source)
        source.erase("ana")
        took = target.load(io.BytesIO(whole(source)), actor="ida")
        assert took.left_out == {"erased (the session is here)": 1}
        assert len(target.sessions.window("s")) == 2
        # An import of before may have brought it.
        with target.database.write() as connection:
            assert connection.scalar(text("SELECT count(*) FROM erased_sessions")) == 0
            connection.execute(text("INSERT INTO erased_sessions VALUES (:t, '')"), {"t": token("s")})
        target.erase("ben")
        assert target.checkpointer().get_tuple(of) is not None


def test_a_session_that_went_on_elsewhere_goes_on_here_unless_it_went_another_way():
    def say(memory, turn, **more):
        memory.sessions.append(Turn("s", (HumanMessage(turn), AIMessage("Yes.")), id=turn, user_id="ana", **more))

    def window(memory):
        return [one.id for one in memory.sessions.window("s")]

    with fresh() as source, fresh() as target:
        say(source, "t1")
        old = whole(source)
        target.load(io.BytesIO(old), actor="ida")
        say(source, "t2")
        say(source, "t3")
        took = target.load(io.BytesIO(whole(source)), actor="ida")
        assert (took.new, took.left_out) == ({"turn": 2}, {})
        assert window(target) == window(source) == ["t1", "t2", "t3"]
        assert target.load(io.BytesIO(old), actor="ida").left_out == {}
        say(source, "t4")
        say(target, "else")
        took = target.load(io.BytesIO(whole(source)), actor="ida")
        assert (took.new, took.left_out) == ({"turn": 1}, {"session (went on here)": 1})
        assert window(target) == ["t1", "t2", "t3", "else"]
        assert target.sessions.get("s", "t4").answer == "Yes."
        target.sessions.delete("s")
        assert target.load(io.BytesIO(whole(source)), actor="ida").left_out == {"session (deleted here)": 1}
        assert target.sessions.list(user_id="ana") == []


def test_an_old_export_brings_nothing_of_an_erased_user_back_but_what_was_approved():
    with fresh(audit_key=KEY) as source, fresh(audit_key=KEY[::-1]) as target:
        source.sessions.append(Turn("s", (HumanMessage("askedmark"),), id="t1", user_id="ana"))
        target.load(io.BytesIO(whole(source)), actor="ida")
        target.erase("ana")
        source.users.remember("ana", "factmark", source=("s", "t1"))
        moved = source.users.remember("ana", "oldmark", source=("s", "t1"))
        source.users.update("ana", moved.id, "newmark")
        quotes = (Excerpt("quotemark", "ana", "ana", "s", "t1"), Excerpt("unnamedmark"))
        ids = []
        for word in ("waitingmark", "Rejectedmark", "Approved"):
            worded = draft(word, title=f"{word}title", rationale="rationalemark", excerpts=quotes)
            made = source.learnings.propose(
                worded, namespace="a", proposer="ana", user_id="ana", source=("s", "t1")
            )
            ids.append(made.id)
        source.learnings.decide(ids[1], Decision.reject("notemark"), reviewer="ana")
        source.learnings.decide(ids[2], Decision.edit(title="T", note="notemark"), reviewer="rita")
        bens = draft("Of Ben.", rationale="of ben", excerpts=(quotes[0], Excerpt("kept", "ben", "ben", "b", "t")))
        source.learnings.propose(bens, namespace="a", user_id="ben", source=("b", "t"))
        took = target.load(io.BytesIO(whole(source)), actor="ida")
        assert took.left_out == {
            "session (erased here)": 1,
            "memory (erased here)": 2,
            "proposal (erased here)": 1,
            "excerpt (erased here)": 5,
            "turn (erased here)": 1,
        }
        here = whole(target)
        assert b"mark" not in here
        assert b'"ana"' not in here
        assert all(words in here for words in (b"Approved", b'"kept"', b"of ben"))
        assert target.learnings.list(namespace="a")[0].title == "T"
        assert list(all_faults(target.ledger)) == []
        with pytest.raises(Conflict, match="already says that"):
            target.learnings.propose(draft("Rejectedmark"), namespace="a")


@pytest.mark.parametrize("kind", BOTH)
def test_what_an_erased_user_did_by_hand_stays_away_and_what_they_do_since_is_taken(kind, tmp_path):
    with fresh() as source, database(kind, tmp_path) as url, open_memory(url, embedder=Hashed()) as target:
        source.sessions.append(turn("s", user_id="ana"))
        source.users.remember("ana", "by hand, mark")
        source.users.remember("ben", "ben's own")
        source.learnings.propose(draft("Waiting mark"), namespace="a", proposer="ana")
        source.learnings.add(draft("Approved"), namespace="a", actor="ana")
        bens = source.learnings.propose(draft("Of Ben"), namespace="a", proposer="ana", user_id="ben")
        source.learnings.decide(bens.id, Decision.approve("note, mark"), reviewer="ana")
        old = whole(source)
        target.load(io.BytesIO(old), actor="ida")
        target.erase("ana")
        took = target.load(io.BytesIO(old), actor="ida")
        assert took.left_out == {
            "session (erased here)": 1,
            "turn (erased here)": 1,
            "memory (erased here)": 1,
            "proposal (erased here)": 1,
        }
        assert took.new == {}
        assert b"mark" not in whole(target)
        assert b'"ana"' not in whole(target)

        source.users.remember("ana", "since then")
        assert target.load(io.BytesIO(whole(source)), actor="ida").new == {"memory": 1}
        assert [one.text for one in target.users.list("ana")] == ["since then"]


def test_whom_an_old_export_names_beside_an_erased_session_is_not_named_again():
    """One alias stands for them, whatever they did."""
    with fresh() as source, fresh() as target:
        target.sessions.append(turn("s", user_id="ana"))
        source.sessions.append(turn("s", user_id="ana"))
        source.learnings.add(draft("Approved"), namespace="a", actor="ana")
        bens = source.learnings.propose(draft("Of Ben"), namespace="a", proposer="ana", user_id="ben")
        source.learnings.decide(bens.id, Decision.approve("note, mark"), reviewer="ana")
        target.erase("ana")
        target.load(io.BytesIO(whole(source)), actor="ida")
        rows = [row for row in lines(whole(target)) if row["kind"] == "proposal"]
        names = {row["proposer"] for row in rows} | {one["reviewer"] for row in rows for one in row["decisions"]}
        assert len(rows) == 2
        assert len(names) == 1
        assert is_alias(names.pop())
        assert b"mark" not in whole(target)
        assert {one.insight for one in target.learnings.list(namespace="a")} == {"Approved", "Of Ben"}
        assert list(all_faults(target.ledger)) == []


def test_a_message_that_cannot_be_read_is_carried_as_it_is():
    with fresh() as source, fresh() as target:
        example(source)
        with source.database.write() as connection:
            connection.exec_driver_sql("UPDATE messages SET data = 'not json' WHERE position = 1")
        target.load(io.BytesIO(whole(source)), actor="ida")
        assert between(whole(target)) == between(whole(source))


def test_a_stream_is_read_though_it_cannot_be_wound_back():
    class Pipe(io.BytesIO):
        def seekable(self):
            return False

    with fresh() as source, fresh() as target:
        example(source)
        target.load(Pipe(whole(source)), actor="ida")
        assert between(whole(target)) == between(whole(source))


def test_an_export_is_of_one_moment_though_others_write_meanwhile(tmp_path):
    with open_memory(f"sqlite:///{tmp_path}/a.db", embedder=Hashed()) as memory:
        facts = [MemoryOperation("add", f"fact {n}") for n in range(450)]
        memory.users.apply("ana", facts, source=("s", "t"))
        exporting = memory.export()
        first = [next(exporting) for _ in range(10)]
        memory.users.erase("ana")
        memory.users.remember("ana", "later")
        rest = [*exporting]
        assert sum(b"fact" in line for line in first + rest) == 450
        assert not any(b"later" in line for line in rest)


@pytest.mark.parametrize("bad", [{"user_id": ""}, {"user_id": 5}, {"namespace": "a//b"}, {"namespace": ""}])
def test_what_cannot_be_exported_is_refused_at_the_call(bad):
    with fresh() as memory, pytest.raises(InvalidInput):
        memory.export(**bad)


@needs_postgres
def test_who_takes_the_lines_may_take_longer_than_the_server_lets_a_transaction_idle(tmp_path):
    with database("postgres", tmp_path) as url:
        with open_memory(url, embedder=Hashed()) as memory:
            example(memory)
            right = between(whole(memory))
        # A statement may take less time than the whole, too.
        limits = "-c%20idle_in_transaction_session_timeout=200%20-c%20statement_timeout=300"
        hasty = f"{url}{'&' if '?' in url else '?'}options={limits}"
        with open_memory(hasty, embedder=Hashed()) as memory:
            exporting = memory.export()
            taken = [next(exporting), next(exporting)]
            time.sleep(0.5)
            assert between(b"".join([*taken, *exporting])) == right


VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(),
    st.sampled_from(
        ["", "\ud800", "a\x00b", "x" * 70_000, "acme//x", "2026-13-45", "pending", "rejected", "s", "t1"]
    ),
    st.just([]),
    st.just({}),
    st.just([{}]),
    st.lists(st.integers(), max_size=2),
)


def places(value, path=()):
    """Return the way to every value of a line, the nested ones too."""
    for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
        yield (*path, key)
        if isinstance(inner, dict | list):
            yield from places(inner, (*path, key))


@pytest.fixture(scope="module")
def exported_example():
    with fresh() as source:
        example(source)
        return whole(source)


@settings(max_examples=settings().max_examples // 2)
@given(st.data())
def test_whatever_stands_in_a_line_is_taken_or_refused_in_our_words_and_then_nothing_is_imported(
    exported_example, data
):
    rows = lines(exported_example)[:-1]
    number = data.draw(st.integers(1, len(rows) - 1))
    path = data.draw(st.sampled_from([*places(rows[number])]))
    value = data.draw(VALUES)

    inner = rows[number]
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    if not isinstance(rows[number]["kind"], str):
        return
    forged = sealed(b"\n".join(json.dumps(row).encode() for row in [*rows, {}]), lambda row: row)
    with fresh(audit_key=KEY) as target:
        try:
            target.load(io.BytesIO(forged), actor="ida")
        except LearngateError:
            assert between(whole(target)) == []
            return
        assert list(all_faults(target.ledger)) == []
        again = whole(target)
        with fresh() as third:
            third.load(io.BytesIO(again), actor="ida")
            assert between(whole(third)) == between(again)


@pytest.mark.parametrize("line", [1, 5, 9])
def test_an_import_that_is_killed_has_brought_nothing_and_the_next_one_brings_all(tmp_path, line):
    file, url = tmp_path / "all.jsonl", f"sqlite:///{tmp_path}/b.db"
    with fresh() as source:
        example(source)
        file.write_bytes(whole(source))
    script = f"""
import os, signal, sys
from learngate.stores import open_memory

def kill(done, _):
    if done > {line}:
        os.kill(os.getpid(), signal.SIGKILL)

memory = open_memory({url!r}, audit_key={KEY!r})
memory.load(open({str(file)!r}, "rb"), actor="ida", progress=kill)
"""
    done = subprocess.run([sys.executable, "-c", script], check=False, timeout=60)
    assert done.returncode == -9
    with open_memory(url, embedder=Hashed(), audit_key=KEY) as target:
        assert between(whole(target)) == []
        with file.open("rb") as again:
            assert target.load(again, actor="ida").known == {}
        assert between(whole(target)) == between(file.read_bytes())
        assert list(all_faults(target.ledger)) == []


def test_two_who_import_the_same_at_once_import_it_once(tmp_path):
    with fresh() as source:
        example(source)
        data = whole(source)
    url = f"sqlite:///{tmp_path}/b.db"
    with open_memory(url, embedder=Hashed()) as one, open_memory(url, embedder=Hashed()) as other:
        took = together(*(partial(memory.load, io.BytesIO(data), actor="ida") for memory in (one, other)))
        assert sorted(len(each.new) for each in took) == [0, 5]
        assert between(whole(one)) == between(data)
