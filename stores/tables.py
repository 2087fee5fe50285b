"""The first schema: what each row means stands beside it."""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Connection,
    Dialect,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Row,
    String,
    Table,
    Text,
    TypeDecorator,
    UniqueConstraint,
    event,
)
from sqlalchemy.types import TypeEngine

from learngate.stores.errors import StoreUnusable

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def _damaged(what: str) -> StoreUnusable:
    return StoreUnusable(
        f"the database is damaged: {what} in it cannot be read. Restore a backup, or let"
        " `learngate doctor --repair` mend it"
    )


class Moment(TypeDecorator[datetime]):
    """A UTC time as ISO 8601 text of fixed width, so that it sorts the same on every database."""

    impl = String(32)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> str | None:  # noqa: ARG002
        """Write a time as text."""
        return None if value is None else value.astimezone(UTC).isoformat(timespec="microseconds")

    def process_result_value(self, value: Any, dialect: Dialect) -> datetime | None:  # noqa: ARG002
        """Read a time from text."""
        if value is None:
            return None
        try:
            return datetime.fromisoformat(value)
        except (ValueError, TypeError) as error:
            raise _damaged("a time") from error


class Json(TypeDecorator[Any]):
    """A JSON value as ASCII text, which every database keeps as it is."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Dialect) -> str | None:  # noqa: ARG002
        """Write a value as text."""
        return None if value is None else json.dumps(value)

    def process_result_value(self, value: str | None, dialect: Dialect) -> Any:  # noqa: ARG002
        """Read a value from text."""
        try:
            return None if value is None else json.loads(value)
        except (ValueError, TypeError, RecursionError) as error:
            raise _damaged("a value") from error


def sealed(vector: NDArray[np.float32]) -> bytes:
    """Return a vector as bytes: its 32-bit floats, and their checksum."""
    raw = vector.tobytes()
    return raw + zlib.crc32(raw).to_bytes(4)


def unsealed(raw: bytes) -> NDArray[np.float32] | None:
    """Return the vector that `sealed` was given; `None` where the bytes are no longer those."""
    import numpy as np  # what is only opened has no need of it

    floats = raw[:-4]
    whole = len(floats) % 4 == 0 and zlib.crc32(floats).to_bytes(4) == raw[-4:]
    return np.frombuffer(floats, dtype=np.float32) if floats and whole else None


class UnitVector(TypeDecorator["NDArray[np.float32]"]):
    """A vector of length one: pgvector's type on PostgreSQL, its 32-bit floats and a checksum elsewhere.

    One that is damaged is none: the next search makes it again.
    """

    impl = LargeBinary
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        """Return the database's own type."""
        if dialect.name != "postgresql":
            return super().load_dialect_impl(dialect)
        from pgvector.sqlalchemy import VECTOR

        return dialect.type_descriptor(VECTOR())

    def process_bind_param(self, value: NDArray[np.float32] | None, dialect: Dialect) -> Any:
        """Write a vector."""
        return value if value is None or dialect.name == "postgresql" else sealed(value)

    def process_result_value(self, value: Any, dialect: Dialect) -> NDArray[np.float32] | None:  # noqa: ARG002
        """Read a vector."""
        return unsealed(value) if isinstance(value, bytes) else value


Number = BigInteger().with_variant(Integer, "sqlite")
"""A row's number; SQLite counts up a plain INTEGER only."""


def _partial_index(table: Table, what: str, *, unique: bool = False) -> None:
    """Create an index of some rows with its table.

    `Index(postgresql_where=…)` would import PostgreSQL's dialect in every process.
    """

    def created(_table: Table, connection: Connection, **_: Any) -> None:
        connection.exec_driver_sql(f"CREATE {'UNIQUE ' if unique else ''}INDEX {what}")

    event.listen(table, "after_create", created)


def _one_of(column: str, *values: str) -> CheckConstraint:
    listed = ", ".join(f"'{value}'" for value in values)
    return CheckConstraint(f"{column} IN ({listed})", name=f"{column}_known")


def _uid() -> Column[str]:
    """Return the name by which a row is known outside its database, so that an import can tell it again."""
    return Column("uid", String(32), nullable=False, unique=True, default=lambda: uuid4().hex)


metadata = MetaData()

schema = Table(
    "learngate_schema",
    metadata,
    Column("version", Integer, primary_key=True),
    Column("applied_at", Moment, nullable=False),
)

