"""`learngate audit`: the key that signs what is learned, and what a person does where something is not signed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import typer

from learngate.app.lines import ask_line
from learngate.app.opening import db_option, opened, suggested
from learngate.app.options import Db, Yes
from learngate.app.screen import counted, flat, note, on_terminal, say
from learngate.app.status import REFUSED

if TYPE_CHECKING:
    from learngate.stores.audit import Ledger
    from learngate.stores.signing import Candidate

app = typer.Typer(no_args_is_help=True, help="Sign what is learned, so that a change past the gate is noticed.")


@app.command()
def init(ctx: typer.Context, yes: Yes = False, db: Db = None) -> None:
    """Make a key, and sign what has been learned so far.

    It is shown first. The key is a file beside the database: keep a copy of it elsewhere. With LEARNGATE_AUDIT_KEY
    set there is a key already: use `learngate audit sign`.
    """
    from learngate.stores import ConfigurationError
    from learngate.stores.audit import Ledger
    from learngate.stores.keys import KEY_VARIABLE, key_path, new_key, write_key
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
            raise ConfigurationError(
                f"{memory.database.name} has no folder to keep a key in: set {KEY_VARIABLE} to at least 32 random"
                " characters, such as those of `openssl rand -hex 32`"
            )
        key = new_key(path)
        book = Ledger(memory.database, key, memory.ledger.head)
        if book.head is not None:
            book.head.check()
        shown = unsigned(book)
        _agree(shown, f"make the key file {path} and sign {_these(shown)}", yes=yes)
        write_key(key, path)
        say(f"made {path}: keep a copy of it away from the database, and away from its backups")
        sign(book, shown)
        _signed(shown, book)


@app.command()
def sign(yes: Yes = False, db: Db = None) -> None:
    """Sign what is not signed yet, after showing it.

    That is what is from before there was a key, or what somebody inserted.
    """
    from learngate.stores import signing

    with opened(db) as memory:
        shown = signing.unsigned(memory.ledger)
        if memory.ledger.head is not None:
            memory.ledger.head.check()
        if not shown:
            signing.sign(memory.ledger, shown)  # for a head file that lags
            say("everything is signed")
            return
        _agree(shown, f"sign {_these(shown)}", yes=yes)
        signing.sign(memory.ledger, shown)
        _signed(shown, memory.ledger)


@app.command()
def restart(ctx: typer.Context, yes: Yes = False, db: Db = None) -> None:
    """Sign everything anew, as it is now.

    What is wrong with it is shown first. For a key that was lost or is to be replaced, a backup that was restored,
    or damage that you accept. Where there is no key, one is made. What the old signatures proved is gone.
    """
    from learngate.stores import signing
    from learngate.stores.audit import Ledger
    from learngate.stores.keys import key_path, new_key, write_key
    from learngate.stores.verify import all_faults

    with opened(db) as memory:
        book, fresh = memory.ledger, None
        if book.head is not None:
            book.head.check_replace()
        for fault in all_faults(book):
            say(f"{fault.where}: {flat(fault.says)}")
        if book.key is None:
            path = key_path(memory.database)
            if path is not None:
                fresh = new_key(path)
                book = Ledger(memory.database, fresh, book.head)
        shown = signing.everything(book)
        which = f"sign {_these(shown.rows)} as they are now, and forget the signatures there are"
        _agree(shown.rows, which, yes=yes)
        if fresh is not None and path is not None:
            write_key(fresh, path)
            say(f"made {path}: keep a copy of it away from the database, and away from its backups")
        signing.restart(book, shown)
        _signed(shown.rows, book)
        if late := signing.unsigned(book):
            note(f"{_these(late)} came in meanwhile, unsigned: {suggested('audit', 'sign', db=db_option(ctx))}")
        if signing.mendable(book):
            note(
                f"some learnings are not what their revisions say: {suggested('audit', 'mend', db=db_option(ctx))}"
            )


@app.command()
def mend(yes: Yes = False, db: Db = None) -> None:
    """Put back learnings that somebody changed past the gate.

    What their newest signed revisions say is put back. One that nobody decided is removed. Both are shown first.
    """
    from learngate.stores import ConfigurationError, signing

    with opened(db) as memory:
        if memory.ledger.key is None:
            raise ConfigurationError("there is no audit key to tell by what was changed: see `learngate doctor`")
        shown = signing.mendable(memory.ledger)
        if not shown:
            say("every learning is what its newest signed revision says")
            return
        for one in shown:
            say(f"learning {one.learning_id}: {flat(one.says)}")
            fate = "removed: nobody decided it" if one.version is None else f"revision {one.version} is put back"
            say(f"  → {fate}")
        _ask(f"mend {counted(len(shown), 'learning')}", yes=yes)
        mended = signing.mend(memory.ledger, shown)
        say(f"mended {counted(mended, 'learning')}")
        if mended < len(shown):
            note(f"{counted(len(shown) - mended, 'learning')} changed while it was shown: look again")


def _agree(shown: Sequence[Candidate], what: str, *, yes: bool) -> None:
    for one in shown:
        say(flat(one.says))
    _ask(what, yes=yes)


def _ask(what: str, *, yes: bool) -> None:
    if yes:
        return
    if not on_terminal():
        raise typer.BadParameter(f"there is nobody to ask whether to {what}: add --yes", param_hint="audit")
    try:
        agreed = ask_line(f"{what}? [y/N] ▸ ").strip().lower() in {"y", "yes"}
    except (EOFError, KeyboardInterrupt):
        agreed = False
    if not agreed:
        note("nothing was changed")
        raise typer.Exit(REFUSED)


def _these(shown: Sequence[Candidate]) -> str:
    learned = {one.link.row_id for one in shown if one.link.kind == "revision"}
    decided = sum(one.link.kind == "decision" for one in shown)
    return f"{counted(decided, 'decision')} and {counted(len(learned), 'learning')}"


def _signed(shown: Sequence[Candidate], book: Ledger) -> None:
    head = "" if book.head is None else f" · head file {book.head.path}"
    say(f"signed {_these(shown)}{head}")
