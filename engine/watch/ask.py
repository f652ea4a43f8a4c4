"""The question to a watcher, as an up-to-date build asks it; so it imports next to nothing.

One packet there: `?`, the record's identity, its name, and where the asker sees files (mount
namespace and root directory), because elsewhere the same paths may be other files. One back: `=`
all is as it was, `!` something changed, `?` the asker has to look for itself.
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
    directory = -1
    path = f"{store}/watch/socket"
    with_socket = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC)
    try:
        with_socket.settimeout(seconds)
        if len(os.fsencode(path)) > LONGEST:
            directory = os.open(f"{store}/watch", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            path = f"/proc/self/fd/{directory}/socket"
        with_socket.connect(path)
        with_socket.send(packet)
        return with_socket.recv(1 << 18)
    finally:
        with_socket.close()
        if directory >= 0:
            os.close(directory)


def view() -> str:
    """Return what tells whether two processes see the same files at the same paths."""
    root = os.stat("/")
    return f"{os.readlink('/proc/self/ns/mnt')} {root.st_dev}:{root.st_ino}"
