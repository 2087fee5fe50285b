"""What a part of the memory does for the others, whatever it is made of.

Whoever writes another one binds it to the part's conformance class in `tests/stores/conformance`, as the
databases are bound in `tests/stores/test_*.py`. What each call raises stands with the stores themselves.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Protocol

from langchain_core.messages import BaseMessage

from learngate.stores.embeddings import Vector
from learngate.stores.guard import AnyText, Count, Name, Namespace
from learngate.stores.records import (
    Decision,
    DecisionRecord,
    Learning,
    LearningHit,
    LearningStatus,
    MemoryHit,
    MemoryOperation,
    Proposal,
    ProposalDraft,
    ReflectionStatus,
    Revision,
    Session,
    Turn,
    TurnHit,
    UserMemory,
)

if TYPE_CHECKING:
    from learngate.stores.database import Database
    from learngate.stores.embeddings import Vectors
    from learngate.stores.memory import Memory
    from learngate.stores.sessions import Placement, Standing


class VectorIndex(Protocol):
    """Dense search over the active rows of a kind, inside scopes; as current as the last commit."""

    def search(
        self, kind: str, scopes: Iterable[str], query: Vector, k: int, *, also: Iterable[int] = ()
    ) -> dict[int, float]:
        """Return {row: cosine} of the `k` rows nearest to `query` in each of the scopes, or in all of them.

        The rows `also` are among them however far they are, if they are in the scopes.
        """

    def fill(self, dimensions: int) -> Iterator[tuple[int, int]]:
        """Make and hold all vectors that are missing; yield how many rows are done, of how many."""

    def sweep(self) -> None:
        """Drop what is held outside the database, in memory too, of rows that have changed or are gone."""


IndexOn = Callable[["Database", "Vectors"], VectorIndex]
"""What makes the dense search on a database, by the vectors of an embedder."""


class SessionStore(Protocol):
    """Conversations as trees of turns; each belongs to whoever opened it."""

    def claim(self, session_id: Name, user_id: Name | None) -> Standing:
        """Open a session for a user, or make sure that an open one is theirs. Running twice is harmless."""

    def standing(self, session_id: str) -> Standing | None:
        """Return whose a session is; `None` when nobody has opened it."""

    def append(self, turn: Turn) -> Turn:
        """Record a finished turn, or one of the past, exactly once, and return it as recorded."""

    def record(self, turn: Turn) -> Turn | None:
        """Record a turn as `append` does; return the one that the session has of its id already, if it has one."""

    def get(self, session_id: str, turn_id: str) -> Turn:
        """Return one turn."""

    def turns(self, session_id: str, ids: Sequence[str]) -> list[Turn]:
        """Return the turns with these ids, in their order; ids that the session does not have are skipped."""

    def recorded(self, session_id: str, ids: Sequence[str]) -> dict[str, BaseMessage]:
        """Return the messages of a session that have these ids, as they were recorded."""

    def window(self, session_id: str, *, turns: Count = 5, head: str | None = None) -> list[Turn]:
        """Return the last completed turns on one branch, oldest first."""

    def place(self, session_id: str, *, head: str | None, message_id: str, keep: Count) -> Placement:
        """Say where a message stands: the head it would follow, and whether it was delivered before."""

    def show(self, session_id: str) -> Session:
        """Return one session."""

    def search(self, query: str, *, user_id: str | None, k: Count = 10) -> list[TurnHit]:
        """Return a user's past turns that share words with `query`, best first."""

    def delete(self, session_id: str, *, user_id: str | None = None) -> int:
        """Delete a session's turns, messages, excerpts and checkpoints; return how many turns went."""

    def unreflected(self, *, limit: Count = 100) -> list[Turn]:
        """Return turns whose reflection is pending or failed, or whose tools' notes wait, the oldest first."""

    def mark_reflection(
        self, session_id: str, turn_id: str, status: ReflectionStatus, *, error: AnyText | None = None
    ) -> None:
        """Note how a turn's reflection ended, with the reason where it failed."""

    def settle(self, session_id: str, turn_id: str, *, reflected: bool) -> None:
        """Note that nothing of a turn waits to take effect any more; `reflected` marks its reflection done."""

    def list(self, *, user_id: str | None, limit: Count = 100) -> list[Session]:
        """Return a user's sessions, the latest first; `None` lists those that were opened by nobody."""


