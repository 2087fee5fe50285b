"""Load the history: which past turns of this branch the model will see."""

from __future__ import annotations

from typing import Any

from learngate.nodes.state import RecalledItem, State
from learngate.stores.sessions import Sessions


def load_history(state: State, *, sessions: Sessions, turns: int) -> dict[str, Any]:
    """Name the session's last completed turns, back from the head.

    State carries their ids and first words; the turns themselves never change, and are read from SQL where
    the prompt is built.
    """
    turn = state["turn"]
    window = sessions.window(turn["session_id"], turns=turns, head=turn["parent"], recalled=False)
    history = [RecalledItem(kind="turn", id=past.id, text=past.question[:80], shown=True) for past in window]
    return {"recall": {"history": history}}
