"""Patience with clients: how long each is waited for."""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio
from outcome import Error

from engine.http.message import Failure
from engine.http.serving import refuse
from engine.http.states import State, Waits

if TYPE_CHECKING:
    from engine.http.connection import Connection


def look(connection: Connection, now: float) -> None:
    """Act where the client is too slow."""
    limits = connection.server.limits
    waited = now - connection.since
    waits = connection.waits
    if waits is Waits.REQUEST:
        if waited > limits.idle_seconds or connection.server.ending:
            connection.close()
    elif waits is Waits.HEAD:
        if waited > limits.head_seconds:
            if connection.state is State.IDLE:
                refuse(connection, Failure(408, "the request took too long to come"))
                connection.advance()
            else:
                connection.close()
    elif waits is Waits.END:
        if waited > limits.linger_seconds:
            connection.close()
    elif waits is not Waits.NOTHING and connection.waited + waited > limits.stall_seconds:
        if connection.moved < limits.least_rate * limits.stall_seconds:
            _stalled(connection, waits)
        else:
            connection.moved, connection.waited, connection.since = 0, 0.0, now


def _stalled(connection: Connection, waits: Waits) -> None:
    if waits is Waits.BODY and connection.waiter is not None:
        waiter, connection.waiter = connection.waiter, None
        connection.keep = False
        failure = Failure(408, "the body comes too slowly")
        trio.lowlevel.reschedule(waiter, Error(failure))
    else:
        connection.close("the client takes the answer too slowly", abort=True)
