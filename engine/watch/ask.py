"""The question to a watcher, as an up-to-date build asks it; so it imports next to nothing.

One packet there: `?`, the record's identity, its name, and where the asker sees files (mount
namespace and root directory), because elsewhere the same paths may be other files. One back: `=`
all is as it was, `!` something changed, `?` the asker has to look for itself. With `d` for the
first `?` the answer is `=` and the numbers of the record's files that changed (`told.py`), or `?`.
"""

from __future__ import annotations

import os
from _socket import AF_UNIX, SOCK_CLOEXEC, SOCK_SEQPACKET, socket

SECONDS = 0.05
"""How long an answer may take; to look for oneself takes less than that for most records."""

LONGEST = 100
"""Bytes of a path that a socket's address holds for certain."""


def ask(store: str, name: str, identity: bytes) -> bool | None:
    """Ask the store's watcher about a record: True where nothing changed, False where something
    did, None where there is no watcher or it does not know."""
    try:
        reply = talk(store, b"?" + identity + f"{name}\0{view()}".encode(), SECONDS)
    except OSError:
        return None
    return {b"=": True, b"!": False}.get(reply)


def talk(store: str, packet: bytes, seconds: float) -> bytes:
    """Send one packet to the store's watcher and return its answer. Raises OSError."""
    connection = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC)
    try:
        connection.settimeout(seconds)
        join(connection, f"{store}/watch", "socket")
        connection.send(packet)
        return connection.recv(1 << 18)
    finally:
        connection.close()


def join(connection: socket, directory: str, name: str) -> None:
    """Connect to the socket of that name, by the directory's descriptor where the path is too long
    for an address. Raises OSError."""
    path = f"{directory}/{name}"
    if len(os.fsencode(path)) <= LONGEST:
        connection.connect(path)
        return
    handle = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        connection.connect(f"/proc/self/fd/{handle}/{name}")
    finally:
        os.close(handle)


def view() -> str:
    """Return what tells whether two processes see the same files at the same paths."""
    root = os.stat("/")
    return f"{os.readlink('/proc/self/ns/mnt')} {root.st_dev}:{root.st_ino}"
