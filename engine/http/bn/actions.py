"""Action documents that come with results found by their recipe: what these were made of."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from engine.http.bn.rows import held, portions
from engine.http.bn.walk import document
from store.digest import Digest
from store.errors import IntegrityError
from store.objects import Action

if TYPE_CHECKING:
    from engine.http.service import Service

ACTION_MOST: Final = 64 * 2**10
"""Bytes of an action that comes with its result; a larger one is a blob like others."""

ALL_MOST: Final = 4 * 2**20
"""Bytes of all actions in one answer."""

_KEPT: Final = 50_000
"""Actions of which it is remembered whether they are any."""


class Actions:
    """Finds the documents of actions, and remembers which blobs are documents of actions."""

    def __init__(self) -> None:
        self._good: dict[Digest, bool] = {}

    async def find(
        self, service: Service, name_space: str, actions: Sequence[Digest]
    ) -> dict[Digest, bytes]:
        """Return the documents of those actions that are in a name space, as far as there is room
        in an answer."""
        found: dict[Digest, bytes] = {}
        left = ALL_MOST
        for some in portions(actions):
            for digest, row in held(service, name_space, some).items():
                if row.size > min(ACTION_MOST, left):
                    continue
                data = await document(service, row)
                if data is not None and self._is_good(digest, data):
                    found[digest] = data
                    left -= len(data)
        return found

    def _is_good(self, digest: Digest, data: bytes) -> bool:
        """Say whether a blob, which somebody says is an action, is one: it becomes part of JSON."""
        good = self._good.get(digest)
        if good is None:
            try:
                Action.decode(data)
                good = True
            except (IntegrityError, RecursionError, ValueError, TypeError):
                good = False
            if len(self._good) >= _KEPT:
                self._good.clear()
            self._good[digest] = good
        return good
