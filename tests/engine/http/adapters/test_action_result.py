"""What action results need, by their fields."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.http.adapters.action_result import EMPTY, NOTHING, Needs, needs, tree_needs
from tests.engine.http.adapters.messages import (
    digest,
    directory,
    field,
    output_directory,
    output_file,
    sha256,
    streams,
    tree,
)

TREE = tree(directory(a=b"1"), directory(b=b"2", c=b"1"))
RESULT = (
    output_file("bin/x", b"x")
    + output_directory("lib", TREE)
    + field(4, 0)
    + streams(b"out", b"err")
    + field(9, field(1, b"worker"))
    + field(12, field(1, b"link") + field(2, b"target"))
)


def test_outputs_trees_and_streams_are_needed() -> None:
    found = needs(RESULT)
    assert found.blobs == {sha256(b"x"), sha256(b"out"), sha256(b"err")}
    assert found.trees == {sha256(TREE)}
    assert tree_needs(TREE) == frozenset([sha256(b"1"), sha256(b"2")])


def test_what_stands_in_the_result_itself_is_not_needed() -> None:
    assert needs(output_file("a", b"a", inline=True)) == NOTHING


def test_no_bytes_are_everywhere() -> None:
    assert sha256(b"") == EMPTY
    assert needs(streams(b"", b"") + output_file("empty", b"")) == NOTHING
    assert tree_needs(tree(directory(empty=b""))) == frozenset()


def test_fields_that_are_not_known_are_passed_over() -> None:
    later = field(99, 5) + field(100, b"news") + b"\xad\x06" + b"\0" * 4 + b"\xa9\x06" + b"\0" * 8
    assert needs(RESULT + later) == needs(RESULT)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xcc\xac\x01\x00\x01\x01\x01",  # ccache's
        b"PK\x03\x04",
        field(2, 7),
        field(4, b"text"),
        field(2, field(2, field(1, b"no digest"))),
        output_file("a", b"a")[:-1],
        RESULT + b"\xff",
        b"\x80" * 20,
    ],
)
def test_what_is_no_action_result_needs_nothing(data: bytes) -> None:
    assert needs(data) == NOTHING


def test_what_is_no_tree_is_none() -> None:
    assert tree_needs(b"text") is None
    assert tree_needs(field(1, 3)) is None


def test_json_is_what_moon_writes() -> None:
    digests = [{"hash": sha256(b"a"), "sizeBytes": "1"}, {"hash": EMPTY}, {"hash": "odd"}, None]
    document = {
        "outputFiles": [{"path": "a", "digest": one} for one in digests],
        "stdoutDigest": {"hash": sha256(b"out")},
    }
    assert needs(json.dumps(document).encode()) == Needs(frozenset([sha256(b"a"), sha256(b"out")]))


@pytest.mark.parametrize(
    "data", [b"{", b'{"outputFiles": 3}', b'{"outputFiles": [3]}', b"{" * 100_000, b'{"a": \xff}']
)
def test_other_json_needs_nothing(data: bytes) -> None:
    assert needs(data) == NOTHING


@given(st.binary(max_size=200))
def test_any_bytes_have_an_answer(data: bytes) -> None:
    assert isinstance(needs(data), Needs)
    tree_needs(data)


@given(st.integers(0, len(RESULT) - 1), st.integers(1, 255))
def test_one_wrong_byte_has_an_answer(place: int, change: int) -> None:
    data = bytearray(RESULT)
    data[place] ^= change
    assert isinstance(needs(bytes(data)), Needs)


@given(st.lists(st.binary(max_size=40), unique=True))
def test_every_output_is_found(outputs: list[bytes]) -> None:
    data = b"".join(output_file(str(number), one) for number, one in enumerate(outputs))
    assert needs(data).blobs == {sha256(one) for one in outputs if one}
    assert digest(b"") == field(1, EMPTY.encode())
