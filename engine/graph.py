"""The graph: recipes, what they take from sources, and what they need of each other."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from json.encoder import encode_basestring as quoted
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from engine.spec.faults import nearest
from store.digest import Digest, digest_bytes
from store.encoding import TYPE_KEY, encode
from store.errors import InputError
from store.ingest import Snapshot
from store.objects import Directory, Entry, File, Link
from store.records import field, frozen

if TYPE_CHECKING:
    from engine.spec.project import Unit

RECIPE: Final = "recipe.1"


@frozen(eq=False)
class Selection:
    """Entries that recipes take from one source, by their path in the work directory.

    `snapshot` and `stage` tell where on disk they came from, for a source that is a directory.
    """

    stage: str
    entries: Mapping[str, Entry] = field(repr=False)
    digest: Digest
    snapshot: Snapshot | None = None

    def changed(self) -> str | None:
        """Return the path of a file on disk that is no longer what was taken, None if all are."""
        if self.snapshot is None:
            return None
        if self.stage in self.entries:
            return self.snapshot.first_changed(self.snapshot.files)
        start = len(self.stage) + 1
        return self.snapshot.first_changed(path[start:] for path in self.entries)


def make_selection(
    stage: str, entries: Mapping[str, Entry], snapshot: Snapshot | None
) -> Selection:
    """Return the selection of `entries` (by staged path) with its digest."""
    paths = entries if len(entries) == 1 else sorted(entries)
    texts = ",".join([f"{quoted(path)}:{_entry_text(entries[path])}" for path in paths])
    text = f'{{"{TYPE_KEY}":"selection.1","entries":{{{texts}}}}}'
    return Selection(stage, entries, digest_bytes(text.encode()), snapshot)


def _entry_text(entry: Entry) -> str:
    """Return the canonical JSON of what of an entry decides its bytes and form."""
    match entry:
        case File(digest, _, executable):
            return f'["file","{digest}",{"true" if executable else "false"}]'
        case Directory(digest):
            return f'["tree","{digest}"]'
        case Link(target):
            return f'["link",{quoted(target)}]'


@frozen
class Need:
    """What a recipe takes from another one's outputs: those that `pattern` matches (None: all),
    staged under `stage`."""

    recipe: str
    stage: str
    pattern: str | None = None


@frozen(kw_only=True)
class Resources:
    """What an action may use: processors, bytes of memory, seconds; in no digest."""

    cpus: int = 1
    memory: int | None = None
    timeout: float | None = None


@frozen(eq=False, kw_only=True)
class Recipe:
    """An action before its inputs are known: a vertex of the graph.

    `digest` is the recipe digest: the definition and the recipe digests of what it needs.
    `label` names it for people.
    """

    label: str
    command: tuple[str, ...]
    env: Mapping[str, str]
    outputs: tuple[str, ...]
    depfile: bool
    toolchains: tuple[Digest, ...]
    selections: tuple[Selection, ...]
    needs: tuple[Need, ...]
    platform: str
    isolation: str
    digest: Digest
    test: bool
    resources: Resources


@frozen(kw_only=True)
class About:
    """What of the root spec is asked of a graph: its path, its package's name, and the artifacts
    that are built, or run as tests, when none is named."""

    spec: Path
    package: str
    defaults: tuple[str, ...]
    tests: tuple[str, ...]


@frozen(eq=False)
class Graph:
    """All recipes of a project by label, and which of them make up each artifact.

    `load` gives the project that they came from, `digests` the recipe digest of a label, `needs`
    what it needs and `resources` what it holds where that is quicker than by way of the recipe;
    `packed` is the graph as plain values, and the directories that it takes from; `kept` is the
    path of its memo, where it is kept in one, and what tells it from other graphs kept there.
    """

    recipes: Mapping[str, Recipe]
    artifacts: Mapping[str, tuple[str, ...]]
    about: About
    isolation: str
    load: Callable[[], Unit] = field(repr=False)
    digests: Callable[[str], Digest] | None = field(default=None, repr=False)
    needs: Callable[[str], tuple[str, ...]] | None = field(default=None, repr=False)
    resources: Callable[[str], Resources] | None = field(default=None, repr=False)
    packed: tuple[Any, Sequence[Snapshot]] | None = field(default=None, repr=False)
    kept: tuple[str, str] | None = field(default=None, repr=False)

    def digest_of(self, label: str) -> Digest:
        """Return the recipe digest of a step."""
        return self.recipes[label].digest if self.digests is None else self.digests(label)

    def needs_of(self, label: str) -> tuple[str, ...]:
        """Return the steps that a step needs, each once."""
        if self.needs is not None:
            return self.needs(label)
        return tuple(dict.fromkeys(need.recipe for need in self.recipes[label].needs))

    def resources_of(self, label: str) -> Resources:
        """Return what a step may hold while it runs."""
        if self.resources is not None:
            return self.resources(label)
        return self.recipes[label].resources

    @property
    def root(self) -> Unit:
        """The project's root; its spec may have to be read again."""
        return self.load()

    def default_targets(self) -> tuple[str, ...]:
        """Return what is built when nothing is named: `package.default`, else all but tests."""
        return self.about.defaults

    def tests(self) -> tuple[str, ...]:
        """Return the artifacts of the root spec that `bn test` runs."""
        return self.about.tests

    def labels_of(self, target: str) -> tuple[str, ...]:
        """Return the labels of a target: an artifact's name or a single step's label.

        Raises InputError, with the nearest name, for one that is not there.
        """
        if target in self.recipes:
            return (target,)
        labels = self.artifacts.get(target)
        if labels:
            return labels
        if labels == ():
            raise InputError(f"target {target!r}: no combination of it is left by its 'when'")
        known = [*self.artifacts, *self.recipes]
        raise InputError(f"unknown target {target!r}", nearest(target, known, "targets"))

    def order(self, labels: tuple[str, ...] | None = None) -> list[str]:
        """Return `labels` (default: all) and what they need, needed ones first."""
        done: dict[str, None] = {}
        stack = [(label, False) for label in reversed(labels or tuple(self.recipes))]
        while stack:
            label, expanded = stack.pop()
            if label in done:
                continue
            if expanded:
                done[label] = None
                continue
            stack.append((label, True))
            needs = (need.recipe for need in reversed(self.recipes[label].needs))
            stack.extend((need, False) for need in needs if need not in done)
        return list(done)


