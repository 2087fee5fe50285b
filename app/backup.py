"""`learngate backup`: a copy of the database while it is in use."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from learngate.app.lines import Usage
from learngate.app.opening import opened
from learngate.app.options import Db, Json
from learngate.app.screen import after, busy, note, say, say_json


def backup(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The new file.", show_default=False)],
    json: Json = False,
    db: Db = None,
) -> None:
    """Copy the database while others go on writing.

    The copy is of one moment, and is checked. To go back to it, end what uses the database and put the file in
    its place. PostgreSQL has pg_dump.
    """
    if str(file) == "-":
        raise Usage("a backup needs a file: name one, such as copy.db")
    with opened(db, there=True) as memory, busy("copying …") as news:
        size = memory.backup(file, progress=lambda done, total: news(f"copying … {done:,} of {total:,} pages"))
        signed = memory.ledger.key is not None
    with after(f"copied to {file}, and checked"):
        if json:
            say_json({"file": str(file), "bytes": size})
            return
        say(f"copied {size / 1e6:.1f} MB to {file}, and checked it")
    if signed:
        note("the key that signs what is learned is not in it: keep it apart")
