"""Whatever a remote answers is understood, or refused as a lie."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.remote import wire
from store.digest import Digest, digest_bytes
from store.objects import Action, ActionResult, Directory, File, Realisation, Tree

A, B, C = (digest_bytes(name) for name in (b"a", b"b", b"c"))
RESULT = ActionResult(action=A, outputs=B, log=C, observed=("src/a.h",))
REALISATION = Realisation(recipe=C, action=A, outputs=B)
SIGNATURES = [{"key": "ci", "signature": "AAAA"}]


def offered() -> dict[str, Any]:
    """Return a realisation as a remote offers it."""
    return {
        "realisation": REALISATION.document(),
        "signatures": SIGNATURES,
        "results": [{"result": RESULT.document(), "signatures": SIGNATURES}],
    }


def test_candidates_are_understood() -> None:
    (found,) = wire.realisations({"realisations": {C: [offered()]}}, [C])[C]
    assert found.result == RESULT
    assert found.realisation == REALISATION
    assert found.signatures == found.realisation_signatures == (("ci", "AAAA"),)
    (found,) = wire.results({"actions": {A: offered()["results"]}}, [A, B])[A]
    assert found.result == RESULT


def test_an_action_and_its_seconds_come_with_a_result() -> None:
    action = Action(command=("cc", "ä"), input_root=B, env={"A": "b"}, toolchains=(C,))
    result = ActionResult(action=action.digest(), outputs=B, log=C)

    def found(**more: Any) -> wire.Candidate:
        offer = {"result": result.document(), **more}
        ((one,),) = wire.results({"actions": {result.action: [offer]}}, [result.action]).values()
        return one

    one = found(action=action.document(), seconds=1.5)
    assert (one.made_of, one.seconds) == (action.encode(), 1.5)
    assert (found().made_of, found().seconds) == (None, 0.0)
    for odd in (1, "x", {"_": "action.1"}, {**action.document(), "more": 1}):
        assert found(action=odd).made_of is None
    with pytest.raises(wire.Lie, match="digest"):
        found(action={**action.document(), "command": ["cc"]})
    for seconds in (-1, "1", True, None, 1e10, float("nan")):
        with pytest.raises(wire.Lie, match="seconds"):
            found(seconds=seconds)


def test_what_was_not_asked_for_is_left_out() -> None:
    assert wire.realisations({"realisations": {C: [offered()]}}, [A]) == {}


def test_a_result_of_other_outputs_is_no_candidate() -> None:
    other = offered()
    other["results"][0]["result"]["outputs"] = C
    assert wire.realisations({"realisations": {C: [other]}}, [C]) == {C: []}


def test_closures_are_checked() -> None:
    inner = Tree({"file": File(A, 3)})
    outer = Tree({"inner": Directory(inner.digest())})
    documents = {one.digest(): json.loads(one.encode()) for one in (inner, outer)}

    trees = wire.closures({"trees": documents})

    assert wire.below(outer.digest(), trees) == trees
    assert wire.below(outer.digest(), {outer.digest(): trees[outer.digest()]}) is None
    with pytest.raises(wire.Lie):
        wire.closures({"trees": {A: documents[inner.digest()]}})


plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text() | st.floats() | st.just(A),
    lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.sampled_from([A, "_"]), inner),
)


@given(plain, st.data())
def test_nothing_else_comes_of_anything_else(noise: object, data: st.DataObject) -> None:
    """A part of a good answer is replaced, wherever that is."""
    document: Any = {
        "realisations": {C: [offered()]},
        "trees": {A: {"_": "tree.1"}},
        "missing": [A],
    }
    part, depth = document, data.draw(st.integers(0, 6))
    for _ in range(depth):
        keys = list(part) if isinstance(part, dict) else list(range(len(part)))
        key = data.draw(st.sampled_from(keys))
        if not isinstance(part[key], dict | list) or not part[key]:
            part[key] = noise
            break
        part = part[key]
    else:
        if isinstance(part, dict):
            part[data.draw(st.sampled_from(list(part)))] = noise
    for question in (
        lambda: wire.realisations(document, [C, Digest("x")]),
        lambda: wire.closures(document),
        lambda: wire.digests(document, "missing"),
    ):
        with contextlib.suppress(wire.Lie):
            question()


@given(st.binary())
def test_bytes_that_are_no_object_are_a_lie(data: bytes) -> None:
    with contextlib.suppress(wire.Lie):
        assert isinstance(wire.parse(data), dict)