# A deleted session keeps its row: its owner, so that a guessed id stays refused.
sessions = Table(
    "sessions",
    metadata,
    Column("id", String, primary_key=True),
    Column("user_id", String, index=True),
    Column("opened_at", Moment, nullable=False),
    Column("deleted_at", Moment),
    Column("newest", String, comment="id of the turn recorded last"),
)

# What is left of a session whose user was erased: a digest of its id, so that nobody opens it again.
erased_sessions = Table(
    "erased_sessions",
    metadata,
    Column("token", String, primary_key=True),
    Column("erased_at", Moment, nullable=False),
)


def checksum(text: str) -> int:
    """Return a checksum of a text: an SQLite file has none, and a bit that flips on a disk makes other words."""
    return zlib.crc32(text.encode())


def place_checksum(turn: Mapping[str, Any]) -> int:
    """Return the checksum of a turn's place, of its row: whose it is, in which session, and after which turn."""
    return checksum("\0".join(str(turn[name]) for name in PLACE))


def words_checksum(proposal: Mapping[str, Any]) -> int:
    """Return the checksum of what a proposal, of its row, says."""
    return checksum("\0".join(str(proposal[name]) for name in WORDS))


def is_reworded(memory: Row[Any]) -> bool:
    """Whether a memory's text, of its row, is not what was written; without a checksum nobody can tell."""
    return memory.checksum not in {None, checksum(memory.text)}


def is_misquoted(proposal: Row[Any]) -> bool:
    """Whether a proposal's words, of its row, are not what was written; without a checksum nobody can tell."""
    return proposal.checksum not in {None, words_checksum(proposal._asdict())}


WORDS = ("title", "insight", "applies_when")
PLACE = ("session_id", "id", "parent_seq", "user_id", "namespace")


def _of_text(context: Any) -> int:
    return checksum(context.get_current_parameters()["text"])


def _of_words(context: Any) -> int:
    return words_checksum(context.get_current_parameters())


def _of_place(context: Any) -> int:
    return place_checksum(context.get_current_parameters())


turns = Table(
    "turns",
    metadata,
    Column("seq", Number, primary_key=True),
    Column("session_id", ForeignKey("sessions.id"), nullable=False),
    Column("id", String, nullable=False, comment="the human message's id"),
    Column("parent_seq", ForeignKey("turns.seq"), index=True),
    Column("user_id", String, index=True),
    Column("namespace", String, nullable=False),
    Column("status", String, nullable=False),
    Column("reflection", String, nullable=False),
    Column("reflection_attempts", Integer, nullable=False, default=0),
    Column("reflection_error", Text),
    Column("checksum", BigInteger, default=_of_place, comment="of its place"),
    Column("happened_at", Moment, nullable=False),
    Column("recorded_at", Moment, nullable=False),
    Column("checkpoint_id", String),
    Column("usage", Json),
    Column("noted", Json, comment="what the model's own tools noted, until it has taken effect"),
    Column("scope", String, nullable=False, comment="whose turn it is, as one search token"),
    Column("body", Text, nullable=False, comment="what search reads: when it was, and who said what"),
    Column("before", Text, nullable=False, default="", comment="what was said just before it, for search"),
    UniqueConstraint("session_id", "id"),
    Index("turns_when", "scope", "happened_at"),
    _one_of("status", "running", "complete", "failed", "cancelled"),
    _one_of("reflection", "off", "pending", "done", "failed"),
    sqlite_autoincrement=True,
)
_partial_index(turns, "turns_reflection ON turns (reflection) WHERE reflection IN ('pending', 'failed')")

messages = Table(
    "messages",
    metadata,
    Column("turn_seq", ForeignKey("turns.seq", ondelete="CASCADE"), primary_key=True),
    Column("position", Integer, primary_key=True),
    Column("id", String),
    Column("role", String, nullable=False),
    Column("format", Integer, nullable=False),
    Column("data", Text, nullable=False),
)

# Which steps of a turn have taken effect: the claim that makes each happen once.
effects = Table(
    "effects",
    metadata,
    Column("turn_seq", ForeignKey("turns.seq", ondelete="CASCADE"), primary_key=True),
    Column("effect", String, primary_key=True),
    Column("at", Moment, nullable=False),
)


