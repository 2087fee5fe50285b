"""What the tests of the signatures share: a memory with a history, and a hand that reaches past the gate."""

from sqlalchemy import inspect

from learngate.stores import Decision, Excerpt, Memory, ProposalDraft
from learngate.stores.verify import all_faults

KEY = "one key, kept outside the database: 6f1d0c"
OTHER = "another key that signed nothing here: 3b7a"
ETFS = "When comparing ETFs, check both expense ratio and tracking error."
BONDS = "Compare bonds on duration first."
FEES = "Compare the fees of funds over ten years."


def stock(memory: Memory) -> None:
    """Learn: 1 with two revisions, 2 with one, 3 that was retired; a sixth decision rejects.

    The ledger has eleven links, in this order: d1 r1.1 d2 r2.1 d3 r3.1 d4 r1.2 d5 r3.2 d6.
    """
    learnings = memory.learnings
    quoted = Excerpt("What do ETFs cost?", "ana", "ana", "s", "q1")
    draft = ProposalDraft("ETFs", ETFS, "comparing ETFs", "ana asked twice", (quoted,))
    first = learnings.propose(draft, namespace="default", proposer="model", user_id="ana", source=("s", "q1"))
    learnings.decide(first.id, Decision.approve("well said"), reviewer="rita")
    learnings.add(ProposalDraft("Bonds", BONDS), namespace="default", actor="rita")
    learnings.add(ProposalDraft("Fees", FEES), namespace="default", actor="rita")
    learnings.edit(1, title="ETF costs", actor="rita")
    learnings.retire(3, actor="rita", note="covered elsewhere")
    silly = learnings.propose(ProposalDraft("Luck", "Buy on Fridays."), namespace="default", proposer="model")
    learnings.decide(silly.id, Decision.reject("superstition"), reviewer="rita")


def tamper(memory: Memory, *statements: str) -> None:
    """Change rows as somebody does who may write the database, and no key or constraint stops."""
    connection = memory.database.connect()
    try:
        sqlite = memory.database.dialect == "sqlite"
        connection.execute("PRAGMA foreign_keys = OFF" if sqlite else "SET session_replication_role = replica")
        if sqlite:
            connection.execute("PRAGMA ignore_check_constraints = ON")
        for statement in statements:
            assert connection.execute(statement).rowcount > 0, statement
    finally:
        connection.close()


def faults(memory: Memory) -> dict[str, str]:
    """Return what a walk over everything finds: where, and what is wrong."""
    return {fault.where: fault.says for fault in all_faults(memory.ledger)}


def recalled(memory: Memory) -> set[int]:
    """Return which learnings can be recalled at all."""
    found = memory.learnings.search("compare funds ETFs bonds", namespace="default", k=10, floor=False)
    return {hit.learning.id for hit in found}


def columns(memory: Memory, table: str) -> list[str]:
    """Return the columns that a table has in the database, but for those that it fills itself."""
    with memory.database.read() as connection:
        return [column["name"] for column in inspect(connection).get_columns(table) if "computed" not in column]
