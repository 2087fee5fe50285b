"""Several processes do what only one of them can, or what all of them may, at the very same moment."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any
from uuid import uuid4

from langchain_core.messages import AIMessage, HumanMessage
from langgraph.types import Command
from sqlalchemy import Connection, func, select, text

from learngate.graph import build_graph
from learngate.graph.scripted import ScriptedChat, learning
from learngate.nodes.reflection import Candidate, MemoryChange, Reflection
from learngate.stores import Decision, Memory, ProposalDraft, StoreUnavailable, Turn
from learngate.stores.database import Database
from learngate.stores.migrations import MIGRATIONS, migrate
from learngate.stores.tables import decisions, effects, learnings, proposals, revisions, schema, turns
from tests.graph.support import ANA, INSIGHT, opened, say, thread
from tests.reliability.counting import Count, Databases, Scenario, Tally, made
from tests.reliability.crew import Crew, Outcome, arrive, at, meet
from tests.reliability.rows import check_whole

SCENARIOS: list[Scenario] = []


def only(outcomes: list[Outcome], tally: Tally, *expected: str) -> list[Outcome]:
    """Return what was acknowledged; count any error that was not to be expected."""
    for outcome in outcomes:
        tally.check(outcome.error in (None, *expected), "silent", f"{outcome.error}: {outcome.said}")
    return [outcome for outcome in outcomes if outcome.error is None]


def count(memory: Memory, query: Any) -> int:
    with memory.database.read() as connection:
        return connection.scalar(query) or 0


# -- the gate -----------------------------------------------------------------------------------------------

VERDICTS = (Decision.approve(), Decision.edit(insight=""), Decision.reject("no"))


def decide(number: int, url: str, proposal_id: int, turn: int) -> tuple[str, str | None]:
    verdict = VERDICTS[(number + turn) % 3]
    if verdict.type == "edit":
        verdict = Decision.edit(insight=f"insight {proposal_id} as reviewer {number} words it")
    made = at(url).learnings.decide(proposal_id, verdict, reviewer=f"reviewer-{number}")
    return f"reviewer-{number}", None if made is None else made.insight


@made(SCENARIOS, long=50, sample=2)
def reviewers(databases: Databases, rounds: int) -> Iterator[Count]:
    """8 reviewers decide one proposal at once: approve, edit, reject."""
    url = databases.ready()
    with opened(url) as memory, Crew(8) as crew:
        crew.all(arrive, url)
        for turn in range(rounds):
            tally = Tally()
            waiting = memory.learnings.propose(ProposalDraft("T", f"insight {uuid4().hex}"), namespace="n")
            outcomes = crew.all(decide, url, waiting.id, turn)
            acknowledged = only(outcomes, tally, "AlreadyDecided")
            tally.check(len(acknowledged) <= 1, "doubled", f"{len(acknowledged)} decisions were acknowledged")
            tally.check(acknowledged, "lost", "no decision was acknowledged")
            check_decided(memory, waiting.id, outcomes, tally)
            yield tally.count()


def check_decided(memory: Memory, proposal_id: int, outcomes: list[Outcome], tally: Tally) -> None:
    record = memory.learnings.decision(proposal_id)
    for outcome in outcomes:
        if outcome.error is None:
            winner, insight = outcome.value
            tally.check(winner == record.reviewer, "lost", f"{winner} was told yes, {record} stands")
            there = record.learning_id and memory.learnings.get(record.learning_id).insight
            tally.check(there == insight, "lost", f"{insight!r} was acknowledged, {there!r} is stored")
        else:
            tally.check(outcome.winner == record.reviewer, "silent", f"a loser was told of {outcome.winner}")
            tally.check(record.reviewer in outcome.said, "silent", outcome.said)
    for table in (decisions, learnings, revisions):
        rows = count(memory, select(func.count()).select_from(table).where(table.c.proposal_id == proposal_id))
        wanted = 1 if table is decisions else int(record.type != "reject")
        tally.check(rows <= wanted, "doubled", f"{rows} {table.name} for one proposal")
        tally.check(rows >= wanted, "lost", f"{rows} {table.name} for one proposal")
    check_whole(memory, tally, f"proposal {proposal_id}")


def resume(number: int, url: str, session: str) -> tuple[str, int | None]:
    graph = build_graph(at(url), model=ScriptedChat())
    answer = ("approve", {"type": "reject", "message": "no"})[number % 2]
    result = graph.invoke(Command(resume=answer), thread(session), context=ANA)
    return result["proposal"]["status"], result["proposal"]["learning_id"]


@made(SCENARIOS, long=50, sample=2)
def resumes(databases: Databases, rounds: int) -> Iterator[Count]:
    """4 processes answer one paused run at once: approve, reject."""
    url = databases.ready()
    with opened(url) as memory, Crew(4) as crew:
        crew.all(arrive, url)
        for turn in range(rounds):
            tally, session = Tally(), f"s{turn}"
            model = ScriptedChat(reflections=[learning("ETFs", f"{INSIGHT} In case {uuid4().hex}.")])
            graph = build_graph(memory, model=model)
            graph.invoke(say("ETFs?"), thread(session), context=ANA)
            [waiting] = memory.learnings.pending(session_id=session)
            acknowledged = only(crew.all(resume, url, session), tally)
            record = memory.learnings.decision(waiting.id)
            stands = ("rejected" if record.type == "reject" else "approved", record.learning_id)
            for outcome in acknowledged:
                tally.check(outcome.value == stands, "silent", f"told {outcome.value}, {stands} stands")
            check_decided(memory, waiting.id, [], tally)
            after = build_graph(memory, model=ScriptedChat()).get_state(thread(session))
            tally.check(not after.interrupts, "lost", "the thread asks again")
            yield tally.count()


def propose(number: int, url: str, insight: str) -> int:
    return at(url).learnings.propose(ProposalDraft(f"Title {number}", insight), namespace="n").id


@made(SCENARIOS, long=50, sample=2)
def same_learning(databases: Databases, rounds: int) -> Iterator[Count]:
    """4 processes propose the same learning at once."""
    url = databases.ready()
    with opened(url) as memory, Crew(4) as crew:
        crew.all(arrive, url)
        for turn in range(rounds):
            tally, insight = Tally(), f"insight {turn}"
            acknowledged = only(crew.all(propose, url, insight), tally, "Conflict")
            rows = count(memory, select(func.count()).select_from(proposals).where(proposals.c.insight == insight))
            tally.check(len(acknowledged) == rows, "lost", f"{len(acknowledged)} acknowledged, {rows} stored")
            tally.check(rows <= 1, "doubled", f"{rows} proposals of one learning")
            yield tally.count()


def edit(number: int, url: str, learning_id: int, turn: int) -> int:
    words = f"round {turn}, said by {number}"
    return at(url).learnings.edit(learning_id, insight=words, actor=f"actor-{number}").revision


@made(SCENARIOS, long=50, sample=2)
def edits(databases: Databases, rounds: int) -> Iterator[Count]:
    """4 processes edit one learning at once: each edit is a revision."""
    url = databases.ready()
    with opened(url) as memory, Crew(4) as crew:
        crew.all(arrive, url)
        one = memory.learnings.add(ProposalDraft("T", "insight"), namespace="n", actor="kim")
        for turn in range(rounds):
            tally = Tally()
            acknowledged = {outcome.value for outcome in only(crew.all(edit, url, one.id, turn), tally)}
            history = memory.learnings.history(one.id)
            words = [version.insight for version in history if version.insight.startswith(f"round {turn},")]
            tally.check(len(words) >= 4, "lost", f"4 edits acknowledged, stored {words}")
            tally.check(len(words) == len(set(words)), "doubled", f"stored {words}")
            tally.check(len(acknowledged) == 4, "doubled", f"two edits made one revision: {acknowledged}")
            tally.check(
                [v.revision for v in history] == [*range(1, len(history) + 1)], "lost", "a hole in the history"
            )
            check_whole(memory, tally, "edits")
            yield tally.count()


# -- sessions -----------------------------------------------------------------------------------------------

APPENDED = 6


def append(number: int, url: str, session: str) -> list[str]:
    ids = []
    for i in range(APPENDED):
        # The last of each is the same turn: delivered to all of them.
        own = f"{number}-{i}" if i < APPENDED - 1 else "shared"
        said = (HumanMessage(f"question {own}"), AIMessage(f"answer {own}"))
        ids.append(at(url).sessions.append(Turn(session, said, id=own, user_id="ana")).id)
    return ids


@made(SCENARIOS, long=50, sample=2)
def one_session(databases: Databases, rounds: int) -> Iterator[Count]:
    """4 processes append to one session at once, each 5 turns of its own and one that all bring."""
    url = databases.ready()
    with opened(url) as memory, Crew(4) as crew:
        crew.all(arrive, url)
        for number in range(rounds):
            tally, session = Tally(), f"s{number}"
            acknowledged = [i for outcome in only(crew.all(append, url, session), tally) for i in outcome.value]
            stored = memory.sessions.turns(session, [*dict.fromkeys(acknowledged)])
            tally.check(len(stored) == len(set(acknowledged)), "lost", f"{len(stored)} of {len(set(acknowledged))}")
            for turn in stored:
                whole = [m.text for m in turn.messages] == [f"question {turn.id}", f"answer {turn.id}"]
                tally.check(whole, "half", f"{turn.id}: {turn.messages}")
            mine = select(func.count()).select_from(turns).where(turns.c.session_id == session)
            tally.check(count(memory, mine) <= len(set(acknowledged)), "doubled", "more turns than were brought")
            # Each followed the newest: the tree is one line from the first turn to the last.
            line = memory.sessions.window(session, turns=1000)
            tally.check(len(line) == len(stored), "lost", f"a line of {len(line)}, {len(stored)} turns")
            roots = [turn.id for turn in line if not turn.parent]
            tally.check(len(roots) == 1, "half", f"{len(roots)} turns follow nothing")
            yield tally.count()


def claim(number: int, url: str, session: str) -> str:
    memory, user = at(url), f"user-{number}"
    memory.sessions.append(Turn(session, (HumanMessage(f"secret of {user}"),), user_id=user, id=f"{number}"))
    return user


@made(SCENARIOS, long=50, sample=2)
def one_name(databases: Databases, rounds: int) -> Iterator[Count]:
    """4 users open a session of the same name at once: one has it, the others are refused."""
    url = databases.ready()
    with opened(url) as memory, Crew(4) as crew:
        crew.all(arrive, url)
        for number in range(rounds):
            tally, session = Tally(), f"s{number}"
            acknowledged = only(crew.all(claim, url, session), tally, "NotAllowed")
            owner = memory.sessions.show(session).user_id
            tally.check([o.value for o in acknowledged] == [owner], "leaked", f"{acknowledged}: it is {owner}'s")
            said = [turn.question for turn in memory.sessions.window(session)]
            tally.check(said == [f"secret of {owner}"], "leaked", f"{owner} finds {said}")
            yield tally.count()


def deliver(number: int, url: str, session: str, *, together: bool) -> list[str]:
    graph = build_graph(at(url), model=answering(f"answer of {number}", together=together), pause=False)
    result = graph.invoke(say("What is an ETF?", "m"), thread(session), context=ANA)
    return [message.text for message in result["messages"]][-2:]


def deliver_together(number: int, url: str, session: str) -> list[str]:
    """Deliver, and let neither process answer before both have begun the turn."""
    return deliver(number, url, session, together=True)


def deliver_apart(number: int, url: str, session: str) -> list[str]:
    return deliver(number, url, session, together=False)


def answering(words: str, *, together: bool) -> ScriptedChat:
    def answer(_: Any) -> str:
        if together:
            meet()
        return words

    candidate = Candidate(title="ETFs", insight=INSIGHT, applies_when="comparing ETFs")
    kept = Reflection(memories=[MemoryChange(op="add", text="Ana holds VWCE.")], learning=candidate)
    return ScriptedChat(answers=[answer], reflections=[kept])


@made(SCENARIOS, long=50, sample=2)
def delivered_twice(databases: Databases, rounds: int) -> Iterator[Count]:
    """One message is delivered to 2 processes at once: one turn, one answer, one effect."""
    url = databases.ready()
    with opened(url) as memory, Crew(2) as crew:
        crew.all(arrive, url)
        for number in range(rounds):
            tally, session = Tally(), f"s{number}"
            way = (deliver_together, deliver_apart)[number % 2]
            acknowledged = only(crew.all(way, url, session), tally)
            [turn] = memory.sessions.window(session)
            for outcome in acknowledged:
                shown = ["What is an ETF?", turn.answer]
                tally.check(outcome.value == shown, "silent", f"shown {outcome.value}, recorded {turn.answer!r}")
            mine = select(turns.c.seq).where(turns.c.session_id == session)
            rows = count(memory, select(func.count()).select_from(mine.subquery()))
            tally.check(rows == 1, "doubled", f"{rows} turns of one message")
            claimed = select(func.count()).select_from(effects).where(effects.c.turn_seq.in_(mine))
            tally.check(count(memory, claimed) == 2, "doubled", "the turn took effect another number of times")
            tally.check(len(memory.users.list("ana")) == 1, "doubled", "the memory is there twice")
            tally.check(len(memory.learnings.pending(namespace="finance")) == 1, "doubled", "two proposals")
            check_next(memory, session, turn.answer, tally)
            yield tally.count()


def check_next(memory: Memory, session: str, answer: str, tally: Tally) -> None:
    """Let the session go on: its next prompt has the turn once, and the answer that was recorded."""
    model = ScriptedChat(answers=["And so on."])
    build_graph(memory, model=model, reflection="off").invoke(say("And?"), thread(session), context=ANA)
    said = [message.text for message in model.prompts[-1] if message.type in {"human", "ai"}]
    tally.check(said.count("What is an ETF?") == 1, "doubled", f"the next prompt is {said}")
    tally.check(
        [one for one in said if one.startswith("answer of")] == [answer], "lost", f"the next prompt is {said}"
    )


# -- user memory --------------------------------------------------------------------------------------------

WRITES = 200


def remember(number: int, url: str, user: str, writes: int) -> dict[str, int]:
    """Remember so many facts, every fourth of which the others remember, too."""
    users = at(url).users
    texts = [f"fact {i}" if i % 4 == 0 else f"fact {i} of {number}" for i in range(writes)]
    return {fact: patiently(lambda fact=fact: users.remember(user, fact)).id for fact in texts}


def patiently(call: Callable[[], Any]) -> Any:
    """Do as the error says, that nothing was stored and to try again: SQLite's lock is not fair, disks are slow."""
    for _ in range(20):
        try:
            return call()
        except StoreUnavailable as error:
            if "nothing was stored: try again" not in str(error):
                raise
    return call()


