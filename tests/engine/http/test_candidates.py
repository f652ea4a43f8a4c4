"""Candidates in requests: good ones are understood, all others are refused, whatever they are."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.http.candidates import (
    Candidate,
    parsed,
    realisation_candidate,
    realisation_text,
    result_candidate,
    result_text,
)
from engine.http.message import Failure
from store.objects import ActionResult
from tests.engine.http.serving import Sample, signature

LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.just("0" * 64)
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


def texts(candidate: Candidate) -> Any:
    """Return the JSON that tells of a candidate once it is stored."""
    metas = list(candidate.rows("somebody").values())
    if candidate.kind == "action":
        return json.loads(result_text(candidate.data, metas))
    results = [json.dumps(texts(one)).encode() for one in candidate.results]
    return json.loads(realisation_text(candidate.data, metas, results))


@given(st.lists(st.sampled_from("abcdefgh"), unique=True), st.none() | st.lists(st.text("a/é[{")))
def test_what_is_put_is_what_is_got(keys: list[str], observed: list[str] | None) -> None:
    one = Sample("one")
    paths = None if observed is None else tuple(path for path in observed if path)
    result = ActionResult(action=one.action, outputs=one.tree, log=one.result.log, observed=paths)
    value = {"result": result.document(), "signatures": list(map(signature, keys))}
    found = result_candidate(value)
    assert (found.digest, found.data, found.key) == (result.digest(), result.encode(), one.action)
    assert texts(found) == value
    kept = parsed(found.data, "action")
    assert kept is not None
    assert kept.digest == found.digest
    realised = {**one.realised(*keys), "results": [value]}
    assert texts(realisation_candidate(realised)) == realised


@given(VALUES)
def test_anything_else_is_refused(value: Any) -> None:
    for understand in (result_candidate, realisation_candidate):
        with pytest.raises(Failure):
            understand(value)


@given(st.data(), VALUES)
def test_what_is_changed_somewhere_is_refused_or_as_good(data: st.DataObject, other: Any) -> None:
    """Only values that mean something by their digest or text can be others."""
    value = copy.deepcopy(Sample("one").realised("a"))
    place: Any = value
    while True:
        keys = sorted(place) if isinstance(place, dict) else list(range(len(place)))
        key = data.draw(st.sampled_from(keys))
        inner = place[key]
        if not isinstance(inner, dict | list) or not inner or data.draw(st.booleans()):
            break
        place = inner
    place[key] = other
    try:
        found = realisation_candidate(value)
    except Failure:
        return
    assert texts(found)["realisation"] == value["realisation"]


@given(st.binary(max_size=300))
def test_bytes_that_are_no_document_are_none(data: bytes) -> None:
    assert parsed(data, "action") is None
    assert parsed(data, "realisation") is None


def test_documents_of_one_kind_are_none_of_the_other() -> None:
    one = Sample("one")
    assert parsed(one.result.encode(), "action") is not None
    assert parsed(one.result.encode(), "realisation") is None
    assert parsed(one.realisation.encode(), "realisation") is not None
    assert parsed(one.realisation.encode(), "action") is None
