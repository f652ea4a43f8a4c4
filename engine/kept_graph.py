"""Graphs kept: a graph as it was evaluated last, with only what changed since made anew.

The form of a graph (which recipes there are, and what they need) depends on the specs, on the names
of the sources' files and on the toolchains. While all of these are as they were, files with other
contents change the digests of some selections and recipes, and nothing else: these are worked out,
the rest is read from one file. Anything else that changed, and any doubt, is left to a whole
evaluation.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import time
from collections.abc import Callable, ItemsView, Iterable, Iterator, Mapping, ValuesView
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import engine
from engine.graph import Graph
from engine.memo import memo_path, read_memo, write_memo
from engine.packed_graph import at_hand as packed_at_hand
from engine.packed_graph import graph_of, taken_whole
from engine.reverse import Reverse, reversed_graph
from engine.sources.exclusion import local_exclusion
from engine.toolchains.memory import recall
from executors.base import DEPFILE, OUT, SHELL
from store.digest import Digest
from store.errors import BnError
from store.follow import NOTHING, Followed, Look, follow
from store.ingest import RACY_NS, Signature, Snapshot, ingest_directory, signature
from store.mapped import give_back_large
from store.objects import Directory, File
from store.presence import blobs_under, present
from store.records import evolve, frozen
from store.seen import Seen
from store.store import Store
from store.trees import build_tree

if TYPE_CHECKING:
    from engine.spec.project import Unit

KIND: Final = "graph"
FORMAT: Final = "7"

LARGE: Final = 2 << 20
"""Bytes of a kept graph, some 6,000 steps, from which on its memory is worth some milliseconds."""


@frozen(eq=False)
class Evaluation:
    """A graph, and the signatures of every file and directory that it was made from.

    `taken_ns` is when it began, in nanoseconds since 1970. `look` looks at what was taken for
    granted, some things for each value: False where that is not as it was taken to be.
    """

    graph: Graph
    watched: Mapping[str, Signature]
    taken_ns: int
    look: Iterator[bool] = iter(())

    def file(self, path: str) -> File | None:
        """Return what the file of a local source at that absolute path was taken to be, where it
        was seen to be one that was followed; else None."""
        return self.watched.file(path) if isinstance(self.watched, Watched) else None


class Watched(Mapping[str, Signature]):
    """The signatures of some files, and of all that is in snapshots, by absolute path.

    They are put together when somebody goes through them: many builds need none.
    """

    def __init__(self, files: Mapping[str, Signature], snapshots: Iterable[Snapshot]) -> None:
        self._files = files
        self._snapshots = tuple(snapshots)
        self._found: dict[str, Signature] = {}

    def __getitem__(self, path: str) -> Signature:
        return self._all()[path]

    def __iter__(self) -> Iterator[str]:
        return iter(self._all())

    def __len__(self) -> int:
        return len(self._all())

    def items(self) -> ItemsView[str, Signature]:
        """Return paths with their signatures."""
        return self._all().items()

    def values(self) -> ValuesView[Signature]:
        """Return the signatures, in the order of the paths."""
        return self._all().values()

    def file(self, path: str) -> File | None:
        """Return the file at `path`, of those in snapshots."""
        for one in self._snapshots:
            if path.startswith(f"{one.root}/"):
                entry = one.files.get(path[len(one.root) + 1 :])
                if isinstance(entry, File):
                    return entry
        return None

    def _all(self) -> dict[str, Signature]:
        if not self._found:
            self._found = dict(self._files)
            for one in self._snapshots:
                paths = [f"{one.root}/{name}" if name else one.root for name in one.stats]
                self._found.update(zip(paths, one.stats.values(), strict=True))
        return self._found


@frozen(eq=False)
class Local:
    """A source that is a directory: what is left out of it, and what was in it."""

    exclude: tuple[str, ...]
    snapshot: Snapshot


@frozen(eq=False)
class Ground:
    """What a graph stands on: spec and toolchain files, memos of toolchains with their trees, and
    sources, local ones and the trees of fetched ones."""

    files: tuple[str, ...]
    toolchains: tuple[tuple[str, Digest], ...]
    local: tuple[Local, ...]
    fetched: tuple[Digest, ...]


class KeptGraph:
    """The memo of the graph of one spec with its parameters, for one executor's isolation."""

    def __init__(
        self,
        store: Store,
        spec: Path,
        sets: Mapping[str, str],
        profile: str | None,
        isolation: str,
    ) -> None:
        self._store = store
        self._began = time.time_ns()
        words = [
            str(spec.absolute()),
            profile or "",
            isolation,
            os.uname().machine,
            str(store.root),
        ]
        settings = [f"{name}={value}" for name, value in sets.items()]
        self._path = memo_path(store.root, KIND, FORMAT, *_makers(), *words, *settings)
        self._recipes = f"{self._path}.recipes"

    @property
    def is_new(self) -> bool:
        """Whether this was never evaluated before, as far as is known."""
        return not os.path.exists(self._path)

    @property
    def is_large(self) -> bool:
        """Whether it is so large that its memory is worth some milliseconds."""
        with contextlib.suppress(OSError):
            return os.path.getsize(self._path) + os.path.getsize(self._recipes) > LARGE
        return False

    def recall(
        self,
        load: Callable[[], Unit],
        doubt: bool = False,
        changed: Callable[[], None] = lambda: None,
        told: Callable[[], Mapping[str, Signature]] = lambda: NOTHING,
        later: bool = False,
    ) -> Evaluation | None:
        """Return the evaluation if only contents of files changed, else None; `load` gives the
        project where somebody wants it. `told` gives the signatures of files that somebody vouches
        for: they are not looked at.

        Unless there is `doubt`, files that did not change are not looked for in the store: whoever
        needs one that is gone finds that out. Where contents did change `changed` is called as soon
        as that is known. Who can `look` at toolchains' files `later` is told how.
        """
        if self.is_large:
            give_back_large()
        memo: Any = read_memo(self._path)
        if memo is None:
            return None
        try:
            self._store.cas.settled()  # the toolchain that this very process imported is kept now
            return self._recall(memo, load, doubt, changed, told(), later)
        except (BnError, OSError):
            return None  # whoever evaluates it all says what is wrong, and where

    def _recall(
        self,
        memo: Any,
        load: Callable[[], Unit],
        doubt: bool,
        tell: Callable[[], None],
        told: Mapping[str, Signature],
        later: bool,
    ) -> Evaluation | None:
        files, toolchains, local, fetched, stamp = memo
        watched = {path: signature(os.lstat(path)) for path, _, _ in files}
        now = [one for one in itertools.starmap(_seen, files) if one is not None]
        if len(now) < len(files):
            return None
        renewed = now != files and _at_rest(now, self._began)
        tools = [recall(self._store, path, doubt, told) for path, _ in toolchains]
        known = [one for one in tools if one is not None]
        if [one.tree for one in known] != [tree for _, tree in toolchains]:
            return None
        for one in known:
            watched.update(one.watched)
        look = itertools.chain.from_iterable(one.look() for one in known)
        if not (later or all(look)):
            return None
        if not present(self._store.cas, fetched):
            return None
        before = [None] * len(local) if doubt else self._looks(stamp, len(local))
        snapshots, changed, followed = [], [], []
        for source, last in zip(local, before, strict=True):
            found = self._source(source, last, told)
            if found is None:
                return None
            snapshots.append(found[0])
            changed.append(found[1])
            followed.append(found[2])
        if any(changed):
            tell()
        if any(one and one.is_much for one in followed):
            newer = zip(before, followed, strict=True)
            self._keep_looks(stamp, [one.look if one else last for last, one in newer])
        if renewed:
            write_memo(self._path, (now, *memo[1:]))
        del memo, local
        rest: Any = read_memo(self._recipes)
        if rest is None or rest[0] != stamp:
            return None
        taken = [snapshots[number] for number in rest[1]]
        graph = graph_of(
            rest[2],
            taken,
            load,
            [changed[number] for number in rest[1]],
            lambda: self._reverse(stamp, rest[2]),
            (self._path, stamp),
        )
        return Evaluation(graph, Watched(watched, snapshots), self._began, look)

    def _source(
        self, source: Any, look: Look | None, told: Mapping[str, Signature]
    ) -> tuple[Snapshot, set[str], Followed | None] | None:
        """Return a local source as it is now, which of its files are others than when the graph was
        kept, and how that was found out if the source was followed; None where more changed."""
        root, exclude, tree, plain, whole = source
        cas, first = self._store.cas, Seen.read(plain, b"")
        excluded = local_exclusion(str(self._store.root), exclude, root)
        found = follow(cas, root, excluded, look, first, told) if look else None
        if found is not None:
            numbers = found.look.news.items()
            news = {first.names[n] for n, plain in numbers if first.entry(n) != File(*plain)}
            if news and whole:
                now = {path: found.snapshot.files[path] for path in news}
                tree = build_tree(cas, {**cas.get_tree(tree).entries, **now})
            return evolve(found.snapshot, whole=tree if whole or not news else None), news, found
        snapshot = ingest_directory(cas, self._store.index, root, excluded)
        changed = set[str]() if snapshot.tree == tree else first.unlike(snapshot.seen)
        return None if changed is None else (snapshot, changed, None)

    def _reverse(self, stamp: str, packed: Any) -> Reverse:
        """Return the graph read backwards, which is worked out when a file changed first."""
        path = f"{self._path}.reverse"
        memo: Any = read_memo(path)
        if memo is None or memo[0] != stamp:
            memo = (stamp, *reversed_graph(packed))
            write_memo(path, memo)
        return Reverse.read(memo[1:])

    def _looks(self, stamp: str, wanted: int) -> list[Look | None]:
        """Return how so many local sources looked."""
        memo: Any = read_memo(f"{self._path}.looks")
        if memo is None or memo[0] != stamp:
            return [None] * wanted
        return [Look(*row) if row else None for row in memo[1]]

    def _keep_looks(self, stamp: str, looks: Iterable[Look | None]) -> None:
        rows = [(one.marks, one.news) if one else None for one in looks]
        write_memo(f"{self._path}.looks", (stamp, rows))

    def keep(self, graph: Graph, ground: Ground) -> Graph:
        """Keep a graph that has no faults, unless the files that it came from may have changed;
        return it, as one that is kept if it is."""
        marks = []
        for path in ground.files:
            mark = signature(os.stat(path))
            marks.append((path, mark, _text(path)))
        if not _at_rest(marks, self._began):
            return graph
        assert graph.packed is not None
        packed, taken = graph.packed
        numbers = {id(one.snapshot): number for number, one in enumerate(ground.local)}
        sources = [numbers[id(one)] for one in taken]
        whole = {sources[number] for number in taken_whole(packed)}
        local = [
            (
                one.snapshot.root,
                one.exclude,
                one.snapshot.tree,
                one.snapshot.seen.plain(),
                number in whole,
            )
            for number, one in enumerate(ground.local)
        ]
        blobs = [
            blob for t in ground.fetched for blob in blobs_under(self._store.cas, Directory(t))
        ]
        stamp = f"{self._began} {os.getpid()}"
        self._keep_looks(stamp, [Look.of(one.snapshot) for one in ground.local])
        write_memo(self._recipes, (stamp, sources, packed))
        write_memo(self._path, (marks, ground.toolchains, local, blobs, stamp))
        return evolve(graph, kept=(self._path, stamp))


