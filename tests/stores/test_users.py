import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from sqlalchemy import text as sql

from learngate.stores import InvalidInput, Memory, MemoryOperation, NotFound, UserMemory, open_memory
from tests.stores.support import Hashed, check_index, go, processes, together, turn

USERS = st.sampled_from(["ana", "ben"])
# Some differ in nothing but case and punctuation, some in a sign that matters.
TEXTS = st.sampled_from(
    ["likes tea", "Likes tea!", "likes coffee", "writes C", "writes C++", "喜欢基金", "lives at 5"]
)
CHOICES = st.integers(0, 30)


def folded(text: str) -> str:
    return text.casefold().strip("!")


class Remembering(RuleBasedStateMachine):
    """Every operation, on the store and on plain dicts."""

    def __init__(self) -> None:
        super().__init__()
        self.memory = open_memory("sqlite://", embedder=Hashed())
        self.users = self.memory.users
        self.known: dict[str, dict[int, UserMemory]] = {"ana": {}, "ben": {}}
        self.ever: list[int] = []
        self.number = 0

    def teardown(self) -> None:
        check_index(self.memory)
        self.memory.close()

    def one(self, choice: int) -> int:
        """Return the id of some memory: this user's, another's, a forgotten one, or one that never was."""
        return self.ever[choice % len(self.ever)] if self.ever and choice else 999

    def same(self, user: str, text: str) -> int | None:
        return next((m.id for m in self.known[user].values() if folded(m.text) == folded(text)), None)

    @rule(user=USERS, text=TEXTS, pinned=st.booleans())
    def remember(self, user, text, pinned):
        there = self.same(user, text)
        stored = self.users.remember(user, text, pinned=pinned)
        if there is not None:
            assert stored == self.known[user][there]
            return
        assert (stored.user_id, stored.text, stored.pinned, stored.revision) == (user, text, pinned, 1)
        assert stored.id not in self.ever
        self.ever.append(stored.id)
        self.known[user][stored.id] = stored

    @rule(user=USERS, choice=CHOICES, text=st.none() | TEXTS, pinned=st.none() | st.booleans())
    def update(self, user, choice, text, pinned):
        name = self.one(choice)
        before = self.known[user].get(name)
        if before is None:
            with pytest.raises(NotFound):
                self.users.update(user, name, text, pinned=pinned)
        elif text is not None and self.same(user, text) not in {None, name}:
            with pytest.raises(InvalidInput, match="already says that"):
                self.users.update(user, name, text, pinned=pinned)
        else:
            after = self.users.update(user, name, text, pinned=pinned)
            assert after.text == (before.text if text is None else text)
            assert after.pinned == (before.pinned if pinned is None else pinned)
            assert after.revision == before.revision + (after.text != before.text)
            self.known[user][name] = after

    @rule(user=USERS, choice=CHOICES)
    def forget(self, user, choice):
        name = self.one(choice)
        if name in self.known[user]:
            assert self.users.forget(user, name) == self.known[user].pop(name)
        with pytest.raises(NotFound):
            self.users.forget(user, name)

    @rule(
        user=USERS,
        operations=st.lists(
            st.builds(MemoryOperation, st.just("add"), TEXTS)
            | st.builds(MemoryOperation, st.just("update"), TEXTS, CHOICES)
            | st.builds(MemoryOperation, st.just("forget"), st.none(), CHOICES),
            max_size=3,
        ),
    )
    def apply(self, user, operations):
        self.number += 1
        source = (f"s-{user}", f"t{self.number}")
        self.memory.sessions.append(turn(source[0], id=source[1], user_id=user, reflection="pending"))
        named = [
            MemoryOperation(given.op, given.text, None if given.id is None else self.one(given.id))
            for given in operations
        ]
        stored = self.users.apply(user, named, source=source)
        self.follow(user, named, {m.id: m for m in self.users.list(user)})
        assert all(m.user_id == user for m in stored)
        # Exactly once: again, it changes nothing.
        assert self.users.apply(user, named, source=source) == []
        assert self.memory.sessions.get(*source).reflection == "done"

    def follow(self, user: str, operations: list[MemoryOperation], stored: dict[int, UserMemory]) -> None:
        texts = {name: m.text for name, m in self.known[user].items()}
        fresh = iter(sorted(stored.keys() - set(self.ever)))
        for given in operations:
            there = next((n for n, t in texts.items() if folded(t) == folded(given.text or "")), None)
            if given.op == "add" and there is None:
                texts[next(fresh)] = given.text
            elif given.op == "forget" or (given.op == "update" and there not in {None, given.id}):
                texts.pop(given.id, None)
            elif given.op == "update" and given.id in texts:
                texts[given.id] = given.text
        assert {name: m.text for name, m in stored.items()} == {n: t for n, t in texts.items() if n in stored}
        assert texts.keys() == stored.keys()
        self.ever += sorted(stored.keys() - set(self.ever))
        self.known[user] = stored

    @rule(user=USERS, sure=st.integers(0, 4))
    def erase(self, user, sure):
        if sure:
            return
        self.users.erase(user)
        assert rows(self.memory, "user_memories", f"user_id = '{user}'") == 0
        assert rows(self.memory, "memory_revisions") == rows(
            self.memory, "memory_revisions", "memory_id IN (SELECT id FROM user_memories)"
        )
        self.known[user].clear()

    @rule(user=USERS, text=TEXTS)
    def recall_a_little(self, user, text):
        hits = self.users.recall(user, text, budget=5)
        assert {hit.memory.id for hit in hits} <= self.known[user].keys()
        assert all(hit.memory == self.known[user][hit.memory.id] for hit in hits)
        assert sum(len(hit.text) for hit in hits if hit.shown) <= 20

    @invariant()
    def each_user_has_their_own_pinned_ones_first(self):
        for user, known in self.known.items():
            order = sorted(known.values(), key=lambda m: (m.pinned, m.updated_at, m.id), reverse=True)
            assert self.users.list(user) == order
            assert [hit.memory for hit in self.users.recall(user, "tea", budget=1000)] == order


