"""Inputs of recipes: what the elements of `inputs` take from sources and other actions."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Final

from attrs import frozen

from engine.artifacts import Artifacts, SpecFaultError
from engine.graph import Need, Selection, needs_text
from engine.packer import Made
from engine.spec.faults import KeyPath
from engine.spec.project import Unit
from engine.spec.selector import Selector, matcher, may_match_below

_is_path: Final = re.compile(r"[^*?\[\\/]+(/[^*?\[\\/]+)*/?").fullmatch
"""Finds that a pattern matches but one path."""


@frozen(eq=False)
class Item:
    """One file of a `foreach`: its path in the artifact of `owner`, and where that is staged."""

    path: str
    owner: Unit
    artifact: str
    stage: str

    @property
    def staged(self) -> str:
        """The path in the work directory."""
        return f"{self.stage}/{self.path}"

    def names(self) -> dict[str, str]:
        """Return the template names that it gives."""
        staged = self.staged
        directory, _, name = staged.rpartition("/")
        stem = name.rpartition(".")[0] or name
        return {"item": staged, "item.name": name, "item.stem": stem, "item.dir": directory}


@frozen(eq=False)
class Taken:
    """What the inputs of a recipe come to; `needs_text` is canonical JSON of `needs`."""

    selections: tuple[Selection, ...] = ()
    needs: tuple[Need, ...] = ()
    needs_text: str = "[]"


class Taking:
    """Takes the inputs of one action's recipes. What many of them name is worked out once.

    Raises SpecFaultError for what is not there.
    """

    def __init__(self, artifacts: Artifacts, unit: Unit) -> None:
        self._artifacts = artifacts
        self._unit = unit
        self._known: dict[str, Taken] = {}
        self._shared: set[int] = set()
        self._joined: dict[tuple[int, ...], Taken] = {}

    def text(self, text: str, at: KeyPath) -> Taken:
        """Return what a selector takes."""
        taken = self._known.get(text)
        if taken is None:
            taken = self._known[text] = self._take(*self._artifacts.find(self._unit, text, at), at)
            self._shared.add(id(taken))
        return taken

    def item(self, item: Item, at: KeyPath) -> Taken:
        """Return just the file that a recipe of a `foreach` is for."""
        selector = Selector(item.artifact, item.path)
        return self._take(item.owner, selector, item.stage, at, keep=False)

    def together(self, parts: Sequence[Taken]) -> Taken:
        """Return what all of `parts` take; for many recipes that need the same, the same needs."""
        if len(parts) == 1:
            return parts[0]
        selections = {one.digest: one for part in parts for one in part.selections}
        needing = [part for part in parts if part.needs]
        if not needing:
            return Taken(tuple(selections.values()))
        joined = needing[0] if len(needing) == 1 else self._join(needing)
        return Taken(tuple(selections.values()), joined.needs, joined.needs_text)

    def _join(self, parts: list[Taken]) -> Taken:
        key = tuple(map(id, parts))
        known = self._joined.get(key)
        if known is None:
            needs = tuple(dict.fromkeys(need for part in parts for need in part.needs))
            known = Taken((), needs, needs_text(needs, self._artifacts.packer.digest_of))
            if self._shared.issuperset(key):  # these stay, and so do their ids
                self._joined[key] = known
        return known

    def _take(
        self, owner: Unit, selector: Selector, stage: str, at: KeyPath, *, keep: bool = True
    ) -> Taken:
        selection = self._artifacts.select(owner, selector, stage, at, keep=keep)
        if selection is not None:
            return Taken((selection,))
        needs = tuple(dict.fromkeys(self._needs(owner, selector, stage, at)))
        return Taken((), needs, needs_text(needs, self._artifacts.packer.digest_of))

    def _needs(self, owner: Unit, selector: Selector, stage: str, at: KeyPath) -> Iterator[Need]:
        group = self._artifacts.group(owner, selector.artifact)
        assert isinstance(group, Made)
        pattern = selector.pattern
        if pattern is None:
            yield from (Need(label, stage) for label in group.labels)
            return
        found = _matching(group, pattern)
        yield from (Need(label, stage, pattern) for label in found)
        if group.labels and not found:
            outputs = sorted(path for _, paths in group.outputs() for path in paths)
            hint = f"its outputs: {', '.join(outputs[:5])}{', …' if len(outputs) > 5 else ''}"
            raise SpecFaultError(at, f"{str(selector)!r} matches nothing", hint)


def _matching(made: Made, pattern: str) -> list[str]:
    """Return the labels of the recipes of whose outputs `pattern` may match one."""
    if _is_path(pattern):
        return made.near(pattern.rstrip("/"))
    return [
        label
        for label, outputs in made.outputs()
        if any(_may_match(pattern, output) for output in outputs)
    ]


def _may_match(pattern: str, output: str) -> bool:
    """Say whether `pattern` matches the declared output or may match something below it."""
    return (
        matcher(pattern)(output)
        or output.startswith(f"{pattern.rstrip('/')}/")
        or (may_match_below(pattern, output))
    )
