"""`learngate learnings`: what was learned, where each came from, and how it is changed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from learngate.app.lines import ask_line, given_text
from learngate.app.opening import db_option, opened, person, suggested
from learngate.app.options import DEFAULT, LARGEST, Db, Embedder, Json, Limit, Namespace, Note, Reviewer, Row, User
from learngate.app.screen import busy, counted, fields, flat, moment, note, on_terminal, say, say_json, table

if TYPE_CHECKING:
    from learngate.stores import Learning, Memory, Proposal, Revision
    from learngate.stores.signing import SignedVersion

app = typer.Typer(no_args_is_help=True, help="What was learned: read, trace, change, take back.")

Title = Annotated[str | None, typer.Option("--title", metavar="TEXT", help="A short headline.")]
Insight = Annotated[
    str | None, typer.Option("--insight", metavar="TEXT", help="The insight itself; - reads it from stdin.")
]
AppliesWhen = Annotated[
    str | None,
    typer.Option(
        "--applies-when", metavar="TEXT", help="When it helps, in the words of those who will ask: “…; …; …”."
    ),
]


@app.command("list")
def list_(
    ctx: typer.Context,
    everything: Annotated[bool, typer.Option("--all", help="Retired ones, too.")] = False,
    namespace: Namespace = DEFAULT,
    limit: Limit = 1000,
    json: Json = False,
    db: Db = None,
) -> None:
    """List the learnings that a namespace reads, the newest first."""
    with opened(db, there=True) as memory:
        found = memory.learnings.list(namespace=namespace, status=None if everything else "active", limit=limit)
        waiting = memory.learnings.waiting().get(namespace, 0)
        key = memory.ledger.key
        unchecked = _unchecked(memory)
    if json:
        say_json(found)
        return
    if not found:
        say(f"{namespace} has learned nothing yet")
    else:
        _table(found, mark=_mark(key), namespace=namespace, everything=everything)
    faults = [one for one in found if one.fault]
    if faults:
        look = suggested("doctor", db=db_option(ctx))
        note(f"{counted(len(faults), 'learning')} {_mark(key).lower()}, and not recalled: {look}", style="bold red")
    if unchecked:
        note(unchecked)
    if waiting:
        where = suggested("review", *_named(namespace), db=db_option(ctx))
        note(f"{counted(waiting, 'proposal')} more for a reviewer: {where}")


@app.command()
def show(ctx: typer.Context, learning: Row, json: Json = False, db: Db = None) -> None:
    """Show one learning, with everything that led to it."""
    with opened(db, there=True) as memory:
        from learngate.stores.signing import signed_version

        found = memory.learnings.get(learning)
        history = memory.learnings.history(learning)
        proposal = memory.learnings.proposal(history[0].proposal_id) if history else None
        key = memory.ledger.key
        signed = signed_version(memory.ledger, learning) if found.fault and key else None
        unchecked = _unchecked(memory)
    if json:
        say_json({"learning": found, "history": history, "proposal": proposal, "signed": signed})
        return
    traced = [] if proposal is None else list(_traced(history, proposal))
    if found.fault:
        say(f"{_mark(key)}, and not recalled: {flat(found.fault)}", style="bold red")
        fields(list(_row(found)))
        if key:
            _tell_signed(signed)
        if traced:
            say("what its history says, which this command does not check:", style="bold")
            fields(traced)
        note(f"what to do: {suggested('doctor', db=db_option(ctx))}")
    else:
        fields([*_row(found), *traced])
    if unchecked:
        note(unchecked)
    if len(history) > 1:
        note(f"every version: {suggested('learnings', 'history', str(learning), db=db_option(ctx))}")


@app.command()
def search(
    query: Annotated[str, typer.Argument(metavar="QUERY", show_default=False)],
    namespace: Namespace = DEFAULT,
    limit: Limit = 5,
    embedder: Embedder = None,
    json: Json = False,
    db: Db = None,
) -> None:
    """Search as the agent does: what is below the floor is not found, however near it is."""
    with opened(db, there=True, embedder=embedder) as memory, busy("searching …"):
        hits = memory.learnings.search(query, namespace=namespace, k=limit)
    if hits.note:
        note(flat(hits.note))
    if json:
        say_json(hits)
        return
    if not hits:
        say(f"nothing in {namespace} fits that")
        return
    rows = [
        (hit.learning.id, f"{hit.score:.2f}", hit.why, f"{hit.dense:.2f}", f"{hit.lexical:.2f}", hit.learning.title)
        for hit in hits
    ]
    table(("id", "score", "why", "cosine", "bm25", "title"), rows, cut=("title",))


@app.command()
def add(
    title: Title = None,
    insight: Insight = None,
    applies_when: AppliesWhen = None,
    namespace: Namespace = DEFAULT,
    reviewer: Reviewer = None,
    user: User = None,
    json: Json = False,
    db: Db = None,
) -> None:
    """Add a learning by hand; it is proposed and approved under your name."""
    if title is None or insight is None:
        if not on_terminal():
            raise typer.BadParameter("a learning has both", param_hint="--title and --insight")
        title = title or ask_line("title        ▸ ")
        insight = insight or ask_line("insight      ▸ ")
        applies_when = applies_when or ask_line("applies when ▸ ")
    with opened(db) as memory:
        from learngate.stores import ProposalDraft

        draft = ProposalDraft(title=title, insight=given_text(insight), applies_when=applies_when or "")
        made = memory.learnings.add(draft, namespace=namespace, actor=person(reviewer, user))
    _changed(made, "added", json=json)


@app.command()
def edit(
    learning: Row,
    title: Title = None,
    insight: Insight = None,
    applies_when: AppliesWhen = None,
    remark: Note = None,
    reviewer: Reviewer = None,
    user: User = None,
    json: Json = False,
    db: Db = None,
) -> None:
    """Reword a learning; what is not given stays, and the earlier words stay in its history."""
    words = {"title": title, "insight": insight and given_text(insight), "applies_when": applies_when}
    asks = all(text is None for text in words.values())
    if asks and not on_terminal():
        raise typer.BadParameter("give at least one", param_hint="--title, --insight or --applies-when")
    with opened(db, there=True) as memory:
        if asks:
            words = dict(_asked(memory.learnings.get(learning)))
        made = memory.learnings.edit(learning, **words, actor=person(reviewer, user), note=remark)
    _changed(made, "edited", json=json)


@app.command()
def retire(
    learning: Row,
    remark: Note = None,
    reviewer: Reviewer = None,
    user: User = None,
    json: Json = False,
    db: Db = None,
) -> None:
    """Take a learning out of every later answer; its rows and its history stay."""
    with opened(db, there=True) as memory:
        made = memory.learnings.retire(learning, actor=person(reviewer, user), note=remark)
    _changed(made, "retired", json=json)


@app.command()
def restore(
    learning: Row,
    remark: Note = None,
    reviewer: Reviewer = None,
    user: User = None,
    json: Json = False,
    db: Db = None,
) -> None:
    """Bring a retired learning back."""
    with opened(db, there=True) as memory:
        made = memory.learnings.restore(learning, actor=person(reviewer, user), note=remark)
    _changed(made, "restored", json=json)


@app.command()
def revert(
    learning: Row,
    revision: Annotated[int, typer.Argument(metavar="REVISION", min=1, max=LARGEST, show_default=False)],
    remark: Note = None,
    reviewer: Reviewer = None,
    user: User = None,
    json: Json = False,
    db: Db = None,
) -> None:
    """Bring the words of an earlier version back, as a new one."""
    with opened(db, there=True) as memory:
        made = memory.learnings.revert(learning, revision, actor=person(reviewer, user), note=remark)
    _changed(made, f"reverted to the words of revision {revision}", json=json)


@app.command()
def history(learning: Row, json: Json = False, db: Db = None) -> None:
    """Show every version of a learning: who changed it, when, why, and what it said."""
    with opened(db, there=True) as memory:
        versions = memory.learnings.history(learning)
    if json:
        say_json(versions)
        return
    for version in versions:
        say(f"revision {version.revision} · {version.change} · {moment(version.at)}", style="bold")
        fields(list(_version(version)), indent=2)


def _unchecked(memory: Memory) -> str:
    """Say that nobody could tell whether what is shown is as it was signed, where that is so."""
    if memory.ledger.key is not None or not memory.ledger.links():
        return ""
    from learngate.stores.audit import NO_KEY

    return f"not compared with what was signed: {NO_KEY}"


def _mark(key: object) -> str:
    """Return what is said of a learning that is not as it should be."""
    return "NOT AS SIGNED" if key else "NOT AS WRITTEN"


def _table(found: Sequence[Learning], *, mark: str, namespace: str, everything: bool) -> None:
    faults = any(one.fault for one in found)
    inherited = any(one.namespace != namespace for one in found)
    columns = ["id", "title", "insight", "rev", "changed"]
    columns += (["namespace"] if inherited else []) + (["status"] if everything else [])
    columns += ["fault"] if faults else []
    rows = [
        [one.id, one.title, one.insight, one.revision, moment(one.updated_at)]
        + ([one.namespace] if inherited else [])
        + ([one.status] if everything else [])
        + ([mark if one.fault else ""] if faults else [])
        for one in found
    ]
    table(columns, rows, cut=("title", "insight"))


def _tell_signed(signed: SignedVersion | None) -> None:
    """Show what was approved, apart from what stands there now."""
    if signed is None:
        say("what was signed of it is gone or was changed, too, or it never was", style="bold")
    else:
        say("what was signed:", style="bold")
        fields(list(_row(signed)))


def _row(found: Learning | SignedVersion) -> Iterator[tuple[str, str]]:
    which = f"{found.id}" if hasattr(found, "id") else f"revision {found.revision}"
    yield "learning", f"{which} · {found.status} · {found.namespace}"
    yield "title", found.title
    yield "insight", found.insight
    yield "applies when", found.applies_when


def _traced(versions: Sequence[Revision], proposal: Proposal) -> Iterator[tuple[str, str]]:
    first, last = versions[0], versions[-1]
    where = f" · session {first.session_id}, turn {first.turn_id}" if first.session_id else ""
    yield "proposed by", f"{first.proposer} · proposal {first.proposal_id}{where}"
    yield "because", proposal.rationale
    for excerpt in proposal.excerpts:
        yield "rests on", f"{excerpt.speaker or 'somebody'}: “{excerpt.text}”"
    yield "approved by", _decided(first)
    if last.revision != first.revision:
        yield f"{last.change} by", _decided(last)
    yield "imported by", _imported(next((one for one in reversed(versions) if one.imported_by), first))
    yield "revisions", str(len(versions))


def _decided(version: Revision) -> str:
    return f"{version.reviewer} · {moment(version.at)}" + (f" · “{version.note}”" if version.note else "")


def _imported(version: Revision) -> str:
    at = version.imported_at
    return "" if at is None else f"{version.imported_by} · {moment(at)}"


def _version(version: Revision) -> Iterator[tuple[str, str]]:
    yield "title", version.title
    yield "insight", version.insight
    yield "applies when", version.applies_when
    yield "proposed by", f"{version.proposer} · proposal {version.proposal_id}"
    yield "decided by", f"{version.reviewer} ({version.decision})"
    yield "note", version.note or ""
    yield "imported by", _imported(version)


def _asked(found: Learning) -> Iterator[tuple[str, str | None]]:
    for name in ("title", "insight", "applies_when"):
        before = getattr(found, name)
        after = ask_line(f"{name.replace('_', ' '):<12} ▸ ", prefill=before).strip()
        yield name, after or None


def _changed(made: Learning, change: str, *, json: bool) -> None:
    if json:
        say_json(made)
    else:
        say(f"learning {made.id} {change} · revision {made.revision} · {made.status} · {made.namespace}")


def _named(namespace: str) -> tuple[str, ...]:
    return () if namespace == DEFAULT else ("--namespace", namespace)
