"""Tokens: who may ask a server for what, in a file that holds no token.

A token is `bn_ID_SECRET`: 48 random bits that find its row and 256 that prove it. The row holds the
BLAKE3 digest of the whole text, keyed with the row's own random salt; a secret of that length needs
no slow hash. The file belongs to the server's user alone (mode 0600).
"""

from __future__ import annotations

import base64
import contextlib
import fcntl
import hmac
import json
import os
import re
import secrets
import stat
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from attrs import frozen
from blake3 import blake3

from engine.http.message import Identity, Scope
from store.errors import HostError, InputError, host_error

VERSION: Final = 1
PREFIX: Final = "bn_"

SCOPES: Final = {"read": Scope.READ, "write": Scope.WRITE, "admin": Scope.ADMIN}

is_name: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}").fullmatch
"""Says whether a text may name a token or a name space."""

_TOKEN: Final = re.compile(r"bn_([0-9a-f]{12})_[A-Za-z0-9_-]{43}")


@frozen(kw_only=True)
class Token:
    """A token's row. `name_spaces` is empty where it is for all of them; `created` and `expires`
    are in seconds since 1970, None where it does not expire."""

    id: str
    name: str
    scope: str
    name_spaces: tuple[str, ...] = ()
    salt: str
    hash: str
    created: float
    expires: float | None = None

    @property
    def identity(self) -> Identity:
        """Who shows the token."""
        return Identity(self.name, SCOPES[self.scope], frozenset(self.name_spaces))

    def is_expired(self, now: float) -> bool:
        """Say whether the token counts no more at the time `now`."""
        return self.expires is not None and now >= self.expires

    def proves(self, text: str) -> bool:
        """Say, in a time that does not depend on the answer, whether `text` is this token."""
        return hmac.compare_digest(_hash(text, self.salt), self.hash)


def token_id(text: str) -> str | None:
    """Return the id in a token's text, None where it has not the form of one."""
    match = _TOKEN.fullmatch(text)
    return match[1] if match else None


def make_token(
    name: str,
    scope: str,
    name_spaces: tuple[str, ...] = (),
    expires: float | None = None,
) -> tuple[str, Token]:
    """Return a new token's text, which nobody can get again, and its row. Raises InputError."""
    for one in (name, *name_spaces):
        if not is_name(one):
            hint = "letters, digits, `.`, `_` and `-`, at most 64, beginning with one of the first"
            raise InputError(f"{one!r} cannot be a name", hint)
    number = secrets.token_hex(6)
    text = f"{PREFIX}{number}_{_base64(secrets.token_bytes(32))}"
    salt = secrets.token_hex(32)
    row = Token(
        id=number,
        name=name,
        scope=scope,
        name_spaces=tuple(dict.fromkeys(name_spaces)),
        salt=salt,
        hash=_hash(text, salt),
        created=round(time.time(), 3),
        expires=expires,
    )
    return text, row


def read_tokens(path: Path) -> dict[str, Token]:
    """Return the tokens in the file at `path`, by id.

    Raises FileNotFoundError where there is none, HostError where others could read or write it, and
    InputError where it is no such file.
    """
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            status = os.fstat(handle)
            _check_owner(path, status)
            data = os.read(handle, status.st_size)
        finally:
            os.close(handle)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise host_error(error, "cannot read the tokens") from error
    try:
        document = json.loads(data)
        if document["version"] != VERSION:
            raise InputError(f"{path}: tokens of version {document['version']!r}")
        rows = [_row(one) for one in document["tokens"]]
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise InputError(f"{path}: is no file of tokens: {error!r}") from None
    return {row.id: row for row in rows}


@contextlib.contextmanager
def editing(path: Path) -> Iterator[dict[str, Token]]:
    """Give the tokens in the file at `path` to be changed, and write them, whole or not at all.

    One process at a time. Raises as `read_tokens` does, but makes a file that is not there.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        lock = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise host_error(error, "cannot change the tokens") from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            rows = read_tokens(path)
        except FileNotFoundError:
            rows = {}
        yield rows
        _write(path, rows)
    finally:
        os.close(lock)


def _write(path: Path, rows: dict[str, Token]) -> None:
    plain = [_plain(row) for row in rows.values()]
    data = json.dumps({"version": VERSION, "tokens": plain}, indent=1).encode() + b"\n"
    temporary = f"{path}.{os.getpid()}"
    try:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with open(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(handle)
        os.replace(temporary, path)
        directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
    except OSError as error:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise host_error(error, "cannot write the tokens") from error


def _check_owner(path: Path, status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise HostError(f"{path}: is no regular file")
    if status.st_mode & 0o077:
        mode = stat.S_IMODE(status.st_mode)
        raise HostError(f"{path}: mode {mode:04o} lets others at the tokens", f"chmod 600 {path}")
    if status.st_uid not in (0, os.geteuid()):
        raise HostError(f"{path}: belongs to another user (id {status.st_uid})")


def _plain(row: Token) -> dict[str, Any]:
    return {
        "id": row.id,
        "name": row.name,
        "scope": row.scope,
        "name_spaces": list(row.name_spaces),
        "salt": row.salt,
        "hash": row.hash,
        "created": row.created,
        "expires": row.expires,
    }


def _row(plain: dict[str, Any]) -> Token:
    """Return the token in a row. Raises ValueError, TypeError, KeyError."""
    row = Token(**{**plain, "name_spaces": tuple(plain["name_spaces"])})
    texts: list[object] = [row.id, row.name, row.salt, row.hash, *row.name_spaces]
    if row.scope not in SCOPES or not all(isinstance(text, str) for text in texts):
        raise ValueError(f"a malformed token {row.name!r}")
    times: list[object] = [row.created, row.expires]
    if not all(isinstance(one, int | float | None) for one in times) or len(row.salt) != 64:
        raise ValueError(f"a malformed token {row.name!r}")
    return row


def _hash(text: str, salt: str) -> str:
    return blake3(text.encode("utf-8", "surrogateescape"), key=bytes.fromhex(salt)).hexdigest()


def _base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
