"""The tree that is drawn in the errors' own file is the tree that Python has."""

import inspect
import re
from datetime import UTC, datetime

import pytest

from learngate.stores import errors
from learngate.stores.records import DecisionRecord

CLASSES = {
    name: kind
    for name, kind in vars(errors).items()
    if inspect.isclass(kind) and kind.__module__ == errors.__name__
}


def drawn() -> dict[str, str | None]:
    """Return {class: its parent} as the docstring draws it."""
    parents: dict[str, str | None] = {}
    branch: list[tuple[int, str]] = []
    for line in (errors.__doc__ or "").splitlines():
        found = re.match(r"[ │├└─]*([A-Z]\w+)(?=\s|$)", line)
        if not found or found[1] not in CLASSES:
            continue
        while branch and branch[-1][0] >= found.start(1):
            branch.pop()
        parents[found[1]] = branch[-1][1] if branch else None
        branch.append((found.start(1), found[1]))
    return parents


def test_every_error_is_in_the_drawing_and_has_the_parent_that_is_drawn():
    tree = drawn()
    assert tree.keys() == CLASSES.keys()
    assert [name for name, parent in tree.items() if parent is None] == ["LearngateError"]
    for name, parent in tree.items():
        if parent is not None:
            assert CLASSES[parent] in CLASSES[name].__bases__


@pytest.mark.parametrize(
    ("kind", "builtin"),
    [(errors.InvalidInput, ValueError), (errors.NotFound, LookupError), (errors.NotAllowed, PermissionError)],
)
def test_who_knows_only_pythons_own_errors_catches_these_too(kind, builtin):
    assert issubclass(kind, builtin)


def test_a_late_reviewer_is_told_who_decided_how_and_when():
    record = DecisionRecord(1, 7, "reject", "rev", "no", datetime(2026, 5, 4, 3, 2, 1, tzinfo=UTC))
    error = errors.AlreadyDecided(record)
    assert str(error) == "proposal 7 was already decided: reject by rev at 2026-05-04 03:02:01 UTC"
    assert error.decision is record
