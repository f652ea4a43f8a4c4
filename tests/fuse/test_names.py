"""Names that stand for other names."""

from __future__ import annotations

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fuse.names import safe_name


@pytest.mark.parametrize(
    ("name", "safe"),
    [
        ("app", "app"),
        ("obj[src/a.c]", "obj[src%2Fa.c]"),
        ("größe", "größe"),
        ("..", "%2E."),
        (".hidden", "%2Ehidden"),
        ("50%", "50%25"),
        ("a b\n", "a%20b%0A"),
        ("", "%"),
    ],
)
def test_examples(name: str, safe: str) -> None:
    assert safe_name(name) == safe


@given(st.text(max_size=300), st.text(max_size=300))
def test_safe_names_are_names_and_differ(one: str, other: str) -> None:
    safe = safe_name(one)
    assert 0 < len(os.fsencode(safe)) <= 255
    assert not {"/", "\0", "\n", " "} & set(safe)
    assert safe[0] != "."
    assert (safe == safe_name(other)) == (one == other)


def test_taken_names_are_left_alone() -> None:
    assert safe_name("log", taken=("log",)) == "%6Cog"
