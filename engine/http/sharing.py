"""Sharing of connections: each goes to the worker that has the fewest.

All workers listen on the same sockets; who accepts a connection while another has fewer hands the
descriptor over. How many each has stands in memory that all of them share::

    held[i]       connections that worker i has
    given[i][j]   descriptors that i handed to j, counted by i
    taken[j][i]   those that j took from i, counted by j
"""

from __future__ import annotations

import contextlib
import mmap
import socket
from collections.abc import Callable
from typing import Final

import trio

_LEAST: Final = 1
"""Connections more than another worker has, from which on new ones are handed to that one."""

_AT_ONCE: Final = 16


class Board:
    """The shared numbers, and a pair of sockets for each worker. Made before the workers are."""

    def __init__(self, workers: int) -> None:
        self.workers = workers
        self._numbers = memoryview(mmap.mmap(-1, 8 * (workers + 2 * workers**2))).cast("q")
        kinds = socket.AF_UNIX, socket.SOCK_SEQPACKET
        self._pairs = [socket.socketpair(*kinds) for _ in range(workers)]
        for pair in self._pairs:
            for end in pair:
                end.setblocking(False)

    def close(self) -> None:
        """Close the sockets."""
        for pair in self._pairs:
            for end in pair:
                end.close()

    def hold(self, worker: int, connections: int) -> None:
        """Note how many connections a worker has; 0 for one that has died."""
        self._numbers[worker] = connections

    def give(self, worker: int, sock: socket.socket) -> bool:
        """Hand a new connection to the worker that has the fewest; return False where that is
        `worker` itself, who is the one that asks, or where it cannot be done."""
        mine = self._load(worker)
        if not mine:
            return False
        other = min(range(self.workers), key=self._load)
        if other == worker or self._load(other) + _LEAST > mine:
            return False
        try:
            socket.send_fds(self._pairs[other][0], [bytes([worker])], [sock.fileno()])
        except OSError:
            return False
        self._numbers[self._given(worker, other)] += 1
        return True

    async def receive(self, worker: int, take: Callable[[socket.socket], None]) -> None:
        """Take what others hand over, until cancelled."""
        end = self._pairs[worker][1]
        while True:
            await trio.lowlevel.wait_readable(end)
            for _ in range(_AT_ONCE):
                try:
                    sender, descriptors, _, _ = socket.recv_fds(end, 1, 1)
                except OSError:
                    break
                if sender:
                    self._numbers[self._taken(worker, sender[0])] += 1
                for descriptor in descriptors:
                    with contextlib.suppress(OSError):
                        take(socket.socket(fileno=descriptor))

    def _load(self, worker: int) -> int:
        numbers = self._numbers
        load = numbers[worker]
        for other in range(self.workers):
            load += numbers[self._given(other, worker)] - numbers[self._taken(worker, other)]
        return load

    def _given(self, giver: int, taker: int) -> int:
        return self.workers * (1 + giver) + taker

    def _taken(self, taker: int, giver: int) -> int:
        return self.workers * (1 + self.workers + taker) + giver
