"""Actions that their node did not let end: which of them run again, and which have had enough."""

from __future__ import annotations

from typing import Final

from engine.finished import Running
from executors.base import Outcome, Status

LOSSES: Final = 20
"""Times that an action may be lost; then it has failed, so that no build goes on for ever."""


class Losses:
    """The losses of a build."""

    def __init__(self) -> None:
        self._counts: dict[str, int] = {}
        self._alike: dict[str, list[str]] = {}

    def may_run_again(self, running: Running, outcome: Outcome) -> bool:
        """Say whether an execution was lost and its action is to run once more; the identical steps
        that waited for it then wait for that."""
        if outcome.status is not Status.LOST:
            return False
        first, *alike = running.labels
        count = self._counts[first] = self._counts.get(first, 0) + 1
        if count >= LOSSES:
            return False
        if alike:
            self._alike[running.resolved.digest] = alike
        return True

    def waiting_for(self, action: str) -> list[str]:
        """Return the steps that wait for a lost action to run again, which it does now."""
        return self._alike.pop(action, [])
