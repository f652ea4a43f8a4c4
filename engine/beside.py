"""What goes on beside the executions of a build: each function is a task of the loop's nursery."""

from __future__ import annotations

import signal
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from store.errors import BnError

if TYPE_CHECKING:
    import trio

    from engine.committing import Commits
    from engine.places import Places
    from engine.seats import Seats


SOON: Final = 0.01
"""Seconds by which a look at the sensors may be early."""


async def commit_often(commits: Commits, failed: Callable[[BnError], object]) -> None:
    """Commit regularly; `failed` is told why that cannot go on."""
    try:
        await commits.regularly()
    except BnError as error:
        failed(error)


async def look_again(places: Places, seats: Seats, wake: Callable[[], object]) -> None:
    """Every few seconds, where the seats want that, have what waits looked at, and take in how warm
    the nodes are, as often as the thermometer wants."""
    import trio

    thermometer, looked = places.thermometer, trio.current_time()
    while seats.every is not None:
        await trio.sleep(seats.every)
        if thermometer is not None and trio.current_time() >= looked + thermometer.every - SOON:
            looked = trio.current_time()
            seats.warm(await thermometer.look())
        wake()


async def watch_signals(
    interrupt: Callable[[int], object], *, task_status: trio.TaskStatus[None]
) -> None:
    """Turn SIGINT and SIGTERM into an orderly end: `interrupt` is told which of them came."""
    import trio

    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        task_status.started()
        async for number in signals:
            interrupt(number)