class UserStore(Protocol):
    """Facts about one user each, whom every call names first."""

    def remember(
        self,
        user_id: Name,
        text: AnyText,
        *,
        namespace: Namespace | None = None,
        pinned: bool = False,
        source: tuple[Name, Name] | None = None,
    ) -> UserMemory:
        """Store a fact about a user; one that is already stored, word for word, comes back as it is."""

    def update(
        self, user_id: Name, memory_id: int, text: AnyText | None = None, *, pinned: bool | None = None
    ) -> UserMemory:
        """Change a memory's text, or pin or unpin it; its earlier text stays in its history."""

    def forget(self, user_id: Name, memory_id: int) -> UserMemory:
        """Stop recalling a memory; return what it was."""

    def apply(
        self,
        user_id: Name,
        operations: Sequence[MemoryOperation],
        *,
        source: tuple[Name, Name],
        effect: str = "remember",
        final: bool = True,
        settles: bool = False,
    ) -> list[UserMemory]:
        """Apply what a turn brought, in one transaction and exactly once, and return what was stored."""

    def recall(
        self, user_id: Name, query: AnyText, *, budget: Count = 600, namespace: Namespace | None = None
    ) -> list[MemoryHit]:
        """Return the memories that matter to a message, within `budget` tokens (of four characters)."""

    def erase(self, user_id: Name) -> int:
        """Delete every memory of a user with its history and vectors; return how many there were."""

    def list(self, user_id: Name, *, limit: Count = 1000) -> list[UserMemory]:
        """Return a user's memories: pinned first, then the latest."""


class LearningStore(Protocol):
    """What humans approved, by namespace, and the inbox before it."""

    def propose(
        self,
        draft: ProposalDraft,
        *,
        namespace: Namespace,
        proposer: Name = "host",
        user_id: Name | None = None,
        source: tuple[Name, Name] | None = None,
    ) -> Proposal:
        """Put a candidate learning into the inbox and return it; nothing of it is recalled yet."""

    def propose_once(
        self,
        draft: ProposalDraft,
        *,
        namespace: Namespace,
        proposer: Name,
        user_id: Name | None,
        source: tuple[Name, Name],
        effect: str = "propose",
        final: bool = True,
        settles: bool = False,
    ) -> Proposal | None:
        """Propose what a turn brought, exactly once; `None` where its like is known."""

    def pending(
        self, *, namespace: Namespace | None = None, session_id: str | None = None, limit: Count = 100
    ) -> list[Proposal]:
        """Return the proposals that wait, oldest first, of a namespace or of a session."""

    def waiting(self) -> dict[str, int]:
        """Return how many proposals wait in each namespace."""

    def proposal(self, proposal_id: int) -> Proposal:
        """Return one proposal, whatever its status."""

    def decision(self, proposal_id: int) -> DecisionRecord:
        """Return the decision on a proposal."""

    def decide(
        self,
        proposal_id: int,
        decision: Decision,
        *,
        reviewer: Name,
        seen: tuple[str, str, str] | None = None,
    ) -> Learning | None:
        """Decide a proposal, once, and return the learning that came of it; `None` when rejected."""

    def add(self, draft: ProposalDraft, *, namespace: Namespace, actor: Name) -> Learning:
        """Add a learning by hand."""

    def edit(
        self,
        learning_id: int,
        *,
        title: str | None = None,
        insight: str | None = None,
        applies_when: str | None = None,
        actor: Name,
        note: str | None = None,
    ) -> Learning:
        """Reword a learning; what is left out stays."""

    def retire(self, learning_id: int, *, actor: Name, note: str | None = None) -> Learning:
        """Take a learning out of recall; its rows stay."""

    def restore(self, learning_id: int, *, actor: Name, note: str | None = None) -> Learning:
        """Bring a retired learning back into recall."""

    def revert(self, learning_id: int, revision: int, *, actor: Name, note: str | None = None) -> Learning:
        """Bring an earlier version's words back, as a new revision."""

    def get(self, learning_id: int) -> Learning:
        """Return one learning, active or retired."""

    def count(self, *, namespace: Namespace) -> int:
        """Return how many active learnings a namespace reads."""

    def history(self, learning_id: int) -> list[Revision]:
        """Return every version of a learning, the first first: who proposed it, who decided, when and why."""

    def search(self, query: str, *, namespace: Namespace, k: Count = 5, floor: bool = True) -> list[LearningHit]:
        """Return up to `k` active learnings that the namespace reads and that fit `query`, best first."""

    def list(
        self, *, namespace: Namespace, status: LearningStatus | None = "active", limit: Count = 1000
    ) -> list[Learning]:
        """Return the learnings that a namespace reads, newest first; `status=None` takes retired ones too."""


if TYPE_CHECKING:

    def _proven(memory: Memory) -> tuple[SessionStore, UserStore, LearningStore]:
        """Let the type checker compare the stores with what is asked of them."""
        return memory.sessions, memory.users, memory.learnings
