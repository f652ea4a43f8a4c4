"""Channels: what bn and the cells behind a wall say to each other; see behind/server.py."""

from __future__ import annotations

import _socket
import contextlib
import marshal
import os
import struct
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from executors.waiting import readable
from executors.wall import Wall
from store.errors import HostError

_AGAIN = "run the build again, or with --executor bubblewrap"


class SetUpFailed(Exception):
    """A sandbox could not be made, so no command started in it; says why."""


class Channel:
    """The messages to and from one cell; `inner` is its process id behind the wall."""

    inner: int

    def __init__(self, ours: _socket.socket) -> None:
        ours.setblocking(False)
        self._socket = ours
        self._buffer = b""

    def fileno(self) -> int:
        """Return the descriptor that is readable when there is a message."""
        return self._socket.fileno()

    def moved(self, descriptor: int) -> None:
        """Go on with another number for its descriptor; the one before is somebody else's."""
        self._socket.detach()
        self._socket = _socket.socket(fileno=descriptor)
        self._socket.setblocking(False)

    def send(self, message: Mapping[str, Any]) -> bool:
        """Send a message to a cell that waits for one, or soon will; say whether it is there."""
        data = marshal.dumps(dict(message))
        data = struct.pack("=I", len(data)) + data
        try:
            with contextlib.suppress(BlockingIOError):
                data = data[self._socket.send(data) :]
            if data:
                self._socket.setblocking(True)
                self._socket.sendall(data)
                self._socket.setblocking(False)
        except OSError:
            return False
        return True

    async def next(self) -> dict[str, Any]:
        """Return the next message. Raises HostError where the server is gone."""
        while (message := self.poll()) is None:
            await readable(self.fileno())
        return message

    def poll(self) -> dict[str, Any] | None:
        """Return the next message if it is there. Raises HostError where the server is gone."""
        while True:
            if len(self._buffer) >= 4:
                end = 4 + struct.unpack_from("=I", self._buffer)[0]
                if len(self._buffer) >= end:
                    data, self._buffer = self._buffer[4:end], self._buffer[end:]
                    message: dict[str, Any] = marshal.loads(data)
                    return message
            try:
                data = self._socket.recv(65536)
            except BlockingIOError:
                return None
            except ConnectionResetError:
                data = b""
            if not data:
                raise HostError("the sandbox server ended unexpectedly", _AGAIN)
            self._buffer += data

    async def end(self) -> dict[str, Any]:
        """End the cell and all that runs in it; return what it used when it is gone.

        Raises HostError where the server is gone.
        """
        with contextlib.suppress(OSError):
            self._socket.shutdown(_socket.SHUT_WR)
        while True:
            message = await self.next()
            if "gone" in message:
                return message

    def close(self) -> None:
        """Let go of the cell: it ends without being waited for."""
        self._socket.close()


def ask_for_cell(wall: Wall, request: Mapping[str, Any], entrances: list[Path]) -> Channel:
    """Have a cell made that joins the control groups of `entrances`; return its channel, of which
    `made` tells when it is there. The server need not have started yet.

    Raises HostError where the server is gone.
    """
    ours, theirs = _socket.socketpair()
    handed = [theirs.detach()]
    try:
        handed += [os.open(path, os.O_WRONLY | os.O_CLOEXEC) for path in entrances]
        rights = b"".join(one.to_bytes(4, sys.byteorder) for one in handed)
        message = [marshal.dumps(dict(request))]
        wall.control.sendmsg(message, [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, rights)])
    except OSError as error:
        ours.close()
        raise HostError(f"the sandbox server is gone: {error}", _AGAIN) from error
    finally:
        for descriptor in handed:
            os.close(descriptor)
    return Channel(ours)


async def made(channel: Channel) -> None:
    """Wait until a cell is made. Raises SetUpFailed where it cannot be, HostError where the server
    is gone; then the channel is closed."""
    said: dict[str, Any] = {}
    try:
        while "pid" not in said or not ("ready" in said or "error" in said):
            said |= await channel.next()  # from the server and from the cell, in either order
            if "gone" in said:
                said.setdefault("error", "a sandbox ended while it was made")
                break
    except BaseException:
        channel.close()
        raise
    if "error" in said:
        channel.close()
        raise SetUpFailed(said["error"])
    channel.inner = said["pid"]
