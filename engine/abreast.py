"""Coroutines run side by side to their ends, so many at a time."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable

import trio


def abreast(works: Iterable[Callable[[], Awaitable[None]]], jobs: int) -> None:
    """Run all of `works`, at most `jobs` at a time; must be called outside of trio.

    What the first of them raises that fails ends the others and is raised.
    """

    async def every() -> None:
        limiter = trio.CapacityLimiter(max(1, jobs))

        async def one(work: Callable[[], Awaitable[None]]) -> None:
            async with limiter:
                await work()

        async with trio.open_nursery() as nursery:
            for work in works:
                nursery.start_soon(one, work)

    try:
        trio.run(every)
    except BaseExceptionGroup as group:
        error: BaseException = group
        while isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
        raise error from None
