"""What a connection has still to send: bytes and parts of files, as fast as the client takes it."""

from __future__ import annotations

import os
import socket
import ssl
from collections import deque
from typing import Final

_MORE: Final = socket.MSG_MORE
_TURN: Final = 2 * 2**20
"""Bytes that are sent of a file before others have their turn."""

_PIECE: Final = 512 * 1024
_COPIED: Final = 64 * 1024
"""Bytes of a file that are read at once where it cannot be sent by the kernel (TLS)."""


class Broken(Exception):
    """The connection cannot be used any more."""


class File:
    """A part of a file that is to be sent; the descriptor is this one's."""

    __slots__ = ("at", "descriptor", "left")

    def __init__(self, descriptor: int, start: int, length: int) -> None:
        self.descriptor = descriptor
        self.at = start
        self.left = length

    def close(self) -> None:
        """Close the file."""
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1


class Outgoing:
    """A queue on a socket that does not block."""

    __slots__ = ("_pieces", "_secure", "_socket", "sent")

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self._secure = isinstance(sock, ssl.SSLSocket)
        self._pieces: deque[memoryview | File] = deque()
        self.sent = 0
        """Bytes that the kernel took, in all."""

    def __bool__(self) -> bool:
        return bool(self._pieces)

    def add(self, data: bytes | memoryview) -> None:
        """Queue bytes."""
        if data:
            self._pieces.append(memoryview(data))

    def send_first(self, data: bytes) -> bool:
        """Send bytes before anything is queued, and queue the rest; return whether that is none.
        Raises Broken."""
        if self._pieces or self._secure:
            self.add(data)
            return False
        try:
            taken = self._socket.send(data)
        except BlockingIOError:
            taken = 0
        except OSError as error:
            raise Broken(error.strerror or str(error)) from None
        self.sent += taken
        if taken == len(data):
            return True
        self._pieces.append(memoryview(data)[taken:])
        return False

    def add_file(self, file: File) -> None:
        """Queue a part of a file."""
        if file.left:
            self._pieces.append(file)
        else:
            file.close()

    def send(self) -> bool:
        """Send what can be sent. Return whether the socket took all that it was offered: where it
        is true and something is left, others should have their turn. Raises Broken."""
        turn = 0
        while self._pieces and turn < _TURN:
            piece = self._pieces[0]
            try:
                taken = self._send_file(piece) if isinstance(piece, File) else self._send(piece)
            except (BlockingIOError, ssl.SSLWantWriteError, ssl.SSLWantReadError):
                return False
            except (OSError, ssl.SSLError) as error:
                raise Broken(str(error)) from None
            self.sent += taken
            turn += taken
        return True

    def close(self) -> None:
        """Forget what is left."""
        for piece in self._pieces:
            if isinstance(piece, File):
                piece.close()
        self._pieces.clear()

    def _send(self, piece: memoryview) -> int:
        more = len(self._pieces) > 1 and not self._secure
        taken = self._socket.send(piece, _MORE if more else 0)
        if taken == len(piece):
            self._pieces.popleft()
        else:
            self._pieces[0] = piece[taken:]
        return taken

    def _send_file(self, file: File) -> int:
        if self._secure:
            data = os.pread(file.descriptor, min(file.left, _COPIED), file.at)
            taken = self._socket.send(data) if data else 0
        else:
            most = min(file.left, _PIECE)
            taken = os.sendfile(self._socket.fileno(), file.descriptor, file.at, most)
        if not taken:
            raise Broken("the file is shorter than it was")
        file.at += taken
        file.left -= taken
        if not file.left:
            file.close()
            self._pieces.popleft()
        return taken