def recipe_digest(
    definition: Mapping[str, object],
    selections: tuple[Selection, ...],
    needs: tuple[Need, ...],
    recipes: Mapping[str, Recipe],
) -> Digest:
    """Return the digest of a definition, its sources and the recipe digests of what it needs.

    It is the digest of a canonical document; every other way to write it has to give the same.
    """
    document = {
        TYPE_KEY: RECIPE,
        **definition,
        "needs": sorted(_needed(needs, lambda label: recipes[label].digest)),
        "sources": sorted({selection.digest for selection in selections}),
    }
    return digest_bytes(encode(document))


def _needed(
    needs: tuple[Need, ...], digest_of: Callable[[str], Digest]
) -> list[tuple[str, str, str]]:
    return [(need.stage, need.pattern or "", digest_of(need.recipe)) for need in needs]


def needs_text(needs: tuple[Need, ...], digest_of: Callable[[str], Digest]) -> str:
    """Return the canonical JSON of what a recipe needs; `digest_of` gives recipe digests."""
    return needed_text(_needed(needs, digest_of))


def needed_text(needed: Iterable[tuple[str, str, str]]) -> str:
    """Return the canonical JSON of needs: where each is staged, its pattern, its recipe digest."""
    needed = list(needed)
    if len({(stage, glob) for stage, glob, _ in needed}) == 1:
        stage, glob, _ = needed[0]
        start = f'[{quoted(stage)},{quoted(glob)},"'
        texts = f'"],{start}'.join(sorted([digest for _, _, digest in needed]))
        return f'[{start}{texts}"]]'
    rows = [
        f'[{quoted(stage)},{quoted(glob)},"{digest}"]' for stage, glob, digest in sorted(needed)
    ]
    return f"[{','.join(rows)}]"


def list_text(texts: Iterable[str]) -> str:
    """Return the canonical JSON of a list of strings."""
    return f"[{','.join(map(quoted, texts))}]"


def quick_digest(
    command: str,
    common: tuple[str, str, str],
    needs: str,
    outputs: str,
    selections: tuple[Selection, ...],
) -> Digest:
    """Return what `recipe_digest` returns, of parts that are canonical JSON already.

    `common` is what the recipes of an action share: the members `depfile` to `isolation`, then
    `platform`, then `toolchains`, each with its key.
    """
    if len(selections) == 1:
        sources = f'"{selections[0].digest}"'
    else:
        sources = ",".join([f'"{one}"' for one in sorted({one.digest for one in selections})])
    head, platform, toolchains = common
    return digest_bytes(
        f'{{"{TYPE_KEY}":"{RECIPE}","command":{command},{head},"needs":{needs},"outputs":{outputs},'
        f'{platform},"sources":[{sources}],{toolchains}}}'.encode()
    )


def common_text(
    depfile: bool, env: Mapping[str, str], isolation: str, platform: str, toolchains: Iterable[str]
) -> tuple[str, str, str]:
    """Return the parts of a recipe's document that `quick_digest` takes ready-made."""
    variables = ",".join(f"{quoted(key)}:{quoted(env[key])}" for key in sorted(env))
    flag = "true" if depfile else "false"
    head = f'"depfile":{flag},"env":{{{variables}}},"isolation":{quoted(isolation)}'
    return head, f'"platform":{quoted(platform)}', f'"toolchains":{list_text(toolchains)}'
