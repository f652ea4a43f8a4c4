"""Recipes resolved: once what they need is known by content, they become actions."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TypeAlias

from engine.graph import Need, Recipe
from engine.spec.selector import matcher
from store.cas import Cas
from store.digest import Digest
from store.objects import Action, Directory, Entry
from store.trees import build_tree, merge, walk

Merging: TypeAlias = Callable[[Cas, str, Sequence[str], Callable[[str], Digest]], Digest]
"""Gives the union of what some steps came to: `trees.merge`, or what knows a quicker way. It is
told by name who needs it."""


def merged(cas: Cas, into: str, needs: Sequence[str], outputs: Callable[[str], Digest]) -> Digest:
    """Store the union of what some steps came to and return its digest."""
    return merge(cas, map(outputs, needs))


class NothingMatchesError(Exception):
    """What was needed of another step's outputs turned out not to be there."""


class Resolved:
    """An action, its digest, and all of its inputs by path in the work directory."""

    __slots__ = ("_cas", "_inputs", "action", "digest")

    def __init__(self, cas: Cas, action: Action) -> None:
        self._cas = cas
        self.action = action
        self.digest = action.digest()
        self._inputs: Mapping[str, Entry] | None = None

    def inputs(self) -> Mapping[str, Entry]:
        """Return every input entry by path; read from the store on the first call."""
        if self._inputs is None:
            self._inputs = dict(walk(self._cas, self.action.input_root))
        return self._inputs


def resolve(
    cas: Cas,
    recipe: Recipe,
    outputs: Callable[[str], Digest],
    *,
    new: bool = False,
    merging: Merging = merged,
) -> Resolved:
    """Return the action that `recipe` is; `outputs` gives the output tree of a step that it needs,
    `merging` the union of several.

    That of a step without a past is `new`; its inputs are then not looked for in the store.

    Raises NothingMatchesError where a selector of another step's outputs comes out empty.
    """
    entries: dict[str, Entry] = {}
    for selection in recipe.selections:
        entries.update(selection.entries)
    entries.update(_needed(cas, recipe, outputs, merging))
    return with_inputs(cas, recipe, build_tree(cas, entries, new=new))


def with_inputs(cas: Cas, recipe: Recipe, input_root: Digest) -> Resolved:
    """Return the action that `recipe` is with the tree `input_root` as its inputs."""
    action = Action(
        command=recipe.command,
        env=recipe.env,
        input_root=input_root,
        toolchains=recipe.toolchains,
        outputs=recipe.outputs,
        depfile=recipe.depfile,
        platform=recipe.platform,
        isolation=recipe.isolation,
    )
    return Resolved(cas, action)


def _needed(
    cas: Cas, recipe: Recipe, outputs: Callable[[str], Digest], merging: Merging
) -> dict[str, Entry]:
    whole: dict[str, list[Need]] = {}
    parts: dict[tuple[str, str], list[Need]] = {}
    for need in recipe.needs:
        if need.pattern is None:
            whole.setdefault(need.stage, []).append(need)
        else:
            parts.setdefault((need.stage, need.pattern), []).append(need)
    entries: dict[str, Entry] = {}
    for (stage, pattern), needs in parts.items():
        if stage in whole:
            continue
        before = len(entries)
        entries.update(
            (f"{stage}/{path}", entry)
            for need in needs
            for path, entry in _selected(cas, outputs(need.recipe), pattern)
        )
        if len(entries) == before and not any(
            True for need in needs for _ in _selected(cas, outputs(need.recipe), pattern)
        ):
            raise NothingMatchesError(f"nothing in {stage} matches {pattern!r}")
    for stage, needs in whole.items():
        labels = [need.recipe for need in needs]
        entries[stage] = Directory(merging(cas, f"{recipe.label}\0{stage}", labels, outputs))
    return entries


def _selected(cas: Cas, tree: Digest, pattern: str) -> Iterator[tuple[str, Entry]]:
    test = matcher(pattern)
    below = f"{pattern.rstrip('/')}/"
    for path, entry in walk(cas, tree):
        if test(path) or path.startswith(below):
            yield path, entry
