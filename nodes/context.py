"""Who speaks: the context a host gives with a run, and the caller it makes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from langchain_core.runnables import RunnableConfig

from learngate.stores.errors import InvalidInput
from learngate.stores.records import DEFAULT_NAMESPACE
from learngate.stores.text import check_name, check_namespace

GOES_ON = "__learngate_goes_on"
"""The door's mark on a run that goes on after a stop, without an answer of its own."""


@dataclass(frozen=True)
class Context:
    """What a host says about a run: whose it is, which namespace serves it, and who decides at the gate.

    No `user_id` means nobody: no user memory is read or written. `reviewer` is who a decision is recorded
    under; without one it is the session's own user.
    """

    user_id: str | None = None
    namespace: str = DEFAULT_NAMESPACE
    reviewer: str | None = None


@dataclass(frozen=True, slots=True)
class Caller:
    """Who speaks. `said` tells a caller who named nobody from one who said nothing at all."""

    user_id: str | None
    namespace: str
    reviewer: str | None
    said: bool


def caller_of(config: RunnableConfig | None, context: object) -> Caller:
    """Return who speaks: the server's authenticated user, else the context's, else nobody.

    Raises:
        InvalidInput: an id or a namespace that cannot be one.
    """
    configurable: Mapping[str, Any] = (config or {}).get("configurable") or {}
    if context is None:
        # Inside a parent graph the context comes with the parent's runtime, and may be any of the parent's.
        context = getattr(configurable.get("__pregel_runtime"), "context", None)
    else:
        _refuse_unknown(context)
    given = _given(context)
    authenticated = _identity(configurable.get("langgraph_auth_user"))
    user_id = authenticated or given.user_id
    reviewer = authenticated or given.reviewer
    if user_id is not None:
        check_name(user_id, what="Context.user_id")
    if reviewer is not None:
        check_name(reviewer, what="Context.reviewer")
    check_namespace(given.namespace)
    return Caller(user_id, given.namespace, reviewer, said=authenticated is not None or bool(context))


def session_of(config: RunnableConfig | None) -> str:
    """Return the session's id, which is LangGraph's thread id.

    Raises:
        InvalidInput: the run has none, or one that cannot be stored.
    """
    thread_id = ((config or {}).get("configurable") or {}).get("thread_id")
    if thread_id is None:
        raise InvalidInput('name the session: pass config={"configurable": {"thread_id": "…"}} with the run')
    # UUIDs and numbers are common thread ids; LangGraph takes them as their text, too.
    return check_name(str(thread_id), what="the thread id")


def _refuse_unknown(context: object) -> None:
    """Refuse a context that names nothing we know, before a session is claimed for nobody."""
    known = {field.name for field in fields(Context)}
    unknown = sorted(str(key) for key in context if key not in known) if isinstance(context, Mapping) else []
    if unknown or isinstance(context, str | bytes | int | float | list | tuple | set):
        what = f"{', '.join(unknown)} is unknown" if unknown else f"{type(context).__name__} is none"
        raise InvalidInput(f"a context is Context(user_id=…, namespace=…, reviewer=…): {what}")


def _given(context: object) -> Context:
    if context is None:
        return Context()
    if isinstance(context, Mapping):
        known = {key: context[key] for key in ("user_id", "namespace", "reviewer") if context.get(key)}
        return Context(**known)
    return Context(
        user_id=getattr(context, "user_id", None),
        namespace=getattr(context, "namespace", None) or DEFAULT_NAMESPACE,
        reviewer=getattr(context, "reviewer", None),
    )


def _identity(user: object) -> str | None:
    """Return the identity of LangGraph's authenticated user, whatever shape it comes in."""
    if user is None:
        return None
    identity = user.get("identity") if isinstance(user, Mapping) else getattr(user, "identity", None)
    return str(identity) if identity else None
