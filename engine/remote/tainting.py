"""Remotes told to drop and refuse what is bad."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import trio

from engine.remote.client import ASKED_MOST, Absent, Client, GivenUp
from engine.remote.settings import RemoteSpec
from store.digest import Digest

SECONDS: Final = 120.0
"""How long a remote may look through all that it has."""


def tell(spec: RemoteSpec, digests: Sequence[Digest]) -> int | str:
    """Return how many entries a remote dropped, or what is wrong with it."""
    try:
        return trio.run(_tell, spec, digests)
    except GivenUp as error:
        return str(error)
    except Absent:
        return "it cannot be told: it speaks another protocol, or an older one"
    except trio.TooSlowError:
        return "it is too slow"


async def _tell(spec: RemoteSpec, digests: Sequence[Digest]) -> int:
    client = Client(spec)
    dropped = 0
    try:
        with trio.fail_after(SECONDS):
            for start in range(0, len(digests), ASKED_MOST):
                dropped += await client.taint(digests[start : start + ASKED_MOST], SECONDS)
    except GivenUp as error:
        raise GivenUp(f"{error}; {client.withheld}" if client.withheld else str(error)) from None
    finally:
        await client.close()
    return dropped
