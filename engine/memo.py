"""Memos: what was worked out before, in files beside the records; only ever a cache.

A memo is a value of Python's own plain kinds under a name that stands for all that it was made of.
Its file begins with the digest of its bytes, so that damage is seen; the collector removes memos
as it removes records that nobody used for long.
"""

from __future__ import annotations

import contextlib
import marshal
import os
import sys
import time
from pathlib import Path
from typing import Any, Final

from blake3 import blake3

from store import stock

FORMAT: Final = f"bn memo 1 {sys.implementation.cache_tag} {marshal.version}\n".encode()
"""What the digest of a memo begins with: another Python has another form of bytes."""

RENEW_SECONDS: Final = 86400
"""Age from which a memo is touched when it is used."""

_LENGTH: Final = 32


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
    """Write a memo; where that fails there is none."""
    data = marshal.dumps(value)
    temporary = f"{path}.{os.getpid()}"
    try:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(temporary, "wb", buffering=0) as file:
            file.write(blake3(FORMAT).update(data).digest())
            view = memoryview(data)
            while view:
                view = view[file.write(view) :]
        os.replace(temporary, path)
        stock.missed(stock.MEMO, path)
    except OSError:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
