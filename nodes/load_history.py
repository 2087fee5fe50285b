"""Load the history: which past turns of this branch the model will see."""

from __future__ import annotations

from typing import Any

from learngate.nodes.prompts import tokens_in, turn_size, turns_that_fit, window_messages
from learngate.nodes.state import RecalledItem, State
from learngate.stores.sessions import Sessions


def load_history(state: State, *, sessions: Sessions, turns: int, budget: int) -> dict[str, Any]:
    """Name the session's last completed turns, back from the head, and which of them the budget leaves out.

    State carries their ids and first words; the turns themselves never change, and are read from SQL where
    the prompt is built.
    """
    turn = state["turn"]
    window = sessions.window(turn["session_id"], turns=turns, head=turn["parent"], recalled=False)
    room = budget * 4
    cut = len(window) - turns_that_fit(window, room=room)
    history = [
        RecalledItem(
            kind="turn",
            id=past.id,
            text=past.question[:80],
            shown=number >= cut,
            tokens=tokens_in(window_messages([past], room=room)) if number >= cut else turn_size(past) // 4,
        )
        for number, past in enumerate(window)
    ]
    if window and turn_size(window[-1]) > room:
        history[-1]["cut"] = True
    return {"recall": {"history": history}}
