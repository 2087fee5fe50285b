"""Every error that learngate raises, in one tree.

::

    LearngateError
    ├── InvalidInput          what was given cannot be taken; the message says what to give
    ├── NotFound              no such session, proposal, learning, revision or memory
    ├── NotAllowed            it belongs to somebody else
    ├── Conflict              it came too late
    │   ├── AlreadyDecided        somebody decided this proposal before
    │   └── Outdated              the learning has moved on since the proposal was made
    ├── ConfigurationError    a model, key, package or option that can never work
    ├── ReflectionFailed      the model's reflection could not be read
    └── StoreError            nothing was stored
        ├── StoreUnavailable      locked, read-only, full or gone: the same call may succeed later
        └── StoreUnusable         not a database, of a newer schema, damaged: a human has to look

Nothing of a failed call is stored.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from learngate.stores.records import DecisionRecord


class LearngateError(RuntimeError):
    """The root: catch this to catch everything that learngate raises on purpose.

    LangGraph's server passes the words of a few builtin errors on to the client, this one's among them, and
    hides those of every other: so the root is a `RuntimeError`.
    """


class InvalidInput(LearngateError, ValueError):
    """What was given cannot be taken; the message says what to give instead."""


class NotFound(LearngateError, LookupError):
    """There is no such session, proposal, learning, revision or memory."""


class NotAllowed(LearngateError, PermissionError):
    """It belongs to somebody else; nothing ran, nothing was shown, nothing was stored."""


class Conflict(LearngateError):
    """It came too late: what it would change has changed."""


class AlreadyDecided(Conflict):
    """Somebody decided the proposal before; `.decision` says how, by whom and when."""

    def __init__(self, decision: DecisionRecord) -> None:
        self.decision = decision
        super().__init__(
            f"proposal {decision.proposal_id} was already decided: {decision.type} by {decision.reviewer}"
            f" at {decision.decided_at:%Y-%m-%d %H:%M:%S} UTC"
        )


class Outdated(Conflict):
    """The learning has a newer revision than the one the proposal was made for."""


class ConfigurationError(LearngateError):
    """A model, key, package or option that can never work as it is; the message says how to mend it."""


class ReflectionFailed(LearngateError):
    """The model's reflection could not be read; the answer and the turn stand."""


class StoreError(LearngateError):
    """The database did not do what was asked; nothing was stored."""


class StoreUnavailable(StoreError):
    """Locked, read-only, full or gone: the same call may succeed later."""


class StoreUnusable(StoreError):
    """Not a database, of a newer schema, or damaged: a human has to look."""
