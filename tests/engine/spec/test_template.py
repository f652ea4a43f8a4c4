"""Templates: what is replaced, and what is left to the shell and to awk."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.spec.template import UnknownNameError, expand

NAMES = {"x": "1", "item.stem": "decode", "matrix.target": "arm", "a-b": "2", "_": "3"}

names = st.from_regex(r"[A-Za-z_][A-Za-z0-9_-]{0,5}(\.[A-Za-z0-9_-]{1,5}){0,2}", fullmatch=True)
no_brace = st.text(st.characters(exclude_characters="{}$", exclude_categories=["Cs"]), max_size=9)


@given(no_brace)
def test_text_without_braces_is_left_alone(text: str) -> None:
    assert expand(text, {}) == text


@pytest.mark.parametrize(
    "text",
    [
        *("${x}", "${out}/bin", "a${x}b", "$x", "{}", "{ x }", "{x", "x}", "{1}", "{x..y}", "{x.}"),
        *("find . -exec rm {} +", "awk '{print $1}'", "awk '{ print }'", "{x,y}", "{x:-y}", "{$x}"),
        *("f() { x; }", "{x y}", "{{}}", "{{", "}}", "{é}", "{x\n}"),
    ],
)
def test_braces_of_shell_and_awk_are_left_alone(text: str) -> None:
    assert expand(text, NAMES) == text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{x}", "1"),
        ("-O{x}", "-O1"),
        ("{x}{x}", "11"),
        ("{out}/{item.stem}.o", "{out}/decode.o"),
        ("{matrix.target}-{a-b}{_}", "arm-23"),
        ("{{x}}", "{x}"),
        ("{{x}} {x} {{x}}", "{x} 1 {x}"),
        ("{{unknown.name}}", "{unknown.name}"),
        ("{{{x}}}", "{{x}}"),
        ("${{x}}", "${x}"),
        ("$ {x}", "$ 1"),
    ],
)
def test_templates_are_replaced(text: str, expected: str) -> None:
    assert expand(text, {**NAMES, "out": "{out}"}) == expected


@given(no_brace, names, no_brace, no_brace)
def test_a_value_stands_as_it_is(before: str, name: str, value: str, after: str) -> None:
    assert expand(f"{before}{{{name}}}{after}", {name: value}) == f"{before}{value}{after}"


@given(names, names)
def test_what_a_value_holds_is_no_template(name: str, inner: str) -> None:
    assert expand(f"{{{name}}}", {name: f"{{{inner}}}"}) == f"{{{inner}}}"


@given(no_brace, names, no_brace)
def test_doubled_braces_stand_for_themselves(before: str, name: str, after: str) -> None:
    assert expand(f"{before}{{{{{name}}}}}{after}", {}) == f"{before}{{{name}}}{after}"


@given(names.filter(lambda name: name not in NAMES))
def test_unknown_names_are_told(name: str) -> None:
    with pytest.raises(UnknownNameError) as caught:
        expand(f"a {{x}} {{{name}}}", NAMES)
    assert caught.value.name == name
