"""The recorded builds of a spec, and what steps were in them, read when first asked for."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from attrs import define, field, frozen

from engine.timeline.course import GOOD, Course, course
from engine.timeline.log import builds, read_timeline

MOST: Final = 64
"""Builds that are looked through, so that no question takes long where many are kept."""


@frozen(kw_only=True)
class Was:
    """What a step was in a build: its action, and its outputs where it has them."""

    label: str
    build: str
    action: str
    outputs: str | None
    status: str

    @property
    def passed(self) -> bool:
        """Whether its outputs were there in the end."""
        return self.status in GOOD


@define
class Recorded:
    """The recorded builds of the spec at `spec` in the store at `root`."""

    root: Path
    spec: str
    _names: list[str] | None = field(default=None, init=False)
    _courses: dict[str, Course] = field(factory=dict, init=False)

    def course(self, build: str) -> Course:
        """Return a build."""
        if build not in self._courses:
            self._courses[build] = course(build, read_timeline(self.root, build))
        return self._courses[build]

    def names(self) -> list[str]:
        """Return the builds of the spec, the last one first."""
        if self._names is None:
            self._names = [
                name
                for name in builds(self.root)
                if next(read_timeline(self.root, name), {}).get("spec") == self.spec
            ]
        return self._names

    def until(self, build: str) -> Iterator[str]:
        """Yield a build and those before it, the last one first."""
        older = (name for name in self.names() if name <= build)
        yield from (name for name, _ in zip(older, range(MOST), strict=False))

    def was(self, label: str, build: str) -> Was | None:
        """Return what a step was in a build; where it was not looked at there, in the last one
        before in which it was. None where that is not recorded."""
        for name in self.until(build):
            found = self.at(label, name)
            if found is not None:
                return found
        return None

    def at(self, label: str, build: str) -> Was | None:
        """Return what a step was in just this build."""
        step = self.course(build).steps.get(label)
        if step is None or not step.action:
            return None
        return Was(
            label=label,
            build=build,
            action=step.action,
            outputs=step.outputs,
            status=step.status,
        )

    def passed_before(self, label: str, build: str) -> Was | None:
        """Return what a step was when its outputs were there last, before a build."""
        for name in self.until(build):
            found = self.at(label, name) if name != build else None
            if found is not None and found.passed:
                return found
        return None

    def other_before(self, was: Was) -> Was | None:
        """Return what a step was in the last build before in which it was another action."""
        for name in self.until(was.build):
            found = self.at(was.label, name) if name != was.build else None
            if found is not None and found.action != was.action:
                return found
        return None

    def labels(self, build: str) -> list[str]:
        """Return the steps that a build told of."""
        return list(self.course(build).steps)
