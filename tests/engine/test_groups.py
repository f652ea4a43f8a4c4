"""The labels of artifacts, of which most are told by the recipes alone."""

from __future__ import annotations

import pytest

from engine.packed_graph import Groups

LABELS = ["a", "b[1]", "b[2]", "c", "e", "f[x]", "g"]
RANGES = {
    "none": (0, 0),
    "a": (0, 1),
    "b": (1, 2),
    "nothing": (3, 0),
    "c": (3, 1),
    "d": (4, 0),
    "e": (4, 1),
    "f": (5, 1),
    "g": (6, 1),
    "last": (7, 0),
}


@pytest.fixture
def groups() -> Groups:
    """What is kept of these."""
    kept = Groups.packed(RANGES, LABELS)
    assert kept == {name: RANGES[name] for name in ("none", "b", "nothing", "d", "f", "last")}
    return Groups(kept, LABELS, {label: number for number, label in enumerate(LABELS)})


def test_they_are_as_they_were(groups: Groups) -> None:
    assert list(groups) == list(RANGES)
    assert len(groups) == len(RANGES)
    for name, (first, many) in RANGES.items():
        assert name in groups
        assert groups[name] == tuple(LABELS[first : first + many])


@pytest.mark.parametrize("name", ["b[1]", "b[2]", "f[x]", "h", 7])
def test_what_is_no_artifact(groups: Groups, name: str) -> None:
    assert name not in groups
    assert groups.get(name) is None
    with pytest.raises(KeyError):
        groups[name]
