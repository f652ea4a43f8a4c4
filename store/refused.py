"""Refused digests: results and realisations that are not taken from anybody any more.

A file of lines, digest and reason, that only grows. It stands beside the index, so that what was
found to be bad does not come back when that is made again. What is built here is never refused.

A result names its log, so another one with the same outputs has another digest: it is refused by
its *pair*, the digest of action and outputs together.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from store.digest import Digest, digest_bytes, is_digest
from store.errors import host_error

NAME: Final = "refused"


def pair(action: Digest, outputs: Digest) -> Digest:
    """Return the digest that stands for an action and what it gave."""
    return digest_bytes(f"{action} {outputs}".encode())


def read_refused(root: Path) -> frozenset[Digest]:
    """Return the digests that the store at `root` refuses; raises HostError."""
    try:
        text = (root / NAME).read_text(errors="replace")
    except FileNotFoundError:
        return frozenset()
    except OSError as error:
        raise host_error(error, "cannot read what is refused") from error
    words = (line.partition(" ")[0] for line in text.splitlines())
    return frozenset(Digest(word) for word in words if is_digest(word))


def refuse(root: Path, digests: Iterable[Digest], why: str) -> None:
    """Refuse digests from now on, durably; `why` is one line. Raises HostError."""
    reason = " ".join(why.split())
    known = read_refused(root)
    lines = [f"{one} {reason}\n" for one in dict.fromkeys(digests) if one not in known]
    if not lines:
        return
    path = root / NAME
    try:
        root.mkdir(parents=True, exist_ok=True)
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
        with contextlib.closing(os.fdopen(handle, "rb+", buffering=0)) as file:
            fcntl.flock(handle, fcntl.LOCK_EX)
            size = os.fstat(handle).st_size
            cut = size and os.pread(handle, 1, size - 1) != b"\n"  # somebody was killed
            data = memoryview(("\n" * bool(cut) + "".join(lines)).encode())
            while data:
                data = data[file.write(data) :]
            os.fsync(handle)
    except OSError as error:
        raise host_error(error, "cannot note what is refused") from error
