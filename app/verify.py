"""The part of `learngate doctor` that says whether what was learned is as it was signed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from learngate.app.doctor import Finding
from learngate.app.opening import suggested
from learngate.app.screen import counted

if TYPE_CHECKING:
    from learngate.stores import Memory

MOST = 50
"""How many faults a report names one by one, unless everything is asked for."""


def signatures(memory: Memory, option: str, *, verify: bool, news: Callable[[str], None]) -> Iterator[Finding]:
    """Say whether what is recalled is as it was signed; with `verify`, whether all of the history is."""
    from learngate.stores.verify import Fault, all_faults, recall_faults

    book = memory.ledger
    links = book.links()
    if book.key is None and not links:
        yield _unkeyed(option, verify=verify)
        return

    def progress(done: int, total: int) -> None:
        news(f"verified {done:,} of {counted(total, 'link')} …")

    found: list[Fault] = list(all_faults(book, progress) if verify else recall_faults(book))
    for fault in found if verify else found[:MOST]:
        yield Finding("audit", "broken", f"{fault.where}: {fault.says}", with_db(fault.todo, option))
    if not verify and len(found) > MOST:
        more = suggested("doctor", "--verify", db=option)
        yield Finding("audit", "broken", f"{len(found) - MOST:,} more are not as they were signed", more)
    if not found:
        yield from _sound(memory, links, option, verify=verify)


def _unkeyed(option: str, *, verify: bool) -> Finding:
    todo = f"{suggested('audit', 'init', db=option)}, or set LEARNGATE_AUDIT_KEY"
    if verify:
        return Finding("audit", "broken", "nothing was verified: there is no key, and nothing is signed", todo)
    return Finding("audit", "look", "no key: a learning that is changed past the gate would not be noticed", todo)


def _sound(memory: Memory, links: int, option: str, *, verify: bool) -> Iterator[Finding]:
    book = memory.ledger
    assert book.key is not None
    looked = "everything is as it was signed" if verify else "what is recalled is as it was signed"
    said = f"{looked} · {counted(links, 'link')} · key from {book.key.source}"
    known = None if book.head is None else book.head.read()
    begin = suggested("audit", "sign", db=option)
    if book.head is None:
        said += " · no head file, so that an older copy of the database would not be noticed"
        todo = "name a file for it: LEARNGATE_AUDIT_HEAD"
        todo += " as before" if links and book.has_head() else f", then begin it: {begin}"
        yield Finding("audit", "look", said, todo)
        return
    if links and not book.has_head():
        yield Finding("audit", "look", f"{said} · {book.head.unbegun()}", f"begin it: {begin}")
        return
    lag = links - known.seq if known is not None else links
    behind = f", {counted(lag, 'link')} behind" if lag > 0 and links else ""
    todo = "" if verify else f"the whole history: {suggested('doctor', '--verify', db=option)}"
    yield Finding("audit", "ok", f"{said} · head file {book.head.path}{behind}", todo)


def with_db(todo: str, option: str) -> str:
    """Return a hint whose commands name the database as this one was called with."""
    parts = todo.split("`")
    return "`".join(f"{part}{option}" if part.startswith("learngate ") else part for part in parts)
