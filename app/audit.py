"""`learngate audit`: the key that signs what is learned, and what a person does where something is not signed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import typer

from learngate.app.lines import ask_line
from learngate.app.opening import db_option, opened, suggested
from learngate.app.options import Db, Json, Yes
from learngate.app.screen import counted, flat, note, on_terminal, say, say_json
from learngate.app.status import REFUSED
from learngate.app.verify import MOST, with_db

if TYPE_CHECKING:
    from learngate.stores.audit import Ledger
    from learngate.stores.signing import Candidate
    from learngate.stores.verify import Fault

app = typer.Typer(no_args_is_help=True, help="Sign what is learned, so that a change past the gate is noticed.")

COPY_IT = "keep a copy of it away from the database, and away from its backups"


@app.command()
def init(ctx: typer.Context, yes: Yes = False, json: Json = False, db: Db = None) -> None:
    """Make a key, and sign what has been learned so far.

    It is shown first. The key is a file beside the database: keep a copy of it elsewhere. With LEARNGATE_AUDIT_KEY
    set there is a key already: use `learngate audit sign`.

    Exit status 1 says that something is not as it was signed.
    """
    from learngate.stores import ConfigurationError
    from learngate.stores.audit import Ledger
    from learngate.stores.keys import key_path, new_key, write_key
    from learngate.stores.signing import sign, unsigned

    with opened(db) as memory:
        if memory.ledger.key is not None:
            sign_it = suggested("audit", "sign", db=db_option(ctx))
            raise ConfigurationError(f"there is a key already, from {memory.ledger.key.source}: use {sign_it}")
        if memory.ledger.links():
            restart_it = suggested("audit", "restart", db=db_option(ctx))
            raise ConfigurationError(
                f"what is learned here is signed, and its key is not here: put it back, or use {restart_it}"
            )
        path = key_path(memory.database)
        if path is None:
            raise ConfigurationError(_no_place(memory.database.name))
        key = new_key(path)
        book = Ledger(memory.database, key, memory.ledger.head)
        if book.head is not None:
            book.head.check()
        shown = unsigned(book)
        _agree(shown, f"make the key file {path} and sign {_these(shown)}", yes=yes, json=json)
        write_key(key, path)
        if not json:
            say(f"made {path}: {COPY_IT}")
        signed = sign(book, shown)
        if not json:
            _signed(shown, book)
        _end(ctx, book, _report(shown, signed, book, made=str(path)), json=json)


@app.command()
def sign(ctx: typer.Context, yes: Yes = False, json: Json = False, db: Db = None) -> None:
    """Sign what is not signed yet, after showing it.

    That is what is from before there was a key, or what somebody inserted. A head file for signatures that never
    had one is begun here, once the whole chain was verified.

    Exit status 1 says that something else is not as it was signed.
    """
    from learngate.stores import signing
    from learngate.stores.verify import all_faults

    with opened(db) as memory:
        book = memory.ledger
        shown = signing.unsigned(book)
        if book.head is not None:
            book.head.check()
        if shown:
            _agree(shown, f"sign {_these(shown)}", yes=yes, json=json)
        signed = signing.sign(book, shown)  # with nothing shown: for a head file that lags
        if shown and not json:
            _signed(shown, book)
        left, begun = list(all_faults(book)), False
        if book.head is not None and book.links() and not book.has_head():
            begun = _begin_head(book, left, yes=yes, json=json)
        if not json and not shown and not begun:
            say("nothing is left to sign, and not all is as it was signed:" if left else "everything is signed")
        _end(ctx, book, _report(shown, signed, book, begun=begun), left=left, json=json)


@app.command()
def restart(ctx: typer.Context, yes: Yes = False, json: Json = False, db: Db = None) -> None:
    """Sign everything anew, as it is now.

    What is wrong with it is shown first. For a key that was lost or is to be replaced, a backup that was restored,
    or damage that you accept. Where there is no key, one is made. What the old signatures proved is gone.

    Exit status 1 says that something is left to do.
    """
    from learngate.stores import ConfigurationError, signing
    from learngate.stores.audit import Ledger
    from learngate.stores.keys import key_path, new_key, write_key
    from learngate.stores.verify import all_faults

    with opened(db) as memory:
        book, fresh, path = memory.ledger, None, key_path(memory.database)
        if book.key is None and path is None:
            raise ConfigurationError(_no_place(memory.database.name))
        if book.head is not None:
            book.head.check_replace()
        found = list(all_faults(book))
        if not json:
            for fault in found:
                say(f"{fault.where}: {flat(fault.says)}")
        if book.key is None and path is not None:
            fresh = new_key(path)
            book = Ledger(memory.database, fresh, book.head)
        shown = signing.everything(book)
        which = f"sign {_these(shown.rows)} as they are now, and forget the signatures there are"
        _agree(shown.rows, which, yes=yes, json=json)
        if fresh is not None and path is not None:
            write_key(fresh, path)
            if not json:
                say(f"made {path}: {COPY_IT}")
        signed = signing.restart(book, shown)
        if not json:
            _signed(shown.rows, book)
            if late := signing.unsigned(book):
                note(f"{_these(late)} came in meanwhile, unsigned")
        made = None if fresh is None else str(path)
        _end(ctx, book, {"found": found} | _report(shown.rows, signed, book, made=made), json=json)


@app.command()
def mend(ctx: typer.Context, yes: Yes = False, json: Json = False, db: Db = None) -> None:
    """Put back learnings that somebody changed past the gate.

    What their newest signed revisions say is put back. One that nobody decided is removed. Both are shown first.

    Exit status 1 says that something is left that this cannot mend.
    """
    from learngate.stores import ConfigurationError, signing
    from learngate.stores.verify import all_faults

    with opened(db) as memory:
        book = memory.ledger
        if book.key is None:
            no_key = "there is no audit key to tell by what was changed: see `learngate doctor`"
            raise ConfigurationError(signing.KEY_LOST if book.links() else no_key)
        shown, mended = signing.mendable(book), 0
        if not json:
            for one in shown:
                say(f"learning {one.learning_id}: {flat(one.says)}")
                fate = (
                    "removed: nobody decided it" if one.version is None else f"revision {one.version} is put back"
                )
                say(f"  → {fate}")
        if shown:
            _ask(f"mend {counted(len(shown), 'learning')}", yes=yes, json=json)
            mended = signing.mend(book, shown)
        left = list(all_faults(book))
        if shown and not json:
            say(f"mended {counted(mended, 'learning')}")
            if mended < len(shown):
                note(f"{counted(len(shown) - mended, 'learning')} changed while it was shown: look again")
        elif not json:
            nothing = "no signed revision is there that could be put back, and not all is as it was signed:"
            say(nothing if left else "every learning is what its newest signed revision says")
        _end(ctx, book, {"shown": shown, "mended": mended}, left=left, json=json)


def _begin_head(book: Ledger, left: Sequence[Fault], *, yes: bool, json: bool) -> bool:
    """Begin the head file of a ledger that never had one, if the whole chain is as it was signed."""
    from learngate.stores.signing import begin_head

    assert book.head is not None
    if left:
        if not json:
            say(f"the head file {book.head.path} is not begun: first see to what is not as it was signed")
        return False
    verified = f"{counted(book.links(), 'link')} verified"
    if not json:
        say(f"{verified}; these signatures never had a head file")
    _ask(f"begin the head file {book.head.path}", yes=yes, json=json, declined="the head file is not begun")
    begin_head(book)
    if not json:
        say(f"begun the head file {book.head.path}: keep it away from the database, and away from its backups")
    return True


def _end(
    ctx: typer.Context, book: Ledger, report: dict[str, Any], *, left: Sequence[Fault] | None = None, json: bool
) -> None:
    """Say what doctor would still find, and end with exit status 1 where that is something."""
    from learngate.stores.verify import all_faults

    left = list(all_faults(book)) if left is None else left
    if json:
        say_json(report | {"left": left})
    else:
        for fault in left[:MOST]:
            say(f"{fault.where}: {flat(fault.says)}")
            say(f"  → {with_db(fault.todo, db_option(ctx))}")
        if len(left) > MOST:
            say(f"{len(left) - MOST:,} more: {suggested('doctor', '--verify', db=db_option(ctx))}")
    if left:
        raise typer.Exit(REFUSED)


def _report(
    shown: Sequence[Candidate], signed: int, book: Ledger, *, made: str | None = None, begun: bool = False
) -> dict[str, Any]:
    """Return what a command did, for a program."""
    rows = [
        {"kind": one.link.kind, "id": one.link.row_id, "revision": one.link.revision or None, "says": one.says}
        for one in shown
    ]
    head = None if book.head is None else str(book.head.path)
    return {"shown": rows, "signed": signed, "key_made": made, "head": head, "head_begun": begun}


def _no_place(name: str) -> str:
    from learngate.stores.keys import KEY_VARIABLE

    return (
        f"{name} has no folder to keep a key in: set {KEY_VARIABLE} to at least 32 random"
        " characters, such as those of `openssl rand -hex 32`"
    )


def _agree(shown: Sequence[Candidate], what: str, *, yes: bool, json: bool) -> None:
    if not json:
        for one in shown:
            say(flat(one.says))
    _ask(what, yes=yes, json=json)


def _ask(what: str, *, yes: bool, json: bool, declined: str = "nothing was changed") -> None:
    if yes:
        return
    if json or not on_terminal():
        raise typer.BadParameter(f"there is nobody to ask whether to {what}: add --yes", param_hint="audit")
    try:
        agreed = ask_line(f"{what}? [y/N] ▸ ").strip().lower() in {"y", "yes"}
    except (EOFError, KeyboardInterrupt):
        agreed = False
    if not agreed:
        note(declined)
        raise typer.Exit(REFUSED)


def _these(shown: Sequence[Candidate]) -> str:
    learned = {one.link.row_id for one in shown if one.link.kind == "revision"}
    decided = sum(one.link.kind == "decision" for one in shown)
    return f"{counted(decided, 'decision')} and {counted(len(learned), 'learning')}"


def _signed(shown: Sequence[Candidate], book: Ledger) -> None:
    head = "" if book.head is None or not book.has_head() else f" · head file {book.head.path}"
    say(f"signed {_these(shown)}{head}")