user_memories = Table(
    "user_memories",
    metadata,
    Column("id", Number, primary_key=True),
    _uid(),
    Column("user_id", String, nullable=False),
    Column("namespace", String),
    Column("text", Text, nullable=False),
    Column("checksum", BigInteger, default=_of_text, comment="of the text"),
    Column("digest", String, nullable=False),
    Column("pinned", Boolean, nullable=False, default=False),
    Column("revision", Integer, nullable=False, default=1),
    Column("source_session", String),
    Column("source_turn", String),
    Column("valid_from", Moment, nullable=False),
    Column("valid_to", Moment, comment="set when forgotten or replaced"),
    Column("created_at", Moment, nullable=False),
    Column("updated_at", Moment, nullable=False),
    Column("scope", String, nullable=False),
    Column("body", Text, nullable=False),
    Index("user_memories_scope", "scope"),
    sqlite_autoincrement=True,
)
_partial_index(
    user_memories,
    "user_memories_active ON user_memories (user_id, digest) WHERE valid_to IS NULL",
    unique=True,
)
_partial_index(
    user_memories,
    "user_memories_in_order ON user_memories (user_id, pinned DESC, updated_at DESC, id DESC)"
    " WHERE valid_to IS NULL",
)

memory_revisions = Table(
    "memory_revisions",
    metadata,
    Column("memory_id", ForeignKey("user_memories.id", ondelete="CASCADE"), primary_key=True),
    Column("revision", Integer, primary_key=True),
    Column("change", String, nullable=False),
    Column("text", Text, nullable=False),
    Column("at", Moment, nullable=False),
    Column("source_session", String),
    Column("source_turn", String),
    _one_of("change", "added", "updated", "forgotten"),
)

# Whoever brought a history in from elsewhere; its decisions and reviewers are those of the file.
imports = Table(
    "imports",
    metadata,
    Column("id", Number, primary_key=True),
    Column("actor", String, nullable=False),
    Column("at", Moment, nullable=False),
    Column("digest", String, nullable=False, comment="of the file"),
    sqlite_autoincrement=True,
)

proposals = Table(
    "proposals",
    metadata,
    Column("id", Number, primary_key=True),
    _uid(),
    Column("namespace", String, nullable=False),
    Column("kind", String, nullable=False),
    Column("target_id", ForeignKey("learnings.id")),
    Column("base_revision", Integer),
    Column("title", Text, nullable=False),
    Column("insight", Text, nullable=False),
    Column("applies_when", Text, nullable=False),
    Column("rationale", Text, nullable=False),
    Column("taint", Text),
    Column("proposer", String, nullable=False),
    Column("user_id", String),
    Column("session_id", String),
    Column("turn_id", String),
    Column("checksum", BigInteger, default=_of_words, comment="of what it says"),
    Column("status", String, nullable=False),
    Column("digest", String, nullable=False),
    Column("created_at", Moment, nullable=False),
    Column("expires_at", Moment),
    Column("import_id", ForeignKey("imports.id"), comment="where it came from another database"),
    Index("proposals_inbox", "namespace", "status"),
    Index("proposals_digest", "namespace", "digest"),
    Index("proposals_session", "session_id"),
    _one_of("kind", "new", "replace", "merge", "retire"),
    _one_of("status", "pending", "approved", "rejected"),
    sqlite_autoincrement=True,
)

excerpts = Table(
    "excerpts",
    metadata,
    Column("proposal_id", ForeignKey("proposals.id", ondelete="CASCADE"), primary_key=True),
    Column("position", Integer, primary_key=True),
    Column("speaker", String),
    Column("text", Text, nullable=False),
    Column("user_id", String, index=True),
    Column("session_id", String, index=True),
    Column("turn_id", String),
)

decisions = Table(
    "decisions",
    metadata,
    Column("id", Number, primary_key=True),
    Column("proposal_id", ForeignKey("proposals.id"), nullable=False, index=True),
    Column("type", String, nullable=False),
    Column("reviewer", String, nullable=False),
    Column("note", Text),
    Column("decided_at", Moment, nullable=False),
    Column("learning_id", ForeignKey("learnings.id")),
    _one_of("type", "approve", "edit", "reject"),
    sqlite_autoincrement=True,
)

learnings = Table(
    "learnings",
    metadata,
    Column("id", Number, primary_key=True),
    _uid(),
    Column("namespace", String, nullable=False),
    Column("title", Text, nullable=False),
    Column("insight", Text, nullable=False),
    Column("applies_when", Text, nullable=False),
    Column("status", String, nullable=False),
    Column("revision", Integer, nullable=False),
    Column("digest", String, nullable=False),
    Column("created_at", Moment, nullable=False),
    Column("updated_at", Moment, nullable=False),
    Column("proposal_id", Number, nullable=False),
    Column("scope", String, nullable=False, comment="the namespace as one search token"),
    Column("body", Text, nullable=False),
    Index("learnings_namespace", "namespace", "status"),
    Index("learnings_digest", "namespace", "digest"),
    Index("learnings_scope", "scope"),
    _one_of("status", "active", "retired"),
    sqlite_autoincrement=True,
)

