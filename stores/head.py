"""The ledger's head, kept in a file outside the database: what shows that a whole database is an older copy."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from learngate.stores.errors import ConfigurationError

_LINE = re.compile(rb"^(\d{1,18}) ([0-9a-f]{64})$", re.MULTILINE)
_TAIL = 4_096


@dataclass(frozen=True, slots=True)
class Tip:
    """One link of the ledger: its number and its MAC."""

    seq: int
    mac: str


START = Tip(0, "0" * 64)
"""Where a ledger without a link stands."""


class Head:
    """A file to which each commit appends the ledger's new end, as one line.

    Lines are only ever added, each by one write: so processes need no lock between them, what a crash leaves
    of a line is passed over, and the file can be made append-only (`chattr +a`). The largest number counts;
    a crash before the write leaves an older one, which is still a link of the ledger.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self) -> Tip | None:
        """Return the newest link that the file knows; `None` where it is missing or holds none."""
        try:
            with self.path.open("rb") as file:
                size = file.seek(0, os.SEEK_END)
                file.seek(max(0, size - _TAIL))
                found = _LINE.findall(file.read())
        except OSError:
            return None
        known = [Tip(int(seq), mac.decode()) for seq, mac in found]
        return max(known, key=lambda tip: tip.seq, default=None)

    def begin(self) -> None:
        """Make the file of a ledger that has no link yet, unless it is there.

        Raises:
            ConfigurationError: it cannot be made.
        """
        try:
            if not self.path.exists():
                self._append(START, os.O_CREAT | os.O_EXCL)
                sync_folder(self.path)
        except FileExistsError:
            pass
        except OSError as error:
            raise ConfigurationError(
                f"the head file {self.path} cannot be made, and nothing was stored: {error}"
            ) from error

    def advance(self, tip: Tip) -> None:
        """Add the ledger's new end."""
        self._append(tip, 0)

    def replace(self, tip: Tip) -> None:
        """Begin the file anew with this end, whatever it knew."""
        fresh = self.path.with_name(f"{self.path.name}.new")
        fresh.unlink(missing_ok=True)
        Head(fresh)._append(tip, os.O_CREAT | os.O_EXCL)
        fresh.replace(self.path)
        sync_folder(self.path)

    def lost(self) -> str:
        """Say that the file is missing or unreadable, and what to do."""
        return (
            f"the head file {self.path} is missing or holds no head,"
            " so that an older copy of the database would not be noticed"
        )

    def _append(self, tip: Tip, flags: int) -> None:
        file = os.open(self.path, os.O_WRONLY | os.O_APPEND | flags, 0o600)
        try:
            # The line end before it ends a line that a crash has torn.
            os.write(file, f"\n{tip.seq} {tip.mac}\n".encode())
            os.fsync(file)
        finally:
            os.close(file)


def sync_folder(path: Path) -> None:
    """Make sure that a new name in a folder survives a power cut."""
    if os.name != "posix":
        return
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