TestRemembering = Remembering.TestCase
TestRemembering.settings = settings(max_examples=settings().max_examples // 2, stateful_step_count=30)


def rows(memory: Memory, table: str, where: str = "true") -> int:
    with memory.database.read() as connection:
        return connection.scalar(sql(f"SELECT count(*) FROM {table} WHERE {where}"))


# -- at the door -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["", "  ", "x" * 100_000, "a\x00", "\ud800", None, 5])
def test_a_text_that_cannot_be_stored_is_refused_and_nothing_is_half_written(memory, text):
    kept = memory.users.remember("ana", "likes tea")
    with pytest.raises(InvalidInput, match=r"the (memory|text)"):
        memory.users.remember("ana", text)
    if text is not None:
        with pytest.raises(InvalidInput, match=r"the (memory|text)"):
            memory.users.update("ana", kept.id, text)
        with pytest.raises(InvalidInput, match=r"the (memory|operations)"):
            memory.users.apply(
                "ana", [MemoryOperation("add", "likes rain"), MemoryOperation("add", text)], source=("s", "t")
            )
    assert memory.users.list("ana") == [kept]
    assert rows(memory, "memory_revisions") == rows(memory, "changes") == 1


@pytest.mark.parametrize("user", [None, "", " ana", "ana\n", "\ud800", "x" * 201, 5])
def test_there_is_no_default_user(memory, user):
    for use in (
        lambda: memory.users.remember(user, "likes tea"),
        lambda: memory.users.list(user),
        lambda: memory.users.recall(user, "tea"),
        lambda: memory.users.update(user, 1, "x"),
        lambda: memory.users.forget(user, 1),
        lambda: memory.users.apply(user, [], source=("s", "t")),
        lambda: memory.users.erase(user),
    ):
        with pytest.raises(InvalidInput, match="user"):
            use()


def test_a_memory_says_where_it_is_from(memory):
    stored = memory.users.remember("ana", " likes tea ", namespace="acme/finance", source=("s", "t"))
    assert (stored.text, stored.namespace) == ("likes tea", "acme/finance")
    assert (stored.source_session, stored.source_turn) == ("s", "t")
    with pytest.raises(InvalidInput, match="namespace"):
        memory.users.remember("ana", "likes rain", namespace="a//b")


def test_an_earlier_text_stays_in_the_history(memory):
    stored = memory.users.remember("ana", "lives in Rome")
    memory.users.update("ana", stored.id, "lives in Milan")
    memory.users.forget("ana", stored.id)
    with memory.database.read() as connection:
        history = connection.execute(sql("SELECT revision, change, text FROM memory_revisions")).all()
    assert [tuple(row) for row in history] == [
        (1, "added", "lives in Rome"),
        (2, "updated", "lives in Milan"),
        (3, "forgotten", "lives in Milan"),
    ]
    assert memory.users.remember("ana", "lives in Milan").id != stored.id


# -- once --------------------------------------------------------------------------------------------------


def test_steps_of_one_turn_take_effect_once_each(memory):
    memory.sessions.append(turn("s", id="t", user_id="ana", reflection="pending"))
    add = [MemoryOperation("add", "likes tea")]
    assert memory.users.apply("ana", add, source=("s", "t"), effect="tools", final=False)
    assert memory.sessions.get("s", "t").reflection == "pending"
    memory.users.forget("ana", 1)
    assert memory.users.apply("ana", add, source=("s", "t"), effect="tools", final=False) == []
    assert memory.users.list("ana") == []
    assert memory.users.apply("ana", add, source=("s", "t"), effect="reflection")
    assert memory.sessions.get("s", "t").reflection == "done"


def test_a_turn_that_two_workers_reflect_on_takes_effect_once(memory):
    memory.sessions.append(turn("s", id="t", user_id="ana", reflection="pending"))

    def work(number: int) -> int:
        return len(memory.users.apply("ana", [MemoryOperation("add", f"fact {number}")], source=("s", "t")))

    assert sorted(together(*[lambda n=n: work(n) for n in range(6)])) == [0, 0, 0, 0, 0, 1]
    assert len(memory.users.list("ana")) == 1


def test_many_threads_that_remember_one_text_store_it_once(memory):
    stored = together(*[lambda n=n: memory.users.remember("ana", f"likes tea{'!' * n}") for n in range(8)])
    assert len({m.id for m in stored}) == 1
    assert len(memory.users.list("ana")) == 1


def test_two_processes_that_remember_one_text_store_it_once(url):
    open_memory(url).close()
    script = """
from learngate.stores import open_memory
with open_memory(sys.argv[1]) as memory:
    memory.users.list("ana")
    ready()
    for number in range(30):
        print(memory.users.remember("ana", f"fact {number}").id)
"""
    with processes(script, [url], [url]) as started:
        one, other = go(started)
    assert one == other
    assert len(set(one)) == 30
    with open_memory(url) as memory:
        assert len(memory.users.list("ana")) == 30


# -- recalling ---------------------------------------------------------------------------------------------


def fill(memory: Memory, count: int) -> None:
    for number in range(count):
        memory.users.remember("ana", f"Note {number}: ordered item {number * 7} from shop {number % 9}.")


def test_ten_memories_that_fit_are_all_recalled(memory):
    fill(memory, 10)
    hits = memory.users.recall("ana", "anything at all", budget=600)
    assert [hit.memory for hit in hits] == memory.users.list("ana")
    assert all(hit.shown and hit.score == 1.0 for hit in hits)


@pytest.mark.parametrize("budget", [0, 1, 30, 200])
def test_of_three_hundred_memories_the_pinned_and_the_relevant_fit_the_budget(memory, budget):
    memory.users.remember("ana", "My risk tolerance is moderate.", pinned=True)
    memory.users.remember("ana", "I am allergic to peanuts.")
    fill(memory, 300)
    hits = memory.users.recall("ana", "Which peanuts may I eat, am I allergic?", budget=budget)
    shown = [hit.text for hit in hits if hit.shown]
    assert sum(map(len, shown)) <= budget * 4
    assert len([hit for hit in hits if not hit.shown]) <= 5
    assert [hit.shown for hit in hits] == sorted((hit.shown for hit in hits), reverse=True)
    if budget >= 30:
        assert shown[:2] == ["My risk tolerance is moderate.", "I am allergic to peanuts."]
    else:
        assert shown == []


def test_what_is_too_long_for_what_is_left_makes_room_for_what_fits(memory):
    memory.users.remember("ana", "tea " * 100, pinned=True)
    memory.users.remember("ana", "Tea is what I drink.")
    hits = memory.users.recall("ana", "tea", budget=50)
    assert [(hit.text[:5], hit.shown) for hit in hits] == [("Tea i", True), ("tea t", False)]


@pytest.mark.parametrize(
    "query", ["", " ", "?!…", "\x00", "\ud800 peanuts", "x" * 100_000, "费用", '" OR (', "the"]
)
def test_any_message_recalls_without_an_error(memory, query):
    fill(memory, 40)
    hits = memory.users.recall("ana", query, budget=50)
    assert all(hit.score == hit.score for hit in hits)
    assert sum(len(hit.text) for hit in hits if hit.shown) <= 200


def test_a_message_without_a_word_recalls_the_latest(memory):
    for number in range(40):
        memory.users.remember("ana", f"Note {number:02d} of a length.")
    memory.users.remember("ana", "Pinned.", pinned=True)
    shown = [hit.text for hit in memory.users.recall("ana", " ", budget=50) if hit.shown]
    assert shown == ["Pinned.", *(m.text for m in memory.users.list("ana")[1 : len(shown)])]
    assert len(shown) > 2


@pytest.mark.parametrize("budget", [60, 10_000])
def test_what_was_kept_for_a_namespace_is_recalled_there_and_below_only(memory, budget):
    for number in range(120):
        memory.users.remember("ana", f"Orders item {number}.", namespace="work")
    for namespace in (None, "home", "home/garden"):
        memory.users.remember("ana", f"Orders roses for {namespace}.", namespace=namespace)

    def recalled(namespace):
        hits = memory.users.recall("ana", "Which item does she order?", budget=budget, namespace=namespace)
        return {hit.memory.namespace for hit in hits}

    assert recalled("home") == {None, "home"}
    assert recalled("home/garden") == {None, "home", "home/garden"}
    assert recalled("elsewhere") == {None}
    assert recalled(None) >= {"work"}
    with pytest.raises(InvalidInput, match="namespace"):
        recalled("a//b")


def test_of_much_that_is_kept_elsewhere_nothing_crowds_out_what_is_kept_here(memory):
    for number in range(120):
        memory.users.remember("ana", f"Orders item {number}.", namespace="work")
        memory.users.remember("ana", f"Waters rose number {number}.", namespace="home")
    hits = memory.users.recall("ana", "Which item does she order?", budget=60, namespace="home")
    assert {hit.memory.namespace for hit in hits if hit.shown} == {"home"}


def test_nobody_recalls_what_another_told(memory):
    fill(memory, 60)
    memory.users.remember("ben", "Note 5: secret")
    for budget in (3, 1000):
        assert {hit.memory.user_id for hit in memory.users.recall("ben", "ordered item Note", budget=budget)} == {
            "ben"
        }
    assert memory.users.recall("eve", "ordered item Note") == []
    with pytest.raises(NotFound, match="'ben' has no memory 1"):
        memory.users.forget("ben", 1)


# -- erasing -----------------------------------------------------------------------------------------------


def test_erasing_a_user_leaves_no_row_no_vector_and_nothing_to_find(memory):
    fill(memory, 60)
    memory.users.forget("ana", 1)
    memory.users.remember("ben", "Note: mine")
    memory.users.recall("ana", "ordered item", budget=50)
    memory.users.recall("ben", "ordered item", budget=1)
    assert rows(memory, "embeddings") == 60
    assert memory.users.erase("ana") == 60
    assert memory.users.recall("ana", "ordered item", budget=50) == []
    for table in ("user_memories", "memory_revisions", "embeddings"):
        assert rows(memory, table) == 1
    if memory.database.dialect == "sqlite":
        assert rows(memory, "user_memories_fts", "user_memories_fts MATCH 'ordered'") == 0
    assert memory.users.erase("ana") == 0
    assert [m.text for m in memory.users.list("ben")] == ["Note: mine"]


def test_a_user_who_is_erased_while_being_embedded_leaves_no_vector():
    class Interrupted(Hashed):
        def embed_documents(self, texts):
            memory.users.erase("ana")
            return super().embed_documents(texts)

    with open_memory("sqlite://", embedder=Interrupted()) as memory:
        fill(memory, 20)
        assert memory.users.recall("ana", "ordered item", budget=50) == []
        assert rows(memory, "embeddings") == 0
        assert memory.users.recall("ana", "ordered item", budget=50) == []