# Append-only: every version of every learning, and what led to it.
revisions = Table(
    "revisions",
    metadata,
    Column("learning_id", ForeignKey("learnings.id"), primary_key=True),
    Column("revision", Integer, primary_key=True),
    Column("uid", String(32), nullable=False, comment="the learning's"),
    Column("namespace", String, nullable=False),
    Column("change", String, nullable=False),
    Column("title", Text, nullable=False),
    Column("insight", Text, nullable=False),
    Column("applies_when", Text, nullable=False),
    Column("status", String, nullable=False),
    Column("at", Moment, nullable=False),
    Column("proposal_id", ForeignKey("proposals.id"), nullable=False),
    Column("decision_id", ForeignKey("decisions.id"), nullable=False),
    _one_of("change", "created", "edited", "reverted", "retired", "restored"),
    _one_of("status", "active", "retired"),
)

# What was signed, in its order: the MAC of each link covers the link before. The key is not in the database.
ledger = Table(
    "ledger",
    metadata,
    Column("seq", Number, primary_key=True, autoincrement=False),
    Column("kind", String, nullable=False),
    Column("row_id", Number, nullable=False, comment="the decision's id, or the learning's"),
    Column("revision", Integer, nullable=False, comment="0 for a decision"),
    Column("commitment", String, nullable=False),
    Column("mac", String, nullable=False),
    UniqueConstraint("row_id", "kind", "revision"),
    _one_of("kind", "decision", "revision", "head"),
)

recalls = Table(
    "recalls",
    metadata,
    Column("turn_seq", ForeignKey("turns.seq", ondelete="CASCADE"), primary_key=True),
    Column("kind", String, primary_key=True),
    Column("row_id", Number, primary_key=True),
    Column("revision", Integer, nullable=False),
    Column("rank", Integer, nullable=False),
    Column("score", Float, nullable=False),
    Column("fate", String, nullable=False),
    Index("recalls_row", "kind", "row_id"),
    _one_of("kind", "memory", "learning"),
    _one_of("fate", "shown", "cut", "withheld"),
)

# What could not be read any more, out of the way, as it stood; erased with its user, or where nobody knows whose.
quarantine = Table(
    "quarantine",
    metadata,
    Column("id", Number, primary_key=True),
    Column("source", String, nullable=False, comment="the table it was in"),
    Column("user_id", String, index=True),
    Column("why", Text, nullable=False),
    Column("row", Text, nullable=False, comment="as JSON; what is no text, as it says of itself"),
    Column("at", Moment, nullable=False),
    sqlite_autoincrement=True,
)

# Derived: keyed by embedder, so that two embedders' vectors are never compared.
embeddings = Table(
    "embeddings",
    metadata,
    Column("kind", String, primary_key=True),
    Column("row_id", Number, primary_key=True),
    Column("embedder", String, primary_key=True),
    Column("scope", String, nullable=False, comment="the row's namespace or user as one search token"),
    Column("digest", String, nullable=False, comment="of the text that was embedded"),
    Column("vector", UnitVector, nullable=False),
    Index("embeddings_scope", "kind", "embedder", "scope"),
)

# What of the rows is in a vector store outside: written down before it goes there, and until it is gone again.
mirrored = Table(
    "mirrored",
    metadata,
    Column("id", String(36), primary_key=True, comment="the document's"),
    Column("store", String, nullable=False, comment="the name of the collection"),
    Column("kind", String, nullable=False),
    Column("row_id", Number, nullable=False),
    Column("scope", String, nullable=False),
    Column("embedder", String, nullable=False),
    Column("digest", String, nullable=False, comment="of the text whose vector it is"),
    Column("state", String, nullable=False),
    Column("since", Moment, nullable=False),
    Index("mirrored_row", "kind", "row_id"),
    Index("mirrored_scope", "scope"),
    _one_of("state", "putting", "there", "dropping", "unsure"),
)

# The cursor by which every process brings its index up to date.
changes = Table(
    "changes",
    metadata,
    Column("seq", Number, primary_key=True),
    Column("kind", String, nullable=False),
    Column("row_id", Number, nullable=False),
    Column("scope", String, nullable=False),
    Column("op", String, nullable=False),
    _one_of("op", "put", "drop"),
    sqlite_autoincrement=True,
)
