"""Selectors and their globs."""

from __future__ import annotations

import fnmatch

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.spec.selector import Selector, matcher, may_match_below, parse_selector

IMPORTS = {"zlib", "png"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("src", Selector("src")),
        ("src:a.c", Selector("src", "a.c")),
        ("src:c/**/*.c", Selector("src", "c/**/*.c")),
        ("zlib", Selector("zlib")),
        ("zlib:lib", Selector("lib", None, "zlib")),
        ("zlib:lib:*.a", Selector("lib", "*.a", "zlib")),
        ("src:a:b", Selector("src", "a:b")),
        ("zlib:lib:a:b", Selector("lib", "a:b", "zlib")),
    ],
)
def test_selectors_are_parsed(text: str, expected: Selector) -> None:
    assert parse_selector(text, IMPORTS.__contains__) == expected
    assert str(expected) == text


@pytest.mark.parametrize("text", ["", ":", "src:", ":a", "zlib::a", "zlib:lib:"])
def test_empty_parts_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="a selector is"):
        parse_selector(text, IMPORTS.__contains__)


@pytest.mark.parametrize(
    ("pattern", "matched", "not_matched"),
    [
        ("*.c", ["a.c", "é.c", "a b.c"], ["d/a.c", ".a.c", "a.h", "a.c.o", "a.cc"]),
        ("**/*.c", ["a.c", "d/a.c", "d/e/a.c"], ["a.h", "d/.a.c", ".d/a.c"]),
        ("**", ["a", "d/a", "d/e/f"], [".a", "d/.a", ".d/a"]),
        ("d/**", ["d/a", "d/e/f"], ["a", "dd/a", "d/.a"]),
        ("d/**/a", ["d/a", "d/e/a", "d/e/f/a"], ["a", "d/e", "d/ea"]),
        ("d/*", ["d/a"], ["d/e/a", "d/.a", "a"]),
        ("a?.c", ["ab.c", "aé.c"], ["a.c", "abc.c", "a/.c"]),
        ("[ab].c", ["a.c", "b.c"], ["c.c", "ab.c"]),
        ("[!ab].c", ["c.c"], ["a.c", "b.c", "/.c"]),
        ("[a-c]*", ["a", "bx"], ["d", "A"]),
        (".*", [".a"], ["a"]),
        ("**/.a", [".a", "d/.a"], ["a"]),
        ("a.c", ["a.c"], ["aXc", "d/a.c"]),
        ("A.c", ["A.c"], ["a.c"]),
        ("a+(b)", ["a+(b)"], ["abb", "ab"]),
        ("a|b", ["a|b"], ["a", "b"]),
        ("!a", ["!a"], ["b"]),
        ("-a", ["-a"], ["b"]),
        ("{a,b}", ["{a,b}"], ["a", "b"]),
        ("a\\*", ["a*"], ["ab"]),
        ("~/a", ["~/a"], ["a"]),
    ],
)
def test_globs(pattern: str, matched: list[str], not_matched: list[str]) -> None:
    test = matcher(pattern)
    assert [path for path in matched if not test(path)] == []
    assert [path for path in not_matched if test(path)] == []


plain = st.text("abc.é -+|~()", min_size=1, max_size=6).filter(lambda part: part not in (".", ".."))
paths = st.lists(plain, min_size=1, max_size=4).map("/".join)


@given(paths)
def test_a_path_without_magic_matches_itself_alone(path: str) -> None:
    assert matcher(path)(path)
    assert not matcher(path)(f"{path}x")
    assert not matcher(path)(f"x/{path}")


@given(st.text("ab*?.", min_size=1, max_size=6), st.text("ab.", min_size=1, max_size=6))
def test_within_a_component_globs_are_those_of_the_shell(pattern: str, name: str) -> None:
    if "**" in pattern or name in (".", "..") or pattern in (".", ".."):
        return
    hidden = name.startswith(".") and not pattern.startswith(".")
    assert matcher(pattern)(name) == (fnmatch.fnmatchcase(name, pattern) and not hidden)


parts = st.sampled_from(["a", "b", "*", "**", "a*", "?", "[ab]", ".x"])
patterns = st.lists(parts, min_size=1, max_size=4).map("/".join)
names = st.lists(st.sampled_from(["a", "b", "ab", ".x"]), min_size=2, max_size=4)


@given(patterns, names)
def test_directories_in_which_something_matches_may_match_below(
    pattern: str, names: list[str]
) -> None:
    if matcher(pattern)("/".join(names)):
        for depth in range(1, len(names)):
            assert may_match_below(pattern, "/".join(names[:depth]))


def test_directories_in_which_nothing_can_match_do_not_match_below() -> None:
    assert not may_match_below("*.c", "d")
    assert not may_match_below("d/*.c", "e")
    assert not may_match_below("d/*.c", "d/e")
    assert not may_match_below("d/e/**", "d/f")
    assert may_match_below("d/e/**", "d")