@made(SCENARIOS, long=50, sample=1)
def one_user(databases: Databases, rounds: int) -> Iterator[Count]:
    """2 processes write 200 memories of one user each at once."""
    url = databases.ready()
    with opened(url) as memory, Crew(2) as crew:
        crew.all(arrive, url)
        for number in range(rounds):
            tally, user = Tally(), f"user-{number}"
            told = [outcome.value for outcome in only(crew.all(remember, url, user, WRITES), tally)]
            stored = Counter(one.text for one in memory.users.list(user, limit=10 * WRITES))
            ids = {one.id: one.text for one in memory.users.list(user, limit=10 * WRITES)}
            missing = {fact for facts in told for fact, i in facts.items() if ids.get(i) != fact}
            if missing:
                tally.note("lost", f"acknowledged and not there: {sorted(missing)[:3]}", len(missing))
            twice = [fact for fact, times in stored.items() if times > 1]
            if twice:
                tally.note("doubled", f"there twice: {twice[:3]}", len(twice))
            yield tally.count()


# -- a new database -----------------------------------------------------------------------------------------


def first(number: int, url: str) -> str:
    memory = at(url)
    memory.checkpointer()
    return memory.users.remember(f"user-{number}", f"fact {number}").text


@made(SCENARIOS, long=50, sample=1)
def first_open(databases: Databases, rounds: int) -> Iterator[Count]:
    """8 processes open a new database at once, and write to it."""
    with Crew(8) as crew:
        for _ in range(rounds):
            tally, url = Tally(), databases.new()
            told = only(crew.all(first, url), tally)
            with opened(url) as memory:
                found = {one.text for i in range(8) for one in memory.users.list(f"user-{i}")}
                tally.check({outcome.value for outcome in told} <= found, "lost", f"{told}, stored {found}")
                versions = count(memory, select(func.count()).select_from(schema))
                tally.check(versions == len(MIGRATIONS), "doubled", f"{versions} versions")
            crew.all(leave)
            databases.drop(url)
            yield tally.count()


