"""Sockets in a store's directory that only its user can ask on."""

from __future__ import annotations

import os
import socket
from pathlib import Path


def listen(directory: Path, name: str) -> socket.socket:
    """Return a new socket of that name to listen on, in place of an older one. A path may be too
    long for an address, so the way is by the directory's descriptor. Raises OSError."""
    (directory / name).unlink(missing_ok=True)
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    handle = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    before = os.umask(0o177)
    try:
        listening.bind(f"/proc/self/fd/{handle}/{name}")
    finally:
        os.umask(before)
        os.close(handle)
    listening.listen(16)
    return listening


def is_own(directory: Path, name: str, inode: int) -> bool:
    """Say whether the socket that people find is the one of that inode."""
    try:
        return os.stat(directory / name).st_ino == inode
    except OSError:
        return False


def remove_own(directory: Path, name: str, inode: int) -> None:
    """Remove the socket, unless another one has its name by now."""
    if is_own(directory, name, inode):
        (directory / name).unlink(missing_ok=True)
