"""Graphs as plain values: packed to be kept, each recipe made of that when it is asked for.

What is needed of every recipe (its label, its digest) is at hand; the rest stays packed.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from engine.graph import (
    About,
    Graph,
    Need,
    Recipe,
    Resources,
    Selection,
    common_text,
    list_text,
    make_selection,
    needed_text,
    quick_digest,
)
from engine.packer import Rows, entry_of, set_in
from engine.reverse import FEW, Reverse
from store.digest import Digest
from store.ingest import Snapshot
from store.objects import Directory, Entry

if TYPE_CHECKING:
    from engine.spec.project import Unit

RECENT: Final = 32
"""Recipes up to which those are kept that were made last: a step that runs is asked for often."""

MOST_NEEDS: Final = 64
"""Needs that are remembered: in most graphs many recipes in a row have the same ones."""

MOST_SINGLE: Final = 1024
"""Selections of one file that are remembered: many recipes may have the same ones."""


class PackedRecipes(Mapping[str, Recipe]):
    """The recipes of a graph, each made when it is asked for; `changed` names the files of each of
    the snapshots that are not as they were when the graph was packed."""

    def __init__(
        self,
        packed: Any,
        snapshots: Sequence[Snapshot],
        changed: Sequence[set[str]] = (),
        reverse: Callable[[], Reverse | None] = lambda: None,
    ) -> None:
        self._packed = packed
        self._rows = Rows(*packed["recipes"])
        self._selections = Rows(*packed["selections"])
        self._needing = Rows(*packed["needs"])
        self._kept: bytes = packed["digests"]
        self._snapshots = snapshots
        self._labels: list[str] = packed["labels"]
        self._numbers = {label: number for number, label in enumerate(self._labels)}
        self._forms: dict[int, tuple[dict[str, str], Resources]] = {}
        self._shared: dict[int, Selection] = {}
        self._single: dict[int, Selection] = {}
        """Selections of several files, and of the others those that were made last."""
        self._needs: dict[int, tuple[Need, ...]] = {}
        """Those that recipes had last."""
        self._now: bytes | bytearray = self._kept
        """The digests of all recipes as they are now, in a row of 32 bytes each."""
        self._renewed = bytearray(len(self._rows))
        """A byte for each recipe: whether its digest is another one than when it was packed."""
        self._asked = (-1, False)
        self._recent: dict[str, Recipe] = {}
        self._fresh: set[int] = set()
        """The selections with other contents than when they were kept."""
        if any(changed):
            self._renew(changed, reverse() if len(self._rows) > FEW else None)

    def __getitem__(self, label: str) -> Recipe:
        recipe = self._recent.get(label)
        if recipe is None:
            recipe = self._recipe(self._numbers[label])
            if len(self._recent) >= RECENT:
                self._recent = {}
            self._recent[label] = recipe
        return recipe

    def __contains__(self, label: object) -> bool:
        return label in self._numbers

    def __iter__(self) -> Iterator[str]:
        return iter(self._numbers)

    def __len__(self) -> int:
        return len(self._rows)

    def digest_of(self, label: str) -> Digest:
        """Return a recipe digest without making the recipe."""
        return self._digest_at(self._numbers[label])

    def _digest_at(self, number: int) -> Digest:
        return Digest(self._now[32 * number : 32 * number + 32].hex())

    @property
    def all_digests(self) -> bytes | bytearray:
        """The digests of all recipes in a row, 32 bytes each."""
        return self._now

    def unlike(self, then: bytes) -> Iterator[int]:
        """Yield the numbers of the recipes whose digests are not those in the row `then`."""
        now = self._now
        if then == now:
            return
        numbers = set_in(self._renewed) if then == self._kept else range(len(self))
        for number in numbers:
            at = 32 * number
            if then[at : at + 32] != now[at : at + 32]:
                yield number

    @property
    def numbers(self) -> Mapping[str, int]:
        """The numbers of all recipes."""
        return self._numbers

    def number_of(self, label: object) -> int | None:
        """Return the number of a recipe, None where there is none."""
        return self._numbers.get(label) if isinstance(label, str) else None

    def labels_at(self, numbers: Sequence[int]) -> list[str]:
        """Return the labels of recipes."""
        return list(map(self._labels.__getitem__, numbers))

    def digest_at(self, number: int) -> Digest:
        """Return the digest of a recipe."""
        return self._digest_at(number)

    def digests_at(self, numbers: Sequence[int]) -> list[str]:
        """Return the digests of recipes."""
        text = self._now.hex()
        return [text[64 * n : 64 * n + 64] for n in numbers]

    def needs_by_number(self, label: str) -> list[int]:
        """Return the numbers of what a recipe needs, each once."""
        needs = self._rows[self._numbers[label]][4]
        return list(dict.fromkeys([number for number, _, _ in self._needing[needs]]))

    def _renew(self, changed: Sequence[set[str]], reverse: Reverse | None) -> None:
        """Work out the digests of what reads a changed file, directly or through others."""
        if reverse is not None:
            self._fresh = reverse.selections(self._selections, changed)
            for number in reverse.recipes(self._fresh):
                self._renew_one(number)
            return
        for number, (source, _, paths, _) in enumerate(self._selections):
            if source < 0 or not changed[source]:
                continue
            if paths is None or not changed[source].isdisjoint(paths):
                self._fresh.add(number)
        if not self._fresh:
            return
        for number, row in enumerate(self._rows):
            if not self._fresh.isdisjoint(row[3]) or self._is_affected(row[4]):
                self._renew_one(number)

    def _renew_one(self, number: int) -> None:
        """Work out the digest of a recipe from what it reads as that is now."""
        digest = bytes.fromhex(self._digest(*self._rows[number]))
        if self._now is self._kept:
            self._now = bytearray(self._kept)
        assert isinstance(self._now, bytearray)
        self._now[32 * number : 32 * number + 32] = digest
        self._renewed[number] = 1

    def _is_affected(self, needs: int) -> bool:
        """Say whether a recipe has a new digest of those that these needs name."""
        if needs != self._asked[0]:
            others = (row[0] for row in self._needing[needs])
            self._asked = (needs, any(self._renewed[other] for other in others))
        return self._asked[1]

    def _digest(
        self,
        form: int,
        command: tuple[str, ...],
        outputs: tuple[str, ...],
        selections: tuple[int, ...],
        needs: int,
    ) -> Digest:
        env, depfile, toolchains, _, _ = self._packed["forms"][form]
        platform, isolation = self._packed["platform"], self._packed["isolation"]
        common = common_text(depfile, dict(env), isolation, platform, toolchains)
        needed = [
            (stage, glob or "", self._digest_at(other))
            for other, stage, glob in self._needing[needs]
        ]
        taken = tuple(map(self._selection, selections))
        return quick_digest(
            list_text(command), common, needed_text(needed), list_text(outputs), taken
        )

    def _recipe(self, number: int) -> Recipe:
        form, command, outputs, selections, needs = self._rows[number]
        _, depfile, toolchains, test, _ = self._packed["forms"][form]
        env, resources = self._form(form)
        return Recipe(
            label=self._labels[number],
            command=command,
            env=env,
            outputs=outputs,
            depfile=depfile,
            toolchains=toolchains,
            selections=tuple(map(self._selection, selections)),
            needs=self._needs_at(needs),
            platform=self._packed["platform"],
            isolation=self._packed["isolation"],
            digest=self._digest_at(number),
            test=test,
            resources=resources,
        )

    def resources_of(self, label: str) -> Resources:
        """Return what a recipe may hold without making it."""
        return self._form(self._rows[self._numbers[label]][0])[1]

    def _form(self, number: int) -> tuple[dict[str, str], Resources]:
        found = self._forms.get(number)
        if found is None:
            env, _, _, _, (cpus, memory, timeout) = self._packed["forms"][number]
            found = dict(env), Resources(cpus=cpus, memory=memory, timeout=timeout)
            self._forms[number] = found
        return found

    def needs_of(self, label: str) -> tuple[str, ...]:
        """Return what a recipe needs without making it."""
        needs = self._needs_at(self._rows[self._numbers[label]][4])
        return tuple(dict.fromkeys([need.recipe for need in needs]))

    def _needs_at(self, number: int) -> tuple[Need, ...]:
        found = self._needs.get(number)
        if found is None:
            labels, one = self._labels, dict[str, str]()
            found = tuple(
                [
                    Need(labels[n], one.setdefault(at, at), glob)
                    for n, at, glob in self._needing[number]
                ]
            )
            if len(self._needs) >= MOST_NEEDS:
                self._needs.clear()
            self._needs[number] = found
        return found

    def _selection(self, number: int) -> Selection:
        """Return a selection; one of many files is made only once."""
        selection = self._shared.get(number) or self._single.get(number)
        if selection is None:
            selection = self._select(number)
            if len(selection.entries) > 1:
                self._shared[number] = selection
            else:
                if len(self._single) >= MOST_SINGLE:
                    self._single.clear()
                self._single[number] = selection
        return selection

    def _select(self, number: int) -> Selection:
        source, stage, paths, bare = self._selections[number]
        digest = Digest(bare.hex())
        if source < 0:
            return Selection(stage, {path: entry_of(plain) for path, plain in paths}, digest)
        snapshot = self._snapshots[source]
        entries: dict[str, Entry]
        if paths is None:
            entries = {stage: Directory(snapshot.tree)}
        else:
            entries = {f"{stage}/{path}": snapshot.files[path] for path in paths}
        if number in self._fresh:
            return make_selection(stage, entries, snapshot)
        return Selection(stage, entries, digest, snapshot)


class Groups(Mapping[str, tuple[str, ...]]):
    """The labels that make up each artifact, of the first one's number and how many they are.

    One that is a single recipe of the same name, as most are, has no range.
    """

    def __init__(
        self,
        ranges: Mapping[str, tuple[int, int]],
        labels: Sequence[str],
        numbers: Mapping[str, int],
    ) -> None:
        self._ranges = ranges
        self._labels = labels
        self._numbers = numbers
        self._firsts = [first for first, _ in ranges.values()]
        self._ends = [first + many for first, many in ranges.values()]

    @staticmethod
    def packed(
        ranges: Mapping[str, tuple[int, int]], labels: Sequence[str]
    ) -> dict[str, tuple[int, int]]:
        """Return those of the ranges, which are in the order of the recipes, that have to be
        told."""
        return {
            name: (first, many)
            for name, (first, many) in ranges.items()
            if (many, labels[first : first + many]) != (1, [name])
        }

    def __getitem__(self, name: str) -> tuple[str, ...]:
        if (found := self._ranges.get(name)) is not None:
            first, many = found
            return tuple(self._labels[first : first + many])
        if self._is_single(self._numbers[name]):
            return (name,)
        raise KeyError(name)

    def __contains__(self, name: object) -> bool:
        if name in self._ranges:
            return True
        number = self._numbers.get(name) if isinstance(name, str) else None
        return number is not None and self._is_single(number)

    def __iter__(self) -> Iterator[str]:
        at = 0
        for name, (first, many) in self._ranges.items():
            yield from self._labels[at:first]
            yield name
            at = first + many
        yield from self._labels[at:]

    def __len__(self) -> int:
        several = sum(many for _, many in self._ranges.values())
        return len(self._labels) - several + len(self._ranges)

    def _is_single(self, number: int) -> bool:
        at = bisect_right(self._firsts, number)
        return at == 0 or number >= self._ends[at - 1]


def graph_of(
    packed: Any,
    snapshots: Sequence[Snapshot],
    load: Callable[[], Unit],
    changed: Sequence[set[str]] = (),
    reverse: Callable[[], Reverse | None] = lambda: None,
    kept: tuple[str, str] | None = None,
) -> Graph:
    """Return the graph that was packed, with its sources as they are now.

    `reverse` gives the packed graph read backwards, `kept` is as in `Graph`.
    """
    recipes = PackedRecipes(packed, snapshots, changed, reverse)
    return Graph(
        recipes=recipes,
        artifacts=Groups(packed["artifacts"], packed["labels"], recipes.numbers),
        about=about_of(packed),
        isolation=packed["isolation"],
        load=load,
        digests=recipes.digest_of,
        needs=recipes.needs_of,
        resources=recipes.resources_of,
        packed=(packed, snapshots),
        kept=kept,
    )


def at_hand(packed: Any) -> Any:
    """Return a packed graph with all of its rows at hand; it gives the same graph."""
    rows = {name: packed[name] for name in ("recipes", "selections", "needs")}
    return {**packed, **{name: (*plain, list(Rows(*plain))) for name, plain in rows.items()}}


def taken_whole(packed: Any) -> set[int]:
    """Return the numbers of the snapshots that some recipe takes as a whole."""
    return {source for source, _, paths, _ in Rows(*packed["selections"]) if paths is None}


def pack_about(about: About) -> Any:
    """Return what is asked of a graph's root spec as plain values."""
    return (str(about.spec), about.package, about.defaults, about.tests)


def about_of(packed: Any) -> About:
    spec, package, defaults, tests = packed["about"]
    return About(spec=Path(spec), package=package, defaults=defaults, tests=tests)
