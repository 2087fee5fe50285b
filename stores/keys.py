"""Where the key that signs what was learned is kept, and how one is made: never in the database."""

from __future__ import annotations

import os
import secrets
import stat
from pathlib import Path

from learngate.stores.audit import Key
from learngate.stores.database import Database
from learngate.stores.errors import ConfigurationError
from learngate.stores.head import Head, sync_folder
from learngate.stores.text import fingerprint

KEY_VARIABLE = "LEARNGATE_AUDIT_KEY"
HEAD_VARIABLE = "LEARNGATE_AUDIT_HEAD"
SHORTEST = 32
"""Bytes that a key has at the least: 32 random hexadecimal digits are 128 bits."""


def find_key(database: Database, given: str | None = None) -> Key | None:
    """Return the key that was given, else the environment's, else the one in the file beside the database.

    Raises:
        ConfigurationError: a key that is too short, or a key file that cannot be read or that others can.
    """
    if given is not None:
        if not isinstance(given, str):
            raise ConfigurationError(f"audit_key= is text, not {type(given).__name__}")
        return _key(given.encode(errors="surrogatepass"), "audit_key=")
    named = os.environ.get(KEY_VARIABLE)
    if named is not None:
        return _key(named.encode(errors="surrogateescape"), KEY_VARIABLE)
    path = key_path(database)
    return None if path is None else _from_file(path)


def find_head(database: Database) -> Head | None:
    """Return the head file that the environment names, else the one beside the database, where it is a file.

    The environment may name a folder: then each database has a file of its own in it. A database in memory has no
    older copy, and no head.
    """
    if database.in_memory:
        return None
    path, named = _beside(database), os.environ.get(HEAD_VARIABLE)
    if named and Path(named).is_dir():
        place = (database.url.host, database.url.port, database.url.database) if path is None else path.absolute()
        return Head(Path(named) / f"{Path(str(database.url.database)).name}-{fingerprint(str(place))[:8]}.head")
    if named:
        return Head(Path(named))
    return None if path is None else Head(path.with_name(f"{path.name}.head"))


def key_path(database: Database) -> Path | None:
    """Return where the key file of a database is; `None` where it has no file to be beside."""
    path = _beside(database)
    return None if path is None else path.with_name(f"{path.name}.key")


def new_key(path: Path) -> Key:
    """Return a new random key, to be kept in a file; it is not written yet."""
    return Key(secrets.token_hex(32).encode(), str(path))


def write_key(key: Key, path: Path) -> None:
    """Write a key to a new file that only its owner may read.

    Raises:
        ConfigurationError: it is there already, or cannot be made.
    """
    try:
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            os.write(file, key.secret + b"\n")
            os.fsync(file)
        finally:
            os.close(file)
        sync_folder(path)
    except OSError as error:
        raise ConfigurationError(f"the key file {path} cannot be made: {error}") from error


def _from_file(path: Path) -> Key | None:
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            secret = file.read(4096)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ConfigurationError(f"the key file {path} cannot be read: {error}") from error
    if os.name == "posix" and mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise ConfigurationError(f"the key file {path} can be read by others: chmod 600 {path}")
    return _key(secret, str(path))


def _key(secret: bytes, source: str) -> Key:
    secret = secret.strip()
    if len(secret) < SHORTEST or len(set(secret)) < 8:
        raise ConfigurationError(
            f"the audit key from {source} is too short or too simple: give at least {SHORTEST} random characters,"
            " such as those of `openssl rand -hex 32`"
        )
    return Key(secret, source)


def _beside(database: Database) -> Path | None:
    if database.dialect != "sqlite" or database.in_memory:
        return None
    return Path(str(database.url.database).removeprefix("file:"))
