"""What has a name beyond its digest: artifacts and builds, as the view asks for them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from attrs import frozen

from store.digest import Digest


@frozen(kw_only=True)
class Step:
    """A step of a build: its action, its log and its output tree, as far as there are any."""

    label: str
    action: Digest | None = None
    log: Digest | None = None
    outputs: Digest | None = None


@frozen(kw_only=True)
class Build:
    """A recorded build: the file of its timeline, which may still grow, and its steps so far."""

    name: str
    timeline: Path
    steps: tuple[Step, ...] = ()


class Catalogue(Protocol):
    """Answers by name; each call says what is so now. Implemented above this package."""

    def artifacts(self) -> Mapping[str, Digest]:
        """Return the trees of the named results."""
        ...

    def builds(self) -> Sequence[str]:
        """Return the names of the recorded builds."""
        ...

    def build(self, name: str) -> Build | None:
        """Return a recorded build, None if there is none of that name."""
        ...
