"""What selectors take from sources and actions: the same as a look at each path would tell."""

from __future__ import annotations

from collections.abc import Iterator

from hypothesis import given
from hypothesis import strategies as st

from engine.artifacts import SourceFiles, is_glob, matching
from engine.inputs import _matching, _may_match
from engine.packer import Made, Packer
from engine.spec.selector import matcher
from store.digest import Digest
from store.objects import Entry, File

DIGEST = Digest("0" * 64)

paths = st.lists(st.sampled_from(["a", "b", "a.c", "a0", "é", ".h"]), min_size=1, max_size=4).map(
    "/".join
)
patterns = st.lists(
    st.sampled_from(["a", "b", "*", "**", "?", "a*", "[ab]", "*.c", ".h", "", "a\\*", "é"]),
    min_size=1,
    max_size=4,
).map("/".join)


def source(names: list[str]) -> SourceFiles:
    files: dict[str, Entry] = {name: File(DIGEST, number) for number, name in enumerate(names)}
    return SourceFiles(DIGEST, files)


def looked_at_each(names: list[str], pattern: str) -> list[str]:
    if is_glob(pattern):
        return [name for name in names if matcher(pattern)(name)]
    plain = pattern.rstrip("/")
    return [plain] if plain in names else [name for name in names if name.startswith(f"{plain}/")]


@given(st.lists(paths, unique=True, max_size=30), st.lists(patterns, max_size=6))
def test_as_a_look_at_each_path_tells(names: list[str], wanted: list[str]) -> None:
    one = source(names)
    for pattern in wanted:
        assert matching(one, pattern) == looked_at_each(names, pattern), pattern


def test_names_next_to_a_directory_are_not_below_it() -> None:
    names = ["d/b", "d", "d.c", "d0", "d0/a", "d/a", "d-/a", "e/d/a"]
    assert matching(source(names[:1] + names[2:]), "d") == ["d/b", "d/a"]
    assert matching(source(names), "d/*") == ["d/b", "d/a"]
    assert matching(source(names), "d0/**") == ["d0/a"]


class Outputs(Made):
    """Recipes that are nothing but their labels and outputs."""

    def __init__(self, outputs: list[tuple[str, ...]]) -> None:
        super().__init__(Packer(), 0, tuple(f"r{number}" for number in range(len(outputs))))
        self._outputs = outputs

    def outputs(self) -> Iterator[tuple[str, tuple[str, ...]]]:
        return zip(self.labels, self._outputs, strict=True)


@given(
    st.lists(st.lists(paths, unique=True, max_size=3).map(tuple), max_size=8),
    st.lists(st.one_of(patterns, paths, paths.map("{}/".format)), max_size=6),
)
def test_outputs_by_path_as_a_look_at_each_tells(
    outputs: list[tuple[str, ...]], wanted: list[str]
) -> None:
    made = Outputs(outputs)
    for pattern in filter(None, wanted):
        expected = [
            label
            for label, names in made.outputs()
            if any(_may_match(pattern, name) for name in names)
        ]
        assert _matching(made, pattern) == expected, pattern
