"""What goes on beside the executions of a build: each function is a task of the loop's nursery."""

from __future__ import annotations

import signal
from collections.abc import Callable
from typing import TYPE_CHECKING

from store.errors import BnError

if TYPE_CHECKING:
    import trio

    from engine.committing import Commits
    from engine.places import Places
    from engine.seats import Seats


async def commit_often(commits: Commits, failed: Callable[[BnError], object]) -> None:
    """Commit regularly; `failed` is told why that cannot go on."""
    try:
        await commits.regularly()
    except BnError as error:
        failed(error)


async def look_again(places: Places, seats: Seats, wake: Callable[[], object]) -> None:
    """Every few seconds, where the seats want that, take in how warm the nodes are, and have what
    waits looked at."""
    import trio

    while seats.every is not None:
        await trio.sleep(seats.every)
        if places.thermometer is not None:
            seats.warm(await places.thermometer.look())
        wake()


async def watch_signals(
    interrupt: Callable[[], object], *, task_status: trio.TaskStatus[None]
) -> None:
    """Turn SIGINT and SIGTERM into an orderly end."""
    import trio

    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        task_status.started()
        async for _ in signals:
            interrupt()
