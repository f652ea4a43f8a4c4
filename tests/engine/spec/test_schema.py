"""The JSON Schema of specs: what it accepts and refuses is what the loader accepts and refuses."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest
from cattrs.errors import BaseValidationError
from hypothesis import event, given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from engine.spec.load import converter
from engine.spec.model import SpecFile, ToolchainFile
from engine.spec.schema import schema

SPECS = Path(__file__).parents[3] / "specs"
SPEC = Draft202012Validator(schema())
TOOLCHAIN = Draft202012Validator(schema(ToolchainFile))

scalars = st.booleans() | st.integers(-3, 3) | st.sampled_from(["", "a"])
names = st.sampled_from(["a", "b"])
strings = st.just("x") | st.lists(st.just("x"), max_size=2)


def fields(**known: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    """Return tables that hold some of the known fields."""
    return st.fixed_dictionaries({}, optional=known)


def tables(values: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    """Return tables of any names."""
    return st.dictionaries(names, values, max_size=2)


resources = fields(cpus=st.integers(0, 3), memory=st.just("1GB"), timeout=st.just("1m"))
actions = fields(
    run=strings,
    script=st.just("true"),
    inputs=strings,
    outputs=strings,
    tools=strings,
    env=tables(st.just("1")),
    foreach=strings,
    matrix=tables(st.lists(scalars, max_size=2)),
    when=tables(scalars | st.lists(scalars, max_size=2)),
    depfile=st.booleans(),
    kind=st.just("test"),
    resources=resources,
)
sources = fields(
    path=st.just("."), url=st.just("u"), unpack=st.booleans(), strip=st.just(1), exclude=strings
)
documents = st.fixed_dictionaries(
    {"package": st.fixed_dictionaries({"name": st.just("n")}, optional={"default": strings})},
    optional={
        "params": tables(scalars),
        "imports": tables(st.fixed_dictionaries({"spec": st.just("s")})),
        "sources": tables(sources),
        "toolchains": tables(st.just("t.toml")),
        "actions": tables(actions),
        "profiles": tables(fields(params=tables(scalars))),
    },
)
# None is not among them: TOML has no null, so the loader, to which it means "left out", meets none.
oddities: st.SearchStrategy[Any] = st.sampled_from(
    [1, 1.5, True, "x", [], ["x"], [1], [[]], {}, {"a": 1}, {"a": {}}]
)


@st.composite
def broken(draw: st.DrawFn) -> dict[str, Any]:
    """Return a document in which one value or field was replaced by something odd."""
    document = draw(documents)
    places: list[tuple[dict[str, Any], str]] = [(document, key) for key in document]
    for holder, key in places:
        below = holder[key]
        if isinstance(below, dict):
            places += [(below, inner) for inner in below]
    holder, key = draw(st.sampled_from(places))
    match draw(st.sampled_from(["replace", "remove", "add"])):
        case "replace":
            holder[key] = draw(oddities)
        case "remove":
            del holder[key]
        case "add":
            holder["odd"] = draw(oddities)
    return document


def loads(document: dict[str, Any]) -> bool:
    """Say whether the loader takes the document's form."""
    try:
        converter().structure(document, SpecFile)
    except BaseValidationError:
        return False
    return True


@pytest.mark.parametrize("form", [SpecFile, ToolchainFile])
def test_the_schema_is_a_schema(form: type) -> None:
    Draft202012Validator.check_schema(schema(form))


@pytest.mark.parametrize("path", sorted(SPECS.rglob("spec.toml")), ids=str)
def test_specs_are_valid(path: Path) -> None:
    SPEC.validate(tomllib.loads(path.read_text()))


@pytest.mark.parametrize("path", sorted((SPECS / "toolchains").glob("*.toml")), ids=str)
def test_toolchain_files_are_valid(path: Path) -> None:
    TOOLCHAIN.validate(tomllib.loads(path.read_text()))
    assert not SPEC.is_valid(tomllib.loads(path.read_text()))


@given(documents)
def test_well_formed_documents_are_accepted_by_both(document: dict[str, Any]) -> None:
    assert loads(document)
    SPEC.validate(document)


@given(broken())
def test_schema_and_loader_agree(document: dict[str, Any]) -> None:
    accepted = loads(document)
    event("accepted" if accepted else "refused")
    assert SPEC.is_valid(document) == accepted


def test_every_field_is_described() -> None:
    whole = schema()
    for name, definition in [("SpecFile", whole), *whole["$defs"].items()]:
        assert definition["description"], name
        for field, described in definition["properties"].items():
            assert described["description"], f"{name}.{field}"
