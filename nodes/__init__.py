"""One step of a turn per file, each callable with no graph around it."""

from learngate.nodes.begin_turn import begin_turn
from learngate.nodes.context import Context
from learngate.nodes.load_history import load_history
from learngate.nodes.propose_learning import propose_learning
from learngate.nodes.recall_user_memory import recall_user_memory
from learngate.nodes.reflect import reflect
from learngate.nodes.remember_user import remember_user
from learngate.nodes.respond import respond
from learngate.nodes.review_learning import review_learning
from learngate.nodes.save_learning import save_learning
from learngate.nodes.save_turn import save_turn
from learngate.nodes.search_learnings import search_learnings
from learngate.nodes.state import Input, Output, State

__all__ = [
    "Context",
    "Input",
    "Output",
    "State",
    "begin_turn",
    "load_history",
    "propose_learning",
    "recall_user_memory",
    "reflect",
    "remember_user",
    "respond",
    "review_learning",
    "save_learning",
    "save_turn",
    "search_learnings",
]
