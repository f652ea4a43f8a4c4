"""Causes: what changed between two builds so that a step became another action, down to the root.

A change of a step's inputs that another step made is traced to what changed in that one, and so on;
a flag or variable to the parameter that it was written with.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import Final, TypeAlias

from attrs import define, field, frozen

from engine.explain import Change, differences
from engine.timeline.recorded import Recorded, Was
from store.cas import Cas
from store.digest import Digest
from store.errors import BnError
from store.objects import Action, Directory, Entry
from store.trees import find, walk

DEPENDENCY: Final = "dependency"
PARAMETER: Final = "parameter"
CHANGED: Final = "changed"
"""How the detail begins of a file that is still there, but with other contents."""

DIVERGED: Final = Change("not reproducible", "", "the same action came out otherwise")

FEW: Final = 4
"""Builds back in which a step's needs are looked for where it is not told what they are."""

SHOWN: Final = 12
"""Lines that tell of the causes of one step."""


@frozen
class Cause:
    """A change, and what it comes from: a dependency has the changes of that step, whose label its
    name is; a flag or variable may have a parameter. What has nothing below it is a root."""

    change: Change
    because: tuple[Cause, ...] = ()

    def chains(self) -> Iterator[tuple[Change, ...]]:
        """Yield the ways from here down to the roots."""
        if not self.because:
            yield (self.change,)
        for below in self.because:
            yield from ((self.change, *rest) for rest in below.chains())


Parameters: TypeAlias = Callable[[str, Action, Action, Change], Iterable[Change]]
"""Which parameters a change of a flag or variable comes from, given the label and both actions."""


def no_parameters(label: str, old: Action, new: Action, change: Change) -> Iterable[Change]:
    """Know of no parameter."""
    return ()


Observed: TypeAlias = Callable[[Digest], Collection[str] | None]
"""Which inputs an action said that it read, given its digest; None where it did not say."""


def nothing_observed(action: Digest) -> None:
    """Know of no action what it read."""


@frozen
class _Made:
    """A step that made an input: what it was when it made the old one, and the new one."""

    label: str
    old: Was | None
    new: Was | None


@define
class Causes:
    """Tells the causes of steps of build `new`, compared with `old`.

    Of inputs that an action said it did not read, changed contents are left out: they changed
    nothing.
    """

    cas: Cas
    recorded: Recorded
    new: str
    old: str
    parameters: Parameters = no_parameters
    observed: Observed = nothing_observed
    _known: dict[str, tuple[Cause, ...] | None] = field(factory=dict, init=False)
    _between: dict[tuple[str, str, str], tuple[Cause, ...]] = field(factory=dict, init=False)
    _files: dict[tuple[str, str], dict[str, list[str]]] = field(factory=dict, init=False)
    _stages: dict[str, dict[str, list[str]]] = field(factory=dict, init=False)

    def of(self, label: str) -> tuple[Cause, ...] | None:
        """Return what changed in a step; None where one of its actions is not known any more."""
        if label not in self._known:
            was = self.recorded.was(label, self.old), self.recorded.was(label, self.new)
            self._known[label] = None if None in was else self.between(*was)  # type: ignore[arg-type]
        return self._known[label]

    def between(self, old: Was, new: Was) -> tuple[Cause, ...] | None:
        """Return what changed from one action of a step to another."""
        if old.action == new.action:
            return (Cause(DIVERGED),) if old.outputs != new.outputs else ()
        try:
            before, after = (
                Action.decode(self.cas.get_bytes(Digest(one.action))) for one in (old, new)
            )
        except BnError:
            return None
        return self.of_actions(new.label, before, after)

    def of_actions(self, label: str, old: Action, new: Action) -> tuple[Cause, ...]:
        """Return the causes that make `new` another action than `old`, both of one step."""
        changes = self._that_count([*differences(self.cas, old, new)], old, new)
        made: dict[str, list[Change]] = {}
        states: dict[str, _Made] = {}
        found: list[Cause] = []
        for change in changes:
            maker = self._maker(label, old, new, change.name) if change.kind == "file" else None
            if maker is not None:
                made.setdefault(maker.label, []).append(change)
                states.setdefault(maker.label, maker)
            elif change.kind in ("flag", "variable", "script"):
                below = map(Cause, self.parameters(label, old, new, change))
                found.append(Cause(change, tuple(below)))
            else:
                found.append(Cause(change))
        for name, outputs in made.items():
            shown = ", ".join(f"{one.name} {one.detail.partition(' (')[0]}" for one in outputs[:3])
            more = f" and {len(outputs) - 3} more" if len(outputs) > 3 else ""
            what = Change(DEPENDENCY, name, f"({shown}{more})")
            found.append(Cause(what, self._below(states[name])))
        return tuple(found)

    def _below(self, made: _Made) -> tuple[Cause, ...]:
        if made.old is None or made.new is None:
            return ()
        key = made.label, made.old.action, made.new.action
        if key not in self._between:
            self._between[key] = ()  # what needs itself has no cause; graphs have no such step
            self._between[key] = self.between(made.old, made.new) or ()
        return self._between[key]

    def _that_count(self, changes: list[Change], old: Action, new: Action) -> list[Change]:
        """Return the changes without those of files that neither action read."""
        read: set[str] = set()
        for action in (old, new):
            paths = self.observed(action.digest()) if action.depfile else None
            if paths is not None:
                read.update(paths)
        if not read:
            return changes
        left = [
            change
            for change in changes
            if change.kind != "file" or not change.detail.startswith(CHANGED) or change.name in read
        ]
        return left or changes

    def _maker(self, label: str, old: Action, new: Action, path: str) -> _Made | None:
        """Return the step that made the input at `path`; None for a file of a source."""
        steps = self._staged(label)
        stage = path
        while stage and stage not in steps:
            stage = stage.rpartition("/")[0]
        if not stage:
            return None
        rest = path[len(stage) + 1 :]
        before = _entry(self.cas, old.input_root, path)
        after = _entry(self.cas, new.input_root, path)
        for maker in self._writers(label, stage).get(rest, steps[stage]):
            was = self._that_made(maker, self.old, rest, before)
            now = self._that_made(maker, self.new, rest, after)
            if was is not None or now is not None:
                return _Made(maker, was, now)
        return None

    def _writers(self, label: str, stage: str) -> Mapping[str, list[str]]:
        """Return which of the steps that are staged at `stage` for a step make which files."""
        key = label, stage
        found = self._files.get(key)
        if found is None:
            found = self._files[key] = {}
            for maker in self._staged(label)[stage]:
                for path in {*self._made(maker, self.new), *self._made(maker, self.old)}:
                    found.setdefault(path, []).append(maker)
        return found

    def _made(self, label: str, build: str) -> Iterator[str]:
        """Yield the files that a step made."""
        was = self.recorded.was(label, build)
        if was is not None and was.outputs is not None:
            with contextlib.suppress(BnError):
                yield from (path for path, _ in walk(self.cas, Digest(was.outputs)))

    def _that_made(self, label: str, build: str, path: str, entry: Entry | None) -> Was | None:
        """Return what a step was when it last made `entry` at `path` of its outputs, up to a build:
        where the steps that need it were cached, that build does not tell of it."""
        if entry is None:
            return None
        for name in self.recorded.until(build):
            was = self.recorded.at(label, name)
            if was is not None and was.outputs is not None:
                made = _entry(self.cas, was.outputs, path)
                if made is not None and (made == entry or not path):
                    return was
        return None

    def _staged(self, label: str) -> Mapping[str, list[str]]:
        """Return the steps that a step may need, by where their outputs are staged for it."""
        found = self._stages.get(label)
        if found is None:
            prefix = _prefix(label)
            found = self._stages[label] = {}
            for name in self._needed(label):
                if name.startswith(prefix):
                    artifact = name[len(prefix) :].partition("[")[0]
                    found.setdefault(artifact.replace(":", "/"), []).append(name)
        return found

    def _needed(self, label: str) -> Iterable[str]:
        """Return the steps that a step needs; where neither build says so, all that are known."""
        builds = self.new, self.old
        steps = [self.recorded.course(build).steps.get(label) for build in builds]
        needs = dict.fromkeys(need for step in steps if step for need in step.needs)
        if needs:
            return needs
        seen = (
            name for build in builds for name in itertools.islice(self.recorded.until(build), FEW)
        )
        return dict.fromkeys(one for name in seen for one in self.recorded.labels(name))


