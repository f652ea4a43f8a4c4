"""Descent: what was made of something bad, forward over all actions and results of a store.

::

    bad contents ──in a tree──▶ trees ──are inputs or toolchains of──▶ actions ──gave──▶ results
         ▲                                                                                  │
         └───────────────────────── all trees and blobs of their outputs ◀──────────────────┘

It goes by contents alone, so it names too much rather than too little: an action that got the same
bytes from elsewhere is among them.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterable, Iterator
from typing import Any, Final

from attrs import define, field, frozen

from store.cas import Cas
from store.census import Census
from store.closure import parse, read
from store.digest import Digest, digest_bytes, is_digest
from store.encoding import HEAD, TYPE_KEY
from store.index import Index, Table
from store.object_table import LARGEST
from store.objects import ACTION, EMPTY_TREE, REALISATION, RESULT, TREE
from store.rebuild import LONGEST, head_of
from store.tiers import Form, Held, Tier

PLAIN: Final = frozenset({digest_bytes(b""), EMPTY_TREE.digest()})
"""Contents that say nothing of where they came from: nothing at all."""


@frozen
class Because:
    """Why an action is among those named: what of its inputs (`inputs`) or of a toolchain
    (`toolchain`) is bad, at which path, and the action that gave that; nothing where it is the
    entry itself that was asked about."""

    where: str
    path: str
    content: Digest
    action: Digest | None


@define
class Descent:
    """What was made of something. `actions` are in the order in which they were found, those of the
    entry itself without a reason."""

    actions: dict[Digest, Because | None] = field(factory=dict)
    results: dict[Digest, tuple[Digest, Digest]] = field(factory=dict)
    """Results, and action and outputs of each."""
    realisations: dict[Digest, Digest] = field(factory=dict)
    """Realisations, and the recipe of each."""
    contents: dict[Digest, Digest | None] = field(factory=dict)
    """Bad trees and blobs, and the action that gave each."""
    holders: set[Digest] = field(factory=set)
    """Trees that something of that is in, and the bad ones themselves."""
    unknown: set[Digest] = field(factory=set)
    """Trees of which nobody here knows what is in them."""


class Lineage:
    """All trees, actions, results and realisations of a store, and who names whom."""

    def __init__(self, cas: Cas, index: Index) -> None:
        """Read all of them."""
        self.trees: dict[Digest, list[tuple[str, Digest]]] = {}
        self.actions: dict[Digest, tuple[Digest, tuple[Digest, ...]]] = {}
        self.results: dict[Digest, tuple[Digest, Digest]] = {}
        self.realisations: dict[Digest, tuple[Digest, Digest, Digest]] = {}
        for digest, document in _documents(cas):
            self._take(digest, document)
        self._parents: dict[Digest, list[tuple[Digest, str]]] = defaultdict(list)
        for tree, entries in self.trees.items():
            for name, child in entries:
                self._parents[child].append((tree, name))
        self._users: dict[Digest, list[tuple[Digest, str]]] = defaultdict(list)
        for action, (root, toolchains) in self.actions.items():
            self._users[root].append((action, "inputs"))
            for toolchain in toolchains:
                self._users[toolchain].append((action, "toolchain"))
        self._foreign = {key for key, _ in index.items(Table.ORIGINS)}
        self._gave: dict[Digest, set[Digest]] = defaultdict(set)
        for result, (action, _) in self.results.items():
            self._gave[action].add(result)
        for key, value in index.items(Table.ACTION_CACHE):
            reference = Digest(value.decode(errors="replace"))
            if reference in self.results:  # an action may have been given another one's result
                self._gave[Digest(key)].add(reference)

    def below(self, tree: Digest) -> Iterator[Digest]:
        """Yield a tree or blob and all that is in it."""
        seen = {tree}
        pending = [tree]
        while pending:
            digest = pending.pop()
            yield digest
            for _, child in self.trees.get(digest, ()):
                if child not in seen:
                    seen.add(child)
                    pending.append(child)

    def givers(self, content: Digest) -> set[Digest]:
        """Return the results whose outputs hold a tree or blob."""
        holders = {content}
        pending = [content]
        while pending:
            for tree, _ in self._parents.get(pending.pop(), ()):
                if tree not in holders:
                    holders.add(tree)
                    pending.append(tree)
        return {one for one, (_, outputs) in self.results.items() if outputs in holders}

    def makers(self, tree: Digest) -> set[Digest]:
        """Return the results that make up a tree: it itself, or, where it was put together, those
        all of whose files are in it."""
        whole = {one for one, (_, outputs) in self.results.items() if outputs == tree}
        if whole:
            return whole
        parts = {one for one in self.below(tree) if one not in self.trees}
        return {
            one
            for one, (_, outputs) in self.results.items()
            if (files := {d for d in self.below(outputs) if d not in self.trees} - PLAIN)
            and files <= parts
        }

    def descent(self, results: Iterable[Digest], contents: Iterable[Digest]) -> Descent:
        """Return all that was made of bad results and bad contents, these included."""
        walk = _Walk(self)
        for digest in contents:
            walk.bad(digest, None)
        for digest in results:
            if digest in self.results:
                action = self.results[digest][0]
                walk.found.actions.setdefault(action, None)
                walk.gave(digest, action)
        walk.run()
        self._realise(walk.found)
        return walk.found

    def parents(self, digest: Digest) -> Iterable[tuple[Digest, str]]:
        """Return the trees that hold a tree or blob, each with the name under which."""
        return self._parents.get(digest, ())

    def users(self, tree: Digest) -> Iterable[tuple[Digest, str]]:
        """Return the actions whose inputs or toolchain a tree is, each with which of these."""
        return self._users.get(tree, ())

    def gave(self, action: Digest) -> list[Digest]:
        """Return the results of an action."""
        return sorted(self._gave.get(action, ()))

    def is_named(self, digest: Digest) -> bool:
        """Say whether a tree holds that digest."""
        return bool(self._parents.get(digest))

    def strangers(self) -> set[Digest]:
        """Return the results of which nobody here knows what they were made of: they came from
        elsewhere, without their action, or without its inputs."""
        return {one for one, (action, _) in self.results.items() if not self._is_known(action)}

    def _is_known(self, action: Digest) -> bool:
        """Say whether it is known here what an action is made of."""
        if action not in self.actions:
            return False
        root, toolchains = self.actions[action]
        return action not in self._foreign or all(
            one in self.trees or one in PLAIN for one in (root, *toolchains)
        )

    # inside

    def _realise(self, found: Descent) -> None:
        outputs = {self.results[one][1] for one in found.results} - PLAIN
        for digest, (recipe, action, tree) in self.realisations.items():
            if action in found.actions or tree in outputs or tree in found.contents:
                found.realisations[digest] = recipe

    def _take(self, digest: Digest, document: dict[str, Any]) -> None:
        match document:
            case {"_": "tree.1", "entries": dict(entries)}:
                self.trees[digest] = list(_children(entries))
            case {"_": "action.1", "input_root": str(root), "toolchains": list(toolchains)}:
                self.actions[digest] = Digest(root), tuple(map(Digest, toolchains))
            case {"_": "result.1", "action": str(action), "outputs": str(outputs)}:
                self.results[digest] = Digest(action), Digest(outputs)
            case {
                "_": "realisation.1",
                "recipe": str(recipe),
                "action": str(action),
                "outputs": str(outputs),
            }:
                self.realisations[digest] = Digest(recipe), Digest(action), Digest(outputs)


class _Walk:
    """One walk over a lineage, and what it found so far."""

    def __init__(self, lineage: Lineage) -> None:
        self.found = Descent()
        self._lineage = lineage
        self._pending: deque[tuple[Digest, tuple[Digest, str] | None]] = deque()
        self._holders: dict[Digest, tuple[Digest, str] | None] = {}
        """Trees and blobs, and what bad thing is in them, under which name."""

    def bad(self, digest: Digest, action: Digest | None) -> None:
        """Take a tree or blob that the action gave, and all in it, for bad."""
        contents = self.found.contents
        for one in self._lineage.below(digest):
            if one not in PLAIN and one not in contents:
                contents[one] = action
                self._pending.append((one, None))

    def gave(self, result: Digest, key: Digest) -> None:
        """Take a result, which stands for the action `key`, for bad."""
        found = self.found
        if result not in found.results:
            action, outputs = self._lineage.results[result]
            found.results[result] = (action, outputs)
            if outputs not in self._lineage.trees and outputs not in PLAIN:
                found.unknown.add(outputs)
            self.bad(outputs, key)

    def run(self) -> None:
        """Go on until nothing more is found."""
        while self._pending:
            digest, via = self._pending.popleft()
            if digest not in self._holders:
                self._holders[digest] = via
                for tree, name in self._lineage.parents(digest):
                    self._pending.append((tree, (digest, name)))
                for action, where in self._lineage.users(digest):
                    self._spoilt(action, where, digest)
        self.found.holders.update(self._holders)

    def _spoilt(self, action: Digest, where: str, root: Digest) -> None:
        found = self.found
        if action not in found.actions:
            found.actions[action] = self._because(where, root)
            for result in self._lineage.gave(action):
                self.gave(result, action)

    def _because(self, where: str, root: Digest) -> Because:
        """Return why a tree is bad: the way down to what is."""
        names = []
        digest = root
        while (via := self._holders[digest]) is not None:
            digest, name = via
            names.append(name)
        return Because(where, "/".join(names) or ".", digest, self.found.contents.get(digest))


def _children(entries: dict[str, Any]) -> Iterator[tuple[str, Digest]]:
    for name, entry in entries.items():
        match entry:
            case {"file": str(digest)} | {"tree": str(digest)} if is_digest(digest):
                yield name, Digest(digest)


def _documents(cas: Cas) -> Iterator[tuple[Digest, dict[str, Any]]]:
    """Yield every object of the store that is one of ours, with its digest."""
    heads = tuple(HEAD + kind.encode() for kind in (TREE, ACTION, RESULT, REALISATION))
    for digest, files in Census(cas).files.items():
        tier, held = files[0]
        if not _may_be_object(tier, held) or not head_of(tier, held).startswith(heads):
            continue
        document = parse(read(cas, digest) or b"")
        if document is not None and isinstance(document.get(TYPE_KEY), str):
            yield digest, document


def _may_be_object(tier: Tier, held: Held) -> bool:
    """Say whether a blob may be an object: where there is a table, only long ones are files."""
    if held.form is Form.OBJECT:
        return True
    return held.size <= LONGEST and (tier.table is None or held.size > LARGEST)
