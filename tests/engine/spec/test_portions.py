"""Large specs, parsed in portions, say what they say as a whole."""

from __future__ import annotations

import tomllib

import pytest

from engine.spec import portions
from engine.spec.portions import parse

HEAD = '[package]\nname = "p"\n[toolchains]\nsh = "sh.toml"\n'
MANY = "".join(
    f'[actions.a{n}]\ntools = ["sh"] # [actions.b]\nrun = [\n  "x",\n]\n'
    f'[actions.a{n}.env]\nN = "{n}"\n'
    for n in range(50)
)


@pytest.fixture(autouse=True)
def loads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was given to the parser."""
    given: list[str] = []

    class Parser:
        TOMLDecodeError = tomllib.TOMLDecodeError

        @staticmethod
        def loads(text: str) -> object:
            given.append(text)
            return tomllib.loads(text)

    monkeypatch.setattr(portions, "LARGE", 0)
    monkeypatch.setattr(portions, "TOGETHER", 7)
    monkeypatch.setattr(portions, "tomllib", Parser)
    return given


@pytest.mark.parametrize("text", [HEAD + MANY, (HEAD + MANY).replace("\n", "\r\n"), MANY])
def test_portions_say_the_same(text: str, loads: list[str]) -> None:
    assert parse(text) == tomllib.loads(text)
    assert len(loads) == 9
    assert max(map(len, loads)) < len(text) / 5


@pytest.mark.parametrize(
    "text",
    [
        "",
        HEAD,
        HEAD + MANY + "[params]\nx = 1\n",
        HEAD + MANY + '[actions.a1.inputs]\nx = "y"\n',
        HEAD + MANY + '[actions]\nz.run = ["x"]\n',
        HEAD + "[actions]\n" + MANY,
        HEAD + '[actions.odd]\nscript = """\n[actions.a3]\n"""\n' + MANY,
        HEAD + "[actions.odd]\nscript = '''\n[actions.a3]\n'''\n" + MANY,
        HEAD + MANY + '["actions".q]\nrun = ["x"]\n',
        "actions.z = {}\n" + HEAD,
    ],
)
def test_what_is_no_row_of_actions_is_parsed_as_a_whole(text: str) -> None:
    assert parse(text) == tomllib.loads(text)


@pytest.mark.parametrize(
    "text",
    [
        HEAD + MANY + "[actions.a1]\n",
        HEAD + MANY + "[actions.a1.env]\n",
        HEAD + MANY + "[actions]\n[actions]\n",
        HEAD + "[actions]\n" + MANY + "[ 'actions' ]\n",
        HEAD + MANY + "[actions.z]\nx = [\n[actions.y]\n]\n",
        HEAD + MANY + "[[actions]]\n",
        HEAD + MANY + "[actions.z]\nx =\n" + MANY.replace("a", "b"),
        "actions = {}\n" + HEAD + MANY,
    ],
)
def test_mistakes_are_where_they_are_in_the_whole(text: str) -> None:
    with pytest.raises(tomllib.TOMLDecodeError) as expected:
        tomllib.loads(text)
    with pytest.raises(tomllib.TOMLDecodeError) as found:
        parse(text)
    assert str(found.value) == str(expected.value)