def roots(causes: Iterable[Cause]) -> list[tuple[tuple[str, ...], Change]]:
    """Return each root with the steps that lie between, each pair once."""
    found: dict[tuple[tuple[str, ...], Change], None] = {}
    for cause in causes:
        for chain in cause.chains():
            *between, root = chain
            found[tuple(one.name for one in between if one.kind == DEPENDENCY), root] = None
    return list(found)


def in_lines(causes: Iterable[Cause], most: int = SHOWN) -> list[str]:
    """Return causes for people, a line each: `link ← compile[a.c] ← file src/a.c changed`, from
    what changed in the step itself down to the root. Chains alike are told of together."""
    groups: dict[tuple[object, ...], list[tuple[Change, ...]]] = {}
    for cause in causes:
        for chain in cause.chains():
            *between, root = chain
            key = (root, *(_kind(one) for one in between))
            groups.setdefault(key, []).append(chain)
    lines = []
    for chains in groups.values():
        *between, root = chains[0]
        parts = [_named(one) for one in between]
        others = len({chain[0] for chain in chains}) - 1
        if parts and others:
            parts[0] += f" and {others} more"
        lines.append(" ← ".join([*parts, _root(root)]))
    rest = len(lines) - most
    return [*lines[:most], f"and {rest} more"] if rest > 0 else lines


def documents(causes: Iterable[Cause]) -> list[dict[str, object]]:
    """Return causes as plain values."""
    return [
        {
            "kind": cause.change.kind,
            "name": cause.change.name,
            "detail": cause.change.detail,
            **({"because": documents(cause.because)} if cause.because else {}),
        }
        for cause in causes
    ]


def _kind(change: Change) -> object:
    if change.kind == DEPENDENCY:
        return change.name.partition("[")[0]
    return change


def _named(change: Change) -> str:
    return change.name if change.kind == DEPENDENCY else str(change)


def _root(change: Change) -> str:
    return f"{change.name} {change.detail}" if change.kind == DEPENDENCY else str(change)


def _prefix(label: str) -> str:
    """Return what the names of all steps of the same spec begin with: empty but in imports."""
    artifact = label.partition("[")[0]
    return artifact[: artifact.rfind(":") + 1]


def _entry(cas: Cas, tree: str, path: str) -> Entry | None:
    if not path:
        return Directory(Digest(tree))
    try:
        return find(cas, Digest(tree), path)
    except BnError:
        return None
