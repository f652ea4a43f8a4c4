"""Artifacts: sources and actions by name, and what selectors take from them."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping
from typing import Final, TypeAlias

from attrs import field, frozen

from engine.graph import Selection, make_selection
from engine.packer import Made, Packer
from engine.spec.faults import KeyPath, nearest
from engine.spec.project import Unit
from engine.spec.selector import Selector, matcher, parse_selector
from store.digest import Digest
from store.ingest import Snapshot
from store.objects import Directory, Entry

is_glob = re.compile(r"[*?\[]").search
"""Finds what makes a pattern more than a path."""

_LITERAL: Final = re.compile(r"(?:[^*?\[\\/]+/)*")
"""The directories that a pattern begins with, named in full."""

_AFTER_SLASH: Final = chr(ord("/") + 1)


class Paths:
    """The paths of a source, in its order; those below a directory are found without a look at each
    of the others."""

    def __init__(self, files: Iterable[str]) -> None:
        self._files = files
        self._paths: list[str] = []
        self._sorted: list[str] = []
        self._numbers: list[int] = []
        """The place of each path of `_sorted` in the source's order."""

    def below(self, directory: str) -> list[str]:
        """Return the paths that begin with a directory's, which ends in a slash, all with none."""
        if not self._paths:
            self._paths = list(self._files)
        if not directory:
            return self._paths
        if not self._sorted:
            self._numbers = sorted(range(len(self._paths)), key=self._paths.__getitem__)
            self._sorted = list(map(self._paths.__getitem__, self._numbers))
        begin = bisect_left(self._sorted, directory)
        end = bisect_left(self._sorted, f"{directory[:-1]}{_AFTER_SLASH}", begin)
        return list(map(self._paths.__getitem__, sorted(self._numbers[begin:end])))


@frozen(eq=False)
class SourceFiles:
    """A source made real: its tree, its entries by path, and its snapshot if it is a directory."""

    tree: Digest
    files: Mapping[str, Entry] = field(repr=False)
    snapshot: Snapshot | None = None
    missing: bool = False
    """It could not be made real; what selects from it says nothing more about that."""
    paths: Paths = field(init=False, repr=False)

    @paths.default
    def _paths(self) -> Paths:
        return Paths(self.files)


@frozen(eq=False)
class Materials:
    """What evaluation needs from outside the specs, by the unit's prefix and the name."""

    sources: Mapping[tuple[str, str], SourceFiles]
    toolchains: Mapping[tuple[str, str], tuple[Digest, Mapping[str, str]]]
    platform: str
    isolation: str


Group: TypeAlias = SourceFiles | Made


class SpecFaultError(Exception):
    """A fault in one part of an action, at a key path of its spec."""

    def __init__(self, path: KeyPath, message: str, hint: str = "", at_key: bool = False) -> None:
        super().__init__(message)
        self.path = path
        self.message = message
        self.hint = hint
        self.at_key = at_key


class Artifacts:
    """Finds what selectors name; `group` gives the source or the recipes behind a name."""

    def __init__(self, materials: Materials, group: Callable[[Unit, str], Group]) -> None:
        self.materials = materials
        self.packer = Packer()
        self._group = group
        self._selections: dict[tuple[str, str, str, str | None], Selection] = {}

    def group(self, owner: Unit, name: str) -> Group:
        """Return the source or the recipes that make up an artifact of `owner`."""
        return self._group(owner, name)

    def find(self, unit: Unit, text: str, at: KeyPath) -> tuple[Unit, Selector, str]:
        """Return the owner of what `text` selects, the selector, and where it is staged."""
        try:
            selector = parse_selector(text, unit.imports.__contains__)
        except ValueError as error:
            raise SpecFaultError(at, f"{text!r}: {error}") from None
        owner = unit.imports[selector.imported] if selector.imported else unit
        file = owner.spec.file
        if selector.artifact not in file.sources and selector.artifact not in file.actions:
            known = [*file.sources, *file.actions, *(() if selector.imported else unit.imports)]
            if selector.artifact in unit.imports and not selector.pattern:
                theirs = unit.imports[selector.artifact].spec.file.actions
                hint = f"name one of its artifacts: {text}:{next(iter(theirs), 'NAME')}"
                raise SpecFaultError(at, f"{text!r} is an import", hint)
            hint = nearest(selector.artifact, known, "artifacts")
            raise SpecFaultError(at, f"unknown input {text!r}", hint)
        stage = selector.artifact
        if selector.imported:
            stage = f"{selector.imported}/{stage}"
        return owner, selector, stage

    def select(
        self, owner: Unit, selector: Selector, stage: str, at: KeyPath, *, keep: bool = True
    ) -> Selection | None:
        """Return what `selector` takes from a source, None if it names an action; without `keep` it
        is not remembered for the next one who asks."""
        group = self._group(owner, selector.artifact)
        if isinstance(group, Made):
            return None
        key = (owner.prefix, selector.artifact, stage, selector.pattern)
        selection = self._selections.get(key)
        if selection is None:
            entries: dict[str, Entry]
            if selector.pattern is None:
                entries = {stage: Directory(group.tree)}
            elif selector.pattern in group.files and not is_glob(selector.pattern):
                entries = {f"{stage}/{selector.pattern}": group.files[selector.pattern]}
            else:
                found = matching(group, selector.pattern)
                entries = {f"{stage}/{path}": group.files[path] for path in found}
            if not entries and not group.missing:
                hint = f"{selector.artifact} holds: {sample(group.files)}"
                raise SpecFaultError(at, f"{str(selector)!r} matches nothing", hint)
            selection = make_selection(stage, entries, group.snapshot)
            if keep:
                self._selections[key] = selection
        return selection


def matching(source: SourceFiles, pattern: str) -> list[str]:
    """Return the paths that `pattern` matches; one that names a directory takes all below it."""
    if not is_glob(pattern):
        plain = pattern.rstrip("/")
        return [plain] if plain in source.files else source.paths.below(f"{plain}/")
    literal = _LITERAL.match(pattern)
    return list(filter(matcher(pattern), source.paths.below(literal[0] if literal else "")))


def sample(files: Mapping[str, Entry]) -> str:
    """Return the first few names in a source, for a hint."""
    names = sorted(files)
    return ", ".join(names[:4]) + (", …" if len(names) > 4 else "")
