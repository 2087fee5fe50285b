import pytest
from hypothesis import strategies as st
from hypothesis.stateful import invariant, rule

from learngate.stores import (
    NotAllowed,
    NotFound,
    Turn,
)
from learngate.stores.records import ROOT
from tests.stores.conformance.backends import Machine
from tests.stores.support import turn

UNKNOWN = "no such turn"


NAMED = st.sampled_from(["s1", "s2"])


USERS = st.sampled_from(["ana", "ben", None])


# A number stands for one of the session's turns, whichever there are by then.
HEADS = st.none() | st.just(ROOT) | st.just(UNKNOWN) | st.integers(0, 40) | st.integers(0, 40)


class Conversations(Machine):
    """Every operation, on the store and on plain dicts."""

    def __init__(self) -> None:
        super().__init__()
        self.store = self.memory.sessions
        self.owners: dict[str, str | None] = {}
        self.turns: dict[str, dict[str, Turn]] = {"s1": {}, "s2": {}}
        self.newest = {"s1": ROOT, "s2": ROOT}
        self.hidden: set[str] = set()
        self.number = 0

    def one(self, session: str, choice: str | int | None) -> str | None:
        if not isinstance(choice, int):
            return choice
        ids = [*self.turns[session]]
        return ids[choice % len(ids)] if ids else UNKNOWN

    def path(self, session: str, head: str | None) -> list[str]:
        """Return the completed turns from a head back to the root."""
        at = self.newest[session] if head is None else head
        found = []
        while at in self.turns[session]:
            if self.turns[session][at].status == "complete":
                found.append(at)
            at = self.turns[session][at].parent or ROOT
        return found

    @rule(session=NAMED, user=USERS)
    def claim(self, session, user):
        if self.owners.setdefault(session, user) != user:
            with pytest.raises(NotAllowed):
                self.store.claim(session, user)
        else:
            standing = self.store.claim(session, user)
            assert (standing.owner, standing.newest) == (user, self.newest[session])

    @rule(
        session=NAMED,
        user=USERS,
        parent=HEADS,
        again=st.none() | st.integers(0, 40),
        status=st.sampled_from(["complete", "complete", "complete", "failed"]),
    )
    def append(self, session, user, parent, again, status):
        self.number += 1
        parent = self.one(session, parent)
        name = f"t{self.number}" if again is None else self.one(session, again) or UNKNOWN
        given = turn(session, f"word{self.number}", id=name, user_id=user, parent=parent, status=status)
        if self.owners.get(session, user) != user:
            with pytest.raises(NotAllowed):
                self.store.append(given)
        elif name in self.turns[session]:
            assert self.store.append(given) == self.turns[session][name]
        elif parent not in {None, ROOT, *self.turns[session]}:
            with pytest.raises(NotFound):
                self.store.append(given)
        else:
            self.record(given, self.store.append(given))

    def record(self, given: Turn, recorded: Turn) -> None:
        session = given.session_id
        assert recorded.parent == (self.newest[session] if given.parent is None else given.parent)
        assert recorded.question == given.question
        assert recorded.messages[0].id == given.id
        self.owners[session] = given.user_id
        self.turns[session][given.id] = recorded
        self.hidden.discard(session)
        if given.status == "complete":
            self.newest[session] = given.id

    @rule(session=NAMED, head=HEADS, length=st.integers(0, 4))
    def window(self, session, head, length):
        head = self.one(session, head)
        expected = [self.turns[session][name] for name in reversed(self.path(session, head)[:length])]
        assert self.store.window(session, turns=length, head=head) == expected

    @rule(session=NAMED, head=HEADS, message=HEADS, keep=st.integers(1, 4))
    def place(self, session, head, message, keep):
        head, message = self.one(session, head), self.one(session, message) or UNKNOWN
        path = self.path(session, head)
        placed = self.store.place(session, head=head, message_id=message, keep=keep)
        assert placed.head == (path[0] if path else ROOT)
        if message not in self.turns[session]:
            assert placed.known == "new"
        else:
            assert placed.known == ("behind" if message in path else "elsewhere")
        assert placed.kept == tuple(reversed(path[:keep]))

    @rule(session=NAMED, name=HEADS)
    def get(self, session, name):
        name = self.one(session, name) or UNKNOWN
        if name in self.turns[session]:
            assert self.store.get(session, name) == self.turns[session][name]
        else:
            with pytest.raises(NotFound):
                self.store.get(session, name)

    @rule(number=st.integers(1, 60), user=USERS)
    def search(self, number, user):
        expected = {
            (session, name)
            for session, turns in self.turns.items()
            for name, one in turns.items()
            if one.question == f"word{number}" and one.status == "complete" and one.user_id == user
        }
        hits = self.store.search(f"word{number}", user_id=user)
        assert {(hit.turn.session_id, hit.turn.id) for hit in hits} == expected

    @rule(session=NAMED, user=USERS, sure=st.booleans())
    def delete(self, session, user, sure):
        if not sure:
            return
        if session not in self.owners or session in self.hidden or user not in {None, self.owners[session]}:
            with pytest.raises(NotFound):
                self.store.delete(session, user_id=user)
            return
        assert self.store.delete(session, user_id=user) == len(self.turns[session])
        self.turns[session].clear()
        self.newest[session] = ROOT
        self.hidden.add(session)

    @invariant()
    def lists_are_each_users_own(self):
        for user in ("ana", "ben", None):
            expected = {
                name: len(self.turns[name])
                for name, owner in self.owners.items()
                if owner == user and name not in self.hidden
            }
            assert {s.id: s.turns for s in self.store.list(user_id=user)} == expected
