"""Parameters behind changes: which one a flag, variable or line of a script was written with.

The template in the spec is laid over the old and the new text; where both fit, what stands at a
parameter's place is its value. A spec that was rewritten since may not fit: then nothing is said.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from attrs import field, frozen

from engine.explain import Change
from engine.spec.faults import KeyPath, shown
from engine.spec.project import Unit, load_project
from engine.spec.template import Template, template
from engine.timeline.causes import PARAMETER
from engine.timeline.course import Course
from store.errors import BnError
from store.objects import Action


@frozen
class Settings:
    """The parameters of a spec's project, and what two builds set."""

    root: Unit
    new: Course
    old: Course
    _units: Mapping[str, Unit] = field(init=False)

    @_units.default
    def _by_prefix(self) -> dict[str, Unit]:
        return {unit.prefix: unit for unit in self.root.units()}

    def __call__(self, label: str, old: Action, new: Action, change: Change) -> Iterator[Change]:
        """Yield the parameters that a change of a step's flag or variable comes from."""
        artifact = label.partition("[")[0]
        prefix = artifact[: artifact.rfind(":") + 1]
        unit = self._units.get(prefix)
        if unit is None or artifact[len(prefix) :] not in unit.spec.file.actions:
            return
        spec = unit.spec.file.actions[artifact[len(prefix) :]]
        found: dict[str, tuple[str, str]] = {}
        for form, before, after in _forms(spec.run, spec.script, spec.env, old, new, change):
            values = shifts(template(form), before, after)
            found |= {name: pair for name, pair in values.items() if name in unit.params}
        for name, (before, after) in found.items():
            yield Change(PARAMETER, name, f"{before} → {after} ({self._origin(unit, name)})")

    def _origin(self, unit: Unit, name: str) -> str:
        """Return who set a parameter last, or who did before."""
        if unit.prefix:
            return self._imported(unit, name)
        for build, before in ((self.new, ""), (self.old, "no longer ")):
            if name in build.sets:
                return f"{before}--set {name}={build.sets[name]}"
        for build, before in ((self.new, ""), (self.old, "no longer ")):
            profile = self.root.spec.file.profiles.get(build.profile or "")
            if profile is not None and name in profile.params:
                return f"{before}--profile {build.profile}"
        return f"its default, {_place(unit.spec.path, ('params', name))}"

    def _imported(self, unit: Unit, name: str) -> str:
        """Return where a parameter of an imported spec is set: by an importing one, else there."""
        for other in self._units.values():
            for alias, imported in other.imports.items():
                if imported is unit and name in other.spec.file.imports[alias].set:
                    at: KeyPath = ("imports", alias, "set", name)
                    return f"set in {_place(other.spec.path, at)}"
        return f"its default, {_place(unit.spec.path, ('params', name))}"


def settings(new: Course, old: Course) -> Settings | None:
    """Return the parameters of two builds of one spec; None where it cannot be read any more."""
    if not new.spec:
        return None
    try:
        return Settings(load_project(Path(new.spec), {}), new, old)
    except BnError:
        return None


def shifts(form: Template, before: str, after: str) -> dict[str, tuple[str, str]]:
    """Return the names of a template whose values differ between two texts that it may have made,
    with these values; nothing where it did not make both."""
    if not form.names or before == after:
        return {}
    places = [f"n{number}" for number in range(len(form.names))]
    marks = {name: f"\0{place}\0" for name, place in zip(form.names, places, strict=True)}
    known: set[str] = set()
    pattern = ""
    for number, part in enumerate(form.expand(marks).split("\0")):
        if number % 2 == 0:
            pattern += re.escape(part)
        elif part in known:
            pattern += f"(?P={part})"
        else:
            known.add(part)
            pattern += f"(?P<{part}>.*?)"
    first, second = (re.fullmatch(pattern, text, re.DOTALL) for text in (before, after))
    if first is None or second is None:
        return {}
    pairs = {name: mark.strip("\0") for name, mark in marks.items()}
    return {
        name: (first[place], second[place])
        for name, place in pairs.items()
        if first[place] != second[place]
    }


def _forms(
    run: tuple[str, ...] | None,
    script: str | None,
    env: Mapping[str, str],
    old: Action,
    new: Action,
    change: Change,
) -> Iterator[tuple[str, str, str]]:
    """Yield the templates that a change may come from, each with the old and the new text."""
    if change.kind == "variable":
        if change.name in env and change.name in old.env and change.name in new.env:
            yield env[change.name], old.env[change.name], new.env[change.name]
        return
    if script is not None:
        lines = [text.splitlines() for text in (script, old.command[-1], new.command[-1])]
        if len({len(one) for one in lines}) == 1:
            yield from zip(*lines, strict=True)
    elif run is not None and len(run) == len(old.command) == len(new.command):
        for form, before, after in zip(run, old.command, new.command, strict=True):
            if before in change.detail and after in change.detail:
                yield form, before, after


def _place(path: Path, at: KeyPath) -> str:
    from engine.spec.position import Positions

    line, _ = Positions(path).find(at)
    return f"{shown(path)}:{line}"
