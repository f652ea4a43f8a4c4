"""Common words of `bn build` mean the same with and without the parser of options."""

from __future__ import annotations

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.cli.build import command
from engine.cli.words import plain_words

WORDS = (
    *("spec.toml", "all", "a/b", "-k", "--keep-going", "--keep-failed", "-j", "--jobs", "4", "0"),
    *("-j3", "-j=3", "-j0", "-j-1", "--jobs=2", "--jobs=", "--jobs=-j2", "--jobs=x", "--jobs=٣"),
    *("--jobsx", "--job=2", "--", "-", "-kj2", "-n", "--json", "--set", "a=b", "-j 3", "+1", ""),
)


def parsed(words: list[str]) -> dict[str, object] | None:
    """Return what the parser of options makes of words; None where it refuses them."""
    try:
        with command.make_context("build", [*words]) as context:
            return context.params
    except click.ClickException:
        return None


@given(st.lists(st.sampled_from(WORDS), max_size=6))
def test_what_is_taken_apart_is_what_the_parser_says(words: list[str]) -> None:
    plain = plain_words(words)
    if plain is None:
        return
    names, options = plain
    everything = parsed([])
    assert everything is not None
    assert parsed(words) == {**everything, "names": tuple(names), **options}


@pytest.mark.parametrize(
    ("words", "names", "options"),
    [
        ([], [], {}),
        (["spec.toml", "--jobs=2"], ["spec.toml"], {"jobs": 2}),
        (["-j", "3", "all", "-k"], ["all"], {"jobs": 3, "keep_going": True}),
        (["-j2", "--keep-failed", "-j4"], [], {"jobs": 4, "keep_failed": True}),
    ],
)
def test_common_words(words: list[str], names: list[str], options: dict[str, object]) -> None:
    assert plain_words(words) == (names, options)


@pytest.mark.parametrize("word", ["-j0", "--jobs=", "--jobs=-j2", "--json", "-h", "--", "-j"])
def test_other_words_are_left_to_the_parser(word: str) -> None:
    assert plain_words([word]) is None
