"""States of a connection, and what it may be waiting for."""

from __future__ import annotations

from enum import IntEnum


class State(IntEnum):
    """What a connection does."""

    HANDSHAKE = 0
    IDLE = 1
    SERVING = 2
    SENDING = 3
    LINGER = 4
    CLOSED = 5


class Waits(IntEnum):
    """What is waited for, to tell who is too slow."""

    NOTHING = 0
    REQUEST = 1
    HEAD = 2
    BODY = 3
    SPACE = 4
    END = 5
