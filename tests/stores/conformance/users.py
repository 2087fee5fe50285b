import pytest
from sqlalchemy import text as sql

from learngate.stores import InvalidInput, Memory, MemoryOperation, NotFound, open_memory
from tests.stores.support import go, processes, rows, together, turn


def fill(memory: Memory, count: int) -> None:
    for number in range(count):
        memory.users.remember("ana", f"Note {number}: ordered item {number * 7} from shop {number % 9}.")


class UsersConformance:
    """What holds of the memories of users, on every database."""

    # -- at the door -------------------------------------------------------------------------------------------

    @pytest.mark.parametrize("text", ["", "  ", "x" * 100_000, "a\x00", "\ud800", None, 5])
    def test_a_text_that_cannot_be_stored_is_refused_and_nothing_is_half_written(self, memory, text):
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
    def test_there_is_no_default_user(self, memory, user):
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

    def test_a_memory_says_where_it_is_from(self, memory):
        stored = memory.users.remember("ana", " likes tea ", namespace="acme/finance", source=("s", "t"))
        assert (stored.text, stored.namespace) == ("likes tea", "acme/finance")
        assert (stored.source_session, stored.source_turn) == ("s", "t")
        with pytest.raises(InvalidInput, match="namespace"):
            memory.users.remember("ana", "likes rain", namespace="a//b")

    def test_an_earlier_text_stays_in_the_history(self, memory):
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

    def test_steps_of_one_turn_take_effect_once_each(self, memory):
        memory.sessions.append(turn("s", id="t", user_id="ana", reflection="pending"))
        add = [MemoryOperation("add", "likes tea")]
        assert memory.users.apply("ana", add, source=("s", "t"), effect="tools", final=False)
        assert memory.sessions.get("s", "t").reflection == "pending"
        memory.users.forget("ana", 1)
        assert memory.users.apply("ana", add, source=("s", "t"), effect="tools", final=False) == []
        assert memory.users.list("ana") == []
        assert memory.users.apply("ana", add, source=("s", "t"), effect="reflection")
        assert memory.sessions.get("s", "t").reflection == "done"

    def test_a_turn_that_two_workers_reflect_on_takes_effect_once(self, memory):
        memory.sessions.append(turn("s", id="t", user_id="ana", reflection="pending"))

        def work(number: int) -> int:
            return len(memory.users.apply("ana", [MemoryOperation("add", f"fact {number}")], source=("s", "t")))

        assert sorted(together(*[lambda n=n: work(n) for n in range(6)])) == [0, 0, 0, 0, 0, 1]
        assert len(memory.users.list("ana")) == 1

    def test_many_threads_that_remember_one_text_store_it_once(self, memory):
        stored = together(*[lambda n=n: memory.users.remember("ana", f"likes tea{'!' * n}") for n in range(8)])
        assert len({m.id for m in stored}) == 1
        assert len(memory.users.list("ana")) == 1

    # -- recalling ---------------------------------------------------------------------------------------------

    def test_ten_memories_that_fit_are_all_recalled(self, memory):
        fill(memory, 10)
        hits = memory.users.recall("ana", "anything at all", budget=600)
        assert [hit.memory for hit in hits] == memory.users.list("ana")
        assert all(hit.shown and hit.score == 1.0 for hit in hits)

    @pytest.mark.parametrize("budget", [0, 1, 30, 200])
    def test_of_three_hundred_memories_the_pinned_and_the_relevant_fit_the_budget(self, memory, budget):
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

    def test_what_is_too_long_for_what_is_left_makes_room_for_what_fits(self, memory):
        memory.users.remember("ana", "tea " * 100, pinned=True)
        memory.users.remember("ana", "Tea is what I drink.")
        hits = memory.users.recall("ana", "tea", budget=50)
        assert [(hit.text[:5], hit.shown) for hit in hits] == [("Tea i", True), ("tea t", False)]

    @pytest.mark.parametrize(
        "query", ["", " ", "?!…", "\x00", "\ud800 peanuts", "x" * 100_000, "费用", '" OR (', "the"]
    )
    def test_any_message_recalls_without_an_error(self, memory, query):
        fill(memory, 40)
        hits = memory.users.recall("ana", query, budget=50)
        assert all(hit.score == hit.score for hit in hits)
        assert sum(len(hit.text) for hit in hits if hit.shown) <= 200

    def test_a_message_without_a_word_recalls_the_latest(self, memory):
        for number in range(40):
            memory.users.remember("ana", f"Note {number:02d} of a length.")
        memory.users.remember("ana", "Pinned.", pinned=True)
        shown = [hit.text for hit in memory.users.recall("ana", " ", budget=50) if hit.shown]
        assert shown == ["Pinned.", *(m.text for m in memory.users.list("ana")[1 : len(shown)])]
        assert len(shown) > 2

    @pytest.mark.parametrize("budget", [60, 10_000])
    def test_what_was_kept_for_a_namespace_is_recalled_there_and_below_only(self, memory, budget):
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

    def test_what_is_remembered_again_is_pinned_and_leaves_its_namespace_but_never_the_reverse(self, memory):
        first = memory.users.remember("ana", "Likes tea.", namespace="work")
        assert memory.users.remember("ana", "likes tea", namespace="home") == first
        assert memory.users.remember("ana", "likes tea", namespace="work/lab") == first
        narrow = memory.users.remember("ana", "Likes rum.", namespace="work/lab")
        assert memory.users.remember("ana", "Likes rum.", namespace="work").namespace == "work"
        memory.sessions.append(turn("s", id="t", user_id="ana", reflection="pending"))
        memory.users.apply("ana", [MemoryOperation("add", "Likes rum.")], source=("s", "t"))
        assert [m.namespace for m in memory.users.list("ana") if m.id == narrow.id] == [None]
        again = memory.users.remember("ana", "Likes tea.", pinned=True)
        assert (again.id, again.pinned, again.namespace, again.revision) == (first.id, True, None, 1)
        assert memory.users.remember("ana", "Likes tea.", namespace="work") == again
        assert again in [hit.memory for hit in memory.users.recall("ana", "tea", namespace="home", budget=50)]

    def test_of_much_that_is_kept_elsewhere_nothing_crowds_out_what_is_kept_here(self, memory):
        for number in range(120):
            memory.users.remember("ana", f"Orders item {number}.", namespace="work")
            memory.users.remember("ana", f"Waters rose number {number}.", namespace="home")
        hits = memory.users.recall("ana", "Which item does she order?", budget=60, namespace="home")
        assert {hit.memory.namespace for hit in hits if hit.shown} == {"home"}

    def test_of_more_than_is_ranked_that_is_kept_elsewhere_the_latest_kept_here_are_recalled(
        self, memory, monkeypatch
    ):
        monkeypatch.setattr("learngate.stores.users.MANY", 60)
        for number in range(41):
            memory.users.remember("ana", f"Waters rose number {number}.", namespace="home")
        for number in range(80):
            memory.users.remember("ana", f"Orders item {number}.", namespace="work")
        hits = memory.users.recall("ana", "Which item does she order?", budget=60, namespace="home")
        shown = [hit.text for hit in hits if hit.shown]
        assert shown == [f"Waters rose number {40 - n}." for n in range(len(shown))]
        assert (len(shown) + 1) * (len("Waters rose number 40.") + 24) > 240

    def test_nobody_recalls_what_another_told(self, memory):
        fill(memory, 60)
        memory.users.remember("ben", "Note 5: secret")
        for budget in (3, 1000):
            assert {
                hit.memory.user_id for hit in memory.users.recall("ben", "ordered item Note", budget=budget)
            } == {"ben"}
        assert memory.users.recall("eve", "ordered item Note") == []
        with pytest.raises(NotFound, match="'ben' has no memory 1"):
            memory.users.forget("ben", 1)

    # -- erasing -----------------------------------------------------------------------------------------------

    def test_erasing_a_user_leaves_no_row_no_vector_and_nothing_to_find(self, memory):
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
            assert rows(memory, "user_memories_fts") == 1
        assert memory.users.erase("ana") == 0
        assert [m.text for m in memory.users.list("ben")] == ["Note: mine"]


class SharedUsersConformance:
    """What holds where several programs remember at once."""

    def test_two_processes_that_remember_one_text_store_it_once(self, url):
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