def leave(_: int) -> None:
    at("sqlite://")


def another(connection: Connection) -> None:
    connection.execute(text("CREATE TABLE another (x INTEGER)"))
    connection.execute(text("INSERT INTO another SELECT count(*) FROM learngate_schema"))


def move(_: int, url: str) -> int:
    database = Database(url)
    try:
        return migrate(database, (*MIGRATIONS, another))
    finally:
        database.close()


@made(SCENARIOS, long=50, sample=2)
def migrations(databases: Databases, rounds: int) -> Iterator[Count]:
    """4 processes bring a database to the next schema at once."""
    with Crew(4) as crew:
        for _ in range(rounds):
            tally, url = Tally(), databases.new()
            with opened(url) as memory:
                fact = memory.users.remember("ana", "Ana likes tea.")
            told = only(crew.all(move, url), tally)
            tally.check({one.value for one in told} == {len(MIGRATIONS) + 1}, "lost", f"{told}")
            database = Database(url)
            with database.read() as connection:
                rows = connection.scalars(text("SELECT x FROM another")).all()
                versions = connection.scalars(select(schema.c.version).order_by(schema.c.version)).all()
                facts = connection.scalars(text("SELECT text FROM user_memories")).all()
            database.close()
            tally.check([*rows] == [len(MIGRATIONS)], "doubled", f"the step ran {len(rows)} times")
            tally.check([*versions] == [*range(1, len(MIGRATIONS) + 2)], "doubled", f"versions {versions}")
            tally.check([*facts] == [fact.text], "lost", f"of {fact.text!r} there is {facts}")
            databases.drop(url)
            yield tally.count()
