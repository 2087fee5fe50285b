"""What a run left in the database, compared with what it should have left."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

from sqlalchemy import text

from learngate.stores import Memory
from tests.graph.support import rows
from tests.reliability.counting import Tally

# Which numbers name rows of which table: numbers differ where a transaction was rolled back, the order does not.
KEYS = {
    "turns": "seq",
    "user_memories": "id",
    "proposals": "id",
    "decisions": "id",
    "learnings": "id",
}
NAMES = {
    "seq": "turns",
    "turn_seq": "turns",
    "parent_seq": "turns",
    "memory_id": "user_memories",
    "proposal_id": "proposals",
    "decision_id": "decisions",
    "learning_id": "learnings",
    "target_id": "learnings",
}

# Made up anew for each row, or over such.
VARIES = {"uid", "commitment", "mac", "deleted_at"}

HALVES = {
    "a turn without its messages": """
        SELECT seq FROM turns WHERE 2 > (SELECT count(*) FROM messages WHERE turn_seq = seq)""",
    "a message of no turn": "SELECT turn_seq FROM messages WHERE turn_seq NOT IN (SELECT seq FROM turns)",
    "a memory without its revision": """
        SELECT id FROM user_memories WHERE id NOT IN (SELECT memory_id FROM memory_revisions)""",
    "a learning without its current revision": """
        SELECT id FROM learnings WHERE NOT EXISTS (SELECT 1 FROM revisions
        WHERE learning_id = learnings.id AND revisions.revision = learnings.revision
        AND revisions.insight = learnings.insight AND revisions.status = learnings.status)""",
    "a revision without its decision": """
        SELECT learning_id FROM revisions WHERE decision_id NOT IN (SELECT id FROM decisions)""",
    "a decision on what is pending, or none on what is not": """
        SELECT id FROM proposals WHERE (status = 'pending') = (id IN (SELECT proposal_id FROM decisions))""",
    "two decisions on one proposal": """
        SELECT proposal_id FROM decisions GROUP BY proposal_id HAVING count(*) > 1""",
    "an approval without its learning": """
        SELECT id FROM decisions WHERE (type <> 'reject') = (learning_id IS NULL)""",
    "a session whose newest turn is not there": """
        SELECT id FROM sessions WHERE newest IS NOT NULL
        AND newest NOT IN (SELECT turns.id FROM turns WHERE turns.session_id = sessions.id)""",
}


def check_whole(memory: Memory, tally: Tally, where: str) -> None:
    """Look for what was written in part."""
    with memory.database.read() as connection:
        for what, query in HALVES.items():
            found = connection.execute(text(query)).all()
            tally.check(not found, "half", f"{where}: {what}: {found}")
        if connection.dialect.name == "sqlite":
            found = connection.scalars(text("PRAGMA integrity_check")).all()
            tally.check(found == ["ok"], "half", f"{where}: {found}")
            tally.check(not connection.execute(text("PRAGMA foreign_key_check")).all(), "half", f"{where}: keys")


def normal(memory: Memory) -> dict[str, list[dict[str, Any]]]:
    """Return the rows of a run, with each row's number replaced by its place."""
    found = rows(memory)
    places = {
        table: {number: place for place, number in enumerate(sorted(row[key] for row in found[table]), start=1)}
        for table, key in KEYS.items()
    }

    def placed(table: str, column: str, value: Any, row: dict[str, Any]) -> Any:
        named = table if KEYS.get(table) == column else NAMES.get(column)
        if table == "recalls" and column == "row_id":
            named = {"memory": "user_memories", "learning": "learnings"}[row["kind"]]
        return places[named].get(value, value) if named else value

    return {
        table: [
            {column: placed(table, column, value, row) for column, value in row.items() if column not in VARIES}
            for row in some
        ]
        for table, some in found.items()
    }


def compare(left: dict[str, Any], right: dict[str, Any], tally: Tally, where: str) -> None:
    """Count what is missing, too much or different in `left`."""
    for table in right:
        here, there = (
            Counter(json.dumps(row, default=str, sort_keys=True) for row in side[table]) for side in (left, right)
        )
        if here == there:
            continue
        more = here.total() - there.total()
        kind = "doubled" if more > 0 else "lost" if more < 0 else "half"
        changed = [*(here - there), *(there - here)]
        tally.note(kind, f"{where}: {table}: {changed[:2]}", abs(more) or (here - there).total())
