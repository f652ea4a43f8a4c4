"""Memos: what was worked out before, in files beside the records; only ever a cache.

A memo is a value of Python's own plain kinds under a name that stands for all that it was made of.
Its file begins with the digest of its bytes, so that damage is seen; the collector removes memos
as it removes records that nobody used for long.
"""

from __future__ import annotations

import contextlib
import functools
import marshal
import os
import sys
import time
from collections.abc import Collection, Iterable, Iterator
from itertools import chain, islice
from pathlib import Path
from typing import Any, Final

from blake3 import blake3

from executors import leaving
from store import stock

FORMAT: Final = f"bn memo 1 {sys.implementation.cache_tag} {marshal.version}\n".encode()
"""What the digest of a memo begins with: another Python has another form of bytes."""

RENEW_SECONDS: Final = 86400
"""Age from which a memo is touched when it is used."""

_LENGTH: Final = 32

PORTION: Final = 1024
"""Members of a large value that are made bytes at a time, as all of them would take much room."""

MOST_HELD: Final = 1 << 18
"""Bytes of a memo that are held until there is time to write it."""

FEW: Final = 64
"""Members up to which each of them is looked at by itself."""

_WITHOUT_REFERENCES: Final = 2
"""A version of marshal in which the bytes of a value are those of its members in a row."""


def memo_path(root: Path, kind: str, *made_of: str) -> str:
    """Return where the memo of that kind lies in the store at `root`, made of those words."""
    name = blake3("\0".join([kind, *made_of]).encode("utf-8", "surrogateescape")).hexdigest()
    return f"{root}/records/{name[:32]}.{kind}"


def read_memo(path: str) -> Any:
    """Return the memo at `path`, None where there is none or it is damaged."""
    try:
        with open(path, "rb", buffering=0) as file:
            digest = file.read(_LENGTH)
            value = stock.known(stock.MEMO, digest)
            if value is None:
                stock.missed(stock.MEMO, path)
                value = parsed(digest, file.readall())
            age = time.time() - os.fstat(file.fileno()).st_mtime
    except (OSError, ValueError, EOFError, TypeError):
        return None
    if age > RENEW_SECONDS:
        with contextlib.suppress(OSError):  # the store is read-only, say
            os.utime(path)
    return value


def parsed(digest: bytes, data: bytes) -> Any:
    """Return the value of a memo's bytes, which begin with their digest; None where they are
    damaged. Raises ValueError, EOFError and TypeError for what is no value."""
    return marshal.loads(data) if blake3(FORMAT).update(data).digest() == digest else None


def write_memo(path: str, value: Any) -> None:
    """Write a memo; where that fails there is none. A collection of another kind than Python's
    plain ones is read again as a list.

    Where somebody waits for this process's answer, a small one is written after that (`leaving`).
    """
    pieces, held, size = _pieces(value), list[bytes](), 0
    if leaving.is_held():
        for piece in pieces:
            held.append(bytes(piece))
            size += len(piece)
            if size > MOST_HELD:
                break
        else:
            leaving.at_last(functools.partial(_write, path, held))
            return
    _write(path, chain(held, pieces))


def _write(path: str, pieces: Iterable[bytes | bytearray]) -> None:
    temporary = f"{path}.{os.getpid()}"
    hasher = blake3(FORMAT)
    try:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(temporary, "wb") as file:
            file.write(bytes(_LENGTH))
            for piece in pieces:
                hasher.update(piece)
                file.write(piece)
            file.seek(0)
            file.write(hasher.digest())
        os.replace(temporary, path)
        stock.missed(stock.MEMO, path)
    except OSError:
        with contextlib.suppress(OSError):
            os.unlink(temporary)


def _pieces(value: Any) -> Iterator[bytes | bytearray]:
    """Yield the bytes of a value, piece by piece where it is large: `marshal.loads` takes them."""
    if isinstance(value, bytes | bytearray):
        yield b"s" + _number(len(value))
        yield value
    elif isinstance(value, dict):
        yield b"{"
        if len(value) <= FEW:
            for key, one in value.items():
                yield marshal.dumps(key, _WITHOUT_REFERENCES)
                yield from _pieces(one)
        else:
            rows = iter(value.items())
            while part := dict(islice(rows, PORTION)):
                yield marshal.dumps(part, _WITHOUT_REFERENCES)[1:-1]
        yield b"0"
    elif isinstance(value, Collection) and not isinstance(value, str | set | frozenset):
        yield (b"(" if isinstance(value, tuple) else b"[") + _number(len(value))
        members = iter(value)
        if len(value) <= FEW:
            for one in members:
                yield from _pieces(one)
        else:
            while portion := list(islice(members, PORTION)):
                yield marshal.dumps(portion, _WITHOUT_REFERENCES)[5:]
    else:
        yield marshal.dumps(value, _WITHOUT_REFERENCES)


def _number(number: int) -> bytes:
    return number.to_bytes(4, "little")
