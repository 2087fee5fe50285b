"""What a command ends with, and which error means what."""

from __future__ import annotations

import sys

DONE, REFUSED, USAGE, STOPPED, UNREAD = 0, 1, 2, 130, 141
"""`UNREAD` is what a shell shows for a process that writes to a pipe which nobody reads any more."""


class Refused(Exception):
    """What a command was asked for is refused, or not found; the message says what to do."""


def exit_status(error: Exception) -> int | None:
    """Return the exit status for an error of learngate's own; `None` for any other.

    `USAGE` stands for what was given: an input that cannot be taken, a model or a database that cannot be
    used as named. `REFUSED` stands for what was refused, not found or out of reach.
    """
    if isinstance(error, Refused):
        return REFUSED
    if "learngate.stores" not in sys.modules:  # then it is none of its errors, and the import takes a second
        return None
    from learngate.stores import ConfigurationError, InvalidInput, LearngateError

    if not isinstance(error, LearngateError):
        return None
    return USAGE if isinstance(error, InvalidInput | ConfigurationError) else REFUSED
