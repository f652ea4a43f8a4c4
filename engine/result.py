"""Results: how the steps of a build ended, and the build as a whole."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import TYPE_CHECKING, Protocol, TypeAlias, runtime_checkable

from engine.plan import Cached
from executors.base import Outcome
from store.digest import Digest
from store.records import frozen

if TYPE_CHECKING:
    from engine.makespan import Makespan


@frozen
class Built:
    """The step ran and succeeded."""

    outputs: Digest
    action: Digest
    seconds: float


@frozen
class Failed:
    """The step ran and failed, or what it needs of others is not there."""

    reason: str
    action: Digest | None = None
    outcome: Outcome | None = None


@frozen
class Skipped:
    """The step was not tried, because `because` failed."""

    because: str


@frozen
class Cancelled:
    """The build was interrupted before the step ended."""


Ended: TypeAlias = Cached | Built | Failed | Skipped | Cancelled


@runtime_checkable
class Counted(Protocol):
    """Steps that know how many of them ended in which way."""

    def count(self, kind: type[Ended]) -> int:
        """Return how many steps ended that way."""
        ...


class Mistaken(Exception):
    """Nothing came of a build, as something was taken for granted that is not so. Who looks at it
    first does not do that."""


class BuildStatus(StrEnum):
    """How a build ended."""

    OK = "ok"
    FAILED = "failed"
    INTERRUPTED = "interrupted"


@frozen
class Result:
    """A build that ended: its steps by label, in the order in which they ended."""

    build: str
    status: BuildStatus
    steps: Mapping[str, Ended]
    seconds: float
    makespan: Makespan | None = None
    """What it took against the least possible, None where nothing ran."""

    def count(self, kind: type[Ended]) -> int:
        """Return how many steps ended that way."""
        steps = self.steps
        if isinstance(steps, Counted):
            return steps.count(kind)
        return sum(isinstance(step, kind) for step in steps.values())
