"""Recipes resolved into actions: what is staged where, and what the action digest depends on."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from engine.resolve import NothingMatchesError, resolve
from store.digest import Digest, digest_bytes
from store.objects import Directory, Entry, File
from store.trees import build_tree

if TYPE_CHECKING:
    from engine.resolve import Resolved
    from tests.engine.conftest import Workshop

SOURCES = {"src": {"a.c": "A", "inc/a.h": "H", "inc/b.h": "I"}}


def tree(workshop: Workshop, **files: str) -> Digest:
    """Store a tree of files; `__` in a name stands for a slash."""
    cas = workshop.store.cas
    entries: dict[str, Entry] = {}
    for name, text in files.items():
        entries[name.replace("__", "/")] = File(cas.put_bytes(text.encode()), len(text))
    return build_tree(cas, entries)


def resolved(workshop: Workshop, inputs: list[str], **outputs: Digest) -> Resolved:
    """Resolve an action with those inputs, given the outputs of others."""
    document = {
        "sources": {"src": {"path": "."}},
        "actions": {
            "x": {"run": ["x"], "inputs": inputs, "outputs": ["o"]},
            "lib": {
                "run": ["lib", "{matrix.n}"],
                "matrix": {"n": [1, 2]},
                "outputs": ["lib{matrix.n}"],
            },
        },
    }
    graph = workshop.graph(document, SOURCES)
    by_label = {f"lib[n={name[1:]}]": digest for name, digest in outputs.items()}
    return resolve(workshop.store.cas, graph.recipes["x"], by_label.__getitem__)


@pytest.mark.parametrize(
    ("inputs", "expected"),
    [
        ([], set()),
        (["src"], {"src/a.c", "src/inc/a.h", "src/inc/b.h"}),
        (["src:a.c"], {"src/a.c"}),
        (["src:inc/*.h"], {"src/inc/a.h", "src/inc/b.h"}),
        (["src:inc", "src:a.c"], {"src/a.c", "src/inc/a.h", "src/inc/b.h"}),
        (["src", "src:a.c"], {"src/a.c", "src/inc/a.h", "src/inc/b.h"}),
        (["lib"], {"lib/lib1/a", "lib/lib1/b.h", "lib/lib2"}),
        (["lib:lib2"], {"lib/lib2"}),
        (["lib:lib1"], {"lib/lib1/a", "lib/lib1/b.h"}),
        (["lib:lib1/*.h"], {"lib/lib1/b.h"}),
        (["lib:**"], {"lib/lib1/a", "lib/lib1/b.h", "lib/lib2"}),
        (["lib", "lib:lib2"], {"lib/lib1/a", "lib/lib1/b.h", "lib/lib2"}),
        (["lib:lib2", "lib:lib1/a"], {"lib/lib1/a", "lib/lib2"}),
    ],
)
def test_inputs_are_staged_under_their_artifacts_name(
    workshop: Workshop, inputs: list[str], expected: set[str]
) -> None:
    n1, n2 = tree(workshop, **{"lib1__a": "1", "lib1__b.h": "h"}), tree(workshop, lib2="2")
    assert set(resolved(workshop, inputs, n1=n1, n2=n2).inputs()) == expected


def test_order_of_inputs_does_not_matter(workshop: Workshop) -> None:
    outputs = {"n1": tree(workshop, lib1="1"), "n2": tree(workshop, lib2="2")}
    inputs = ["src:inc/*.h", "lib:lib1", "src:a.c", "lib:lib2"]
    one = resolved(workshop, inputs, **outputs)
    assert resolved(workshop, inputs[::-1], **outputs).digest == one.digest


def test_equal_inputs_give_the_same_action_however_they_were_named(workshop: Workshop) -> None:
    digests = {
        resolved(workshop, inputs).digest
        for inputs in (["src"], ["src:**"], ["src:inc", "src:a.c"], ["src", "src:inc/a.h"])
    }
    assert len(digests) == 1


def test_another_content_gives_another_action(workshop: Workshop) -> None:
    n1 = tree(workshop, lib1="1")
    one = resolved(workshop, ["lib"], n1=n1, n2=tree(workshop, lib2="2"))
    other = resolved(workshop, ["lib"], n1=n1, n2=tree(workshop, lib2="3"))
    assert one.digest != other.digest
    assert one.inputs()["lib/lib2"] == File(digest_bytes(b"2"), 1)


def test_a_selector_that_comes_out_empty_is_told(workshop: Workshop) -> None:
    n1 = tree(workshop, lib1__a="1")
    with pytest.raises(NothingMatchesError, match=r"nothing in lib matches 'lib1/\*\.h'"):
        resolved(workshop, ["lib:lib1/*.h"], n1=n1, n2=n1)


def test_the_input_root_is_the_tree_of_the_inputs(workshop: Workshop) -> None:
    made = resolved(workshop, ["src"])
    root = workshop.store.cas.get_tree(made.action.input_root)
    assert isinstance(root.entries["src"], Directory)
    assert made.action.digest() == made.digest
