"""The ledger's head, kept in a file outside the database: what shows that a whole database is an older copy."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
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


FileId = tuple[int, int]
"""Which file it is that has a name: its device and its number there."""
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

    def check(self) -> None:
        """Make sure, before anything is stored, that a line can be added.

        Raises:
            ConfigurationError: it cannot.
        """
        with self._refusing("nothing was changed"):
            if self.path.exists():
                os.close(os.open(self.path, os.O_WRONLY | os.O_APPEND))
            elif not self.path.parent.is_dir():
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
            elif not os.access(self.path.parent, os.W_OK | os.X_OK):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    def check_replace(self) -> None:
        """Make sure, before anything is stored, that the file can be begun anew.

        Raises:
            ConfigurationError: it cannot: an append-only file (`chattr +a`) does not let itself be replaced.
        """
        with self._refusing("nothing was changed"):
            try:
                self._stage(START)
            finally:
                self._fresh.unlink(missing_ok=True)

    def begin(self) -> None:
        """Make the file of a ledger that has no link yet, unless it is there.

        Raises:
            ConfigurationError: it cannot be made.
        """
        with self._refusing("nothing was stored"):
            try:
                if not self.path.exists():
                    self._append(START, os.O_CREAT | os.O_EXCL)
                    sync_folder(self.path)
            except FileExistsError:
                pass

    def file_id(self) -> FileId | None:
        """Return which file it is now; `None` where it is missing."""
        try:
            found = self.path.stat()
        except OSError:
            return None
        return found.st_dev, found.st_ino

    def advance(self, tip: Tip, of: FileId | None = None) -> None:
        """Add the ledger's new end; not where the file is another than `of` by now, because it was begun anew."""
        self._append(tip, 0, of)

    def stage(self, tip: Tip) -> None:
        """Write beside the file, inside the transaction, what is to replace it once that is committed.

        Raises:
            ConfigurationError: it cannot be written, or not replace the file.
        """
        with self._refusing("nothing was stored"):
            self._stage(tip)

    def install(self) -> None:
        """Begin the file anew with what was staged, whatever it knew."""
        self._fresh.replace(self.path)
        sync_folder(self.path)

    @property
    def _fresh(self) -> Path:
        return self.path.with_name(f"{self.path.name}.new")

    def _stage(self, tip: Tip) -> None:
        self._fresh.unlink(missing_ok=True)
        Head(self._fresh)._append(tip, os.O_CREAT | os.O_EXCL)
        if self.path.exists():  # Not to append: so a file that can only be appended to says no, as a folder does.
            os.close(os.open(self.path, os.O_WRONLY))

    @contextmanager
    def _refusing(self, outcome: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise ConfigurationError(self.unwritten(error, outcome)) from error

    def unwritten(self, error: OSError, outcome: str) -> str:
        """Say that the file cannot be written, what that led to, and what to do."""
        return (
            f"the head file {self.path} cannot be written, and {outcome} ({error.strerror or error}): make it"
            " a file that you may write to, in a folder that is there and that you may write to (append-only:"
            " `chattr -a`), or name another place in LEARNGATE_AUDIT_HEAD"
        )

    def lost(self) -> str:
        """Say that the file is missing or unreadable, and what to do."""
        return (
            f"the head file {self.path} is missing or holds no head,"
            " so that an older copy of the database would not be noticed"
        )

    def unbegun(self) -> str:
        """Say that the file of a ledger that never had one is not begun."""
        return f"the head file {self.path} is not begun yet: an older copy of the database would not be noticed"

    def _append(self, tip: Tip, flags: int, of: FileId | None = None) -> None:
        file = os.open(self.path, os.O_WRONLY | os.O_APPEND | flags, 0o600)
        try:
            found = os.fstat(file)
            if of not in {None, (found.st_dev, found.st_ino)}:
                return
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
