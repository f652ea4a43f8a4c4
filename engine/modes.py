"""How the loop of a build is run: in trio, or without it where that takes longer to load than it
saves."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Final

from engine.build import Loop
from engine.crew import is_chain, is_quick
from engine.job import Job
from engine.result import Result

SHORT_CHAIN: Final = 16
"""Steps up to which a chain is run without trio though the nodes are to be looked at again and
again."""


def run(job: Job, save: Callable[[], object]) -> Result:
    """Do as `run_build` does, in trio only where that is of use, and leave it to the caller to
    `save` what came of it as soon as all has run."""
    loop, options = Loop(job), job.options
    regularly = loop.seats.every is not None
    if (
        options.sharing is None
        and options.around is None
        and (
            is_chain(job.plan, SHORT_CHAIN if regularly else math.inf)
            or (not regularly and is_quick(job.plan, job.history))
        )
    ):
        from executors.waiting import run_alone

        result = run_alone(loop.run(alone=True, save=save))
        if result is not None:
            return result
    import trio

    result = trio.run(functools.partial(loop.run, save=save))
    assert result is not None
    return result


async def run_build(job: Job) -> Result:
    """Run what the plan says has to run and return how every step ended.

    A failed action is part of the result. Raises HostError and MissingBlob; whatever had succeeded
    until then is committed. SIGINT and SIGTERM end it with a result, too: INTERRUPTED.
    """
    result = await Loop(job).run()
    assert result is not None
    return result