def at_hand(memo: Any) -> Any:
    """Return the memo of a graph's recipes with all at hand that is packed in it; it says the
    same."""
    return (*memo[:-1], packed_at_hand(memo[-1]))


def _text(path: str) -> str:
    with open(path, encoding="utf-8") as file:
        return file.read()


def _seen(path: str, mark: Signature, text: str) -> tuple[str, Signature, str] | None:
    """Return what a spec file looks like now and its text; None where that says something else.

    Comments and layout say nothing. Raises OSError.
    """
    now = signature(os.stat(path))
    if now == mark:
        return path, mark, text
    import tomllib

    try:
        fresh = _text(path)
        if fresh != text and repr(tomllib.loads(fresh)) != repr(tomllib.loads(text)):
            return None
    except (ValueError, RecursionError):
        return None
    return path, now, fresh


def _at_rest(files: Iterable[tuple[str, Signature, str]], began: int) -> bool:
    """Say whether files changed so long before `began` that a later change shows."""
    return all(max(mark[0], mark[1]) < began - RACY_NS for _, mark, _ in files)


def _makers() -> Iterable[str]:
    """Yield the version, and what those of our own files look like that decide what a graph is:
    with others nothing kept is believed."""
    yield from (engine.__version__, OUT, DEPFILE, SHELL)
    home = os.path.dirname(engine.__file__)
    for part in ("", "/spec", "/sources", "/toolchains"):
        with os.scandir(f"{home}{part}") as listing:
            for item in sorted(listing, key=lambda item: item.name):
                if item.name.endswith(".py"):
                    yield f"{part}/{item.name} {signature(item.stat())}"
