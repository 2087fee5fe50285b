"""The room's door: what it offers, and nothing else."""

import ast
from pathlib import Path

import learngate.stores as room


def test_the_room_offers_what_it_names_and_does_nothing_else():
    body = ast.parse(Path(str(room.__file__)).read_text()).body
    imported = [
        name.asname or name.name for node in body if isinstance(node, ast.ImportFrom) for name in node.names
    ]
    assert isinstance(body[0], ast.Expr)
    assert all(isinstance(node, ast.ImportFrom | ast.Assign) for node in body[1:])
    assert sorted(imported) == room.__all__ == sorted(room.__all__)


def test_it_offers_what_other_programs_lean_on():
    assert {"Decision", "Memory", "ProposalDraft", "Turn", "open_memory", "LearngateError"} <= set(room.__all__)
