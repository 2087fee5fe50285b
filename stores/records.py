"""What the stores take and give: frozen records, no loose dicts."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal, Self
from uuid import uuid4

from langchain_core.messages import BaseMessage

from learngate.stores.guard import AnyText, Name, Namespace

TurnStatus = Literal["running", "complete", "failed", "cancelled"]
ReflectionStatus = Literal["off", "pending", "done", "failed"]
ProposalKind = Literal["new", "replace", "merge", "retire"]
ProposalStatus = Literal["pending", "approved", "rejected"]
LearningStatus = Literal["active", "retired"]
DecisionType = Literal["approve", "edit", "reject"]
Why = Literal["dense", "lexical", "both", "when"]

ROOT = ""
"""The parent of a session's first turn; `None` stands for "after the newest turn"."""

DEFAULT_NAMESPACE = "default"


def now() -> datetime:
    """Return the current time, in UTC."""
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class Recalled:
    """One row that was put before the model, or would have been if the budget had reached."""

    kind: Literal["memory", "learning"]
    id: int
    revision: int
    score: float
    shown: bool


@dataclass(frozen=True, slots=True)
class Turn:
    """One user message and all that answered it.

    `id` is the human message's id and unique within its session. `parent` is the turn it follows: `None`
    to follow the session's newest, `""` to begin anew.
    """

    session_id: Name
    messages: tuple[BaseMessage, ...]
    id: Name = field(default_factory=lambda: str(uuid4()))
    user_id: Name | None = None
    namespace: Namespace = DEFAULT_NAMESPACE
    parent: str | None = None
    status: TurnStatus = "complete"
    reflection: ReflectionStatus = "off"
    happened_at: datetime = field(default_factory=now)
    recorded_at: datetime | None = None
    checkpoint_id: str | None = None
    usage: dict[str, Any] | None = None
    recalled: tuple[Recalled, ...] = ()
    noted: dict[str, Any] | None = None
    error: str | None = None
    attempts: int = 0

    @property
    def question(self) -> str:
        """The user's words."""
        return self.messages[0].text if self.messages else ""

    @property
    def answer(self) -> str:
        """The last thing the assistant said in words."""
        said = (m.text for m in reversed(self.messages) if m.type == "ai" and m.text)
        return next(said, "")


@dataclass(frozen=True, slots=True)
class Session:
    """One conversation; `id` is LangGraph's thread id."""

    id: str
    user_id: str | None
    opened_at: datetime
    turns: int
    last_at: datetime | None
    title: str


@dataclass(frozen=True, slots=True)
class TurnHit:
    """A past turn that matches a query, best first by `score`; `why`: meaning, words, both, or its date.

    `before` and `after` are the turns beside it in its session, where they were asked for and are there.
    """

    turn: Turn
    score: float
    why: Why = "both"
    before: Turn | None = None
    after: Turn | None = None


@dataclass(frozen=True, slots=True)
class UserMemory:
    """A fact or preference about one user."""

    id: int
    user_id: str
    text: str
    namespace: str | None
    pinned: bool
    revision: int
    created_at: datetime
    updated_at: datetime
    source_session: str | None = None
    source_turn: str | None = None


@dataclass(frozen=True, slots=True)
class MemoryHit:
    """A user memory with how well it fits the query; 1.0 where everything fits and nothing was ranked."""

    memory: UserMemory
    score: float
    shown: bool = True

    @property
    def text(self) -> str:
        """The memory's text."""
        return self.memory.text


@dataclass(frozen=True, slots=True)
class MemoryOperation:
    """One change of a user's memories; `id` names the memory for update and forget."""

    op: Literal["add", "update", "forget"]
    text: str | None = None
    id: int | None = None


@dataclass(frozen=True, slots=True)
class Excerpt:
    """The words a proposal rests on, quoted for its reviewer; erased with the user they are from."""

    text: AnyText
    speaker: str | None = None
    user_id: Name | None = None
    session_id: Name | None = None
    turn_id: Name | None = None


@dataclass(frozen=True, slots=True)
class ProposalDraft:
    """A candidate learning, as somebody words it."""

    title: str
    insight: str
    applies_when: str = ""
    rationale: str = ""
    excerpts: tuple[Excerpt, ...] = ()


@dataclass(frozen=True, slots=True)
class Proposal:
    """A draft that waits at the gate, or was decided there. Immutable but for its status."""

    id: int
    namespace: str
    kind: ProposalKind
    title: str
    insight: str
    applies_when: str
    rationale: str
    proposer: str
    status: ProposalStatus
    digest: str
    created_at: datetime
    session_id: str | None
    turn_id: str | None
    user_id: str | None
    target_id: int | None
    base_revision: int | None
    learning_id: int | None
    taint: str | None = None
    expires_at: datetime | None = None
    excerpts: tuple[Excerpt, ...] = ()


@dataclass(frozen=True, slots=True)
class Decision:
    """What a reviewer says of a proposal."""

    type: DecisionType
    title: str | None = None
    insight: str | None = None
    applies_when: str | None = None
    note: str | None = None

    @classmethod
    def approve(cls, note: str | None = None) -> Self:
        """Save it as it stands."""
        return cls("approve", note=note)

    @classmethod
    def edit(
        cls,
        *,
        title: str | None = None,
        insight: str | None = None,
        applies_when: str | None = None,
        note: str | None = None,
    ) -> Self:
        """Save it in these words; what is left out stays as proposed."""
        return cls("edit", title=title, insight=insight, applies_when=applies_when, note=note)

    @classmethod
    def reject(cls, note: str | None = None) -> Self:
        """Do not save it, and do not propose it again."""
        return cls("reject", note=note)


@dataclass(frozen=True, slots=True)
class DecisionRecord:
    """A decision as it was taken: final, once."""

    id: int
    proposal_id: int
    type: DecisionType
    reviewer: str
    note: str | None
    decided_at: datetime
    learning_id: int | None = None


@dataclass(frozen=True, slots=True)
class Learning:
    """An approved, reusable insight, in its current words.

    `fault` says why it is not recalled though it is there: it is not what was signed, or what was written.
    """

    id: int
    namespace: str
    title: str
    insight: str
    applies_when: str
    status: LearningStatus
    revision: int
    created_at: datetime
    updated_at: datetime
    proposal_id: int
    fault: str | None = None


@dataclass(frozen=True, slots=True)
class Revision:
    """One version of a learning, with everything that led to it."""

    learning_id: int
    revision: int
    change: Literal["created", "edited", "reverted", "retired", "restored"]
    title: str
    insight: str
    applies_when: str
    status: LearningStatus
    at: datetime
    proposal_id: int
    proposer: str
    reviewer: str
    decision: DecisionType
    note: str | None
    session_id: str | None
    turn_id: str | None
    imported_by: str | None = None
    """Who imported its proposal from another database; `None` where it was made here."""
    imported_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class LearningHit:
    """A learning that fits a query; `score` is fused and relative, `dense` a raw cosine similarity."""

    learning: Learning
    score: float
    why: Why
    dense: float
    lexical: float


@dataclass(frozen=True, slots=True)
class Imported:
    """What an import did, by kind: `new` rows, those that were `known`, and those `left_out` with the reason.

    `retired` has the new learnings that left recall at once, each with the one here that said it already.
    """

    new: dict[str, int]
    known: dict[str, int]
    left_out: dict[str, int]
    retired: dict[int, int] = field(default_factory=dict)
