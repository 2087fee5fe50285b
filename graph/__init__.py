"""Wires the nodes and assembles the parts."""

from learngate.graph.build import Budgets, build_graph
from learngate.graph.inbox import aresume_decided, resume_decided
from learngate.graph.reflecting import ReflectionReport, areflect_pending, reflect_pending
from learngate.nodes.context import Context

__all__ = [
    "Budgets",
    "Context",
    "ReflectionReport",
    "areflect_pending",
    "aresume_decided",
    "build_graph",
    "reflect_pending",
    "resume_decided",
]
