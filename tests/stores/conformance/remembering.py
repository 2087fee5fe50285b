from dataclasses import replace

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import invariant, rule

from learngate.stores import InvalidInput, MemoryOperation, NotFound, UserMemory
from tests.stores.conformance.backends import Machine
from tests.stores.support import rows, turn

USERS = st.sampled_from(["ana", "ben"])


# Some differ in nothing but case and punctuation, some in a sign that matters.
TEXTS = st.sampled_from(
    ["likes tea", "Likes tea!", "likes coffee", "writes C", "writes C++", "喜欢基金", "lives at 5"]
)


CHOICES = st.integers(0, 30)


def folded(text: str) -> str:
    return text.casefold().strip("!")


class Remembering(Machine):
    """Every operation, on the store and on plain dicts."""

    def __init__(self) -> None:
        super().__init__()
        self.users = self.memory.users
        self.known: dict[str, dict[int, UserMemory]] = {"ana": {}, "ben": {}}
        self.ever: list[int] = []
        self.number = 0

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
            known = self.known[user][there]
            assert stored == replace(known, pinned=known.pinned or pinned)
            self.known[user][there] = stored
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
