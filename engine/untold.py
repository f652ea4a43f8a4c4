"""What has happened in a build and nobody was told of yet: it is told of while a step runs."""

from __future__ import annotations

import functools
from collections import deque
from collections.abc import Callable, Mapping
from typing import TypeAlias

from engine.ledger import Ledger
from engine.plan import Cached, Plan
from engine.resolve import Resolved
from engine.seats import Turn

Why: TypeAlias = Callable[[], str]
"""Finds out why a step runs."""


class Untold:
    """Cached steps, and steps that have started and it takes a while to say why."""

    def __init__(self, ledger: Ledger, plan: Plan) -> None:
        self._ledger = ledger
        self._plan = plan
        self._cached: dict[str, Cached] = {}
        self._standing = bool(plan.standing)
        self._whys: dict[str, Why] = {}
        self._started: deque[Callable[[], None]] = deque()
        self.alone = False
        """Whether nothing goes on besides one execution, so that there is time while it runs."""

    def cached(self, steps: dict[str, Cached]) -> None:
        """Note steps that are cached to begin with, besides those that stand."""
        self._cached = steps

    def reason(self, label: str, why: Why) -> str:
        """Return why a step runs, or nothing where there will be time to find out."""
        if not self.alone:
            return why()
        self._whys[label] = why
        return ""

    def starts(self, turn: Turn, resolved: Resolved) -> None:
        """Tell that a step starts, at once where it is known why."""
        why = self._whys.get(turn.placement.label)
        self._started.append(functools.partial(self._ledger.starts, turn, resolved, why))
        if why is None or not self.alone:
            self.tell_started()

    def ended(self, label: str) -> None:
        """Note that a step will not start again."""
        self._whys.pop(label, None)

    @property
    def is_started(self) -> bool:
        """Whether a step has started that was not told of."""
        return bool(self._started)

    def tell_started(self) -> None:
        """Tell of the steps that have started."""
        while self._started:
            self._started.popleft()()

    def tell_cached(self) -> Mapping[str, Cached]:
        """Tell of the cached steps, and return those that do not stand."""
        cached, self._cached = self._cached, {}
        standing, self._standing = self._standing, False
        if standing:
            self._ledger.stand(self._plan.standing, self._plan.is_told)
        if cached:
            self._ledger.were_cached(cached)
        return cached
