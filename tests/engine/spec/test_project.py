"""Projects: imports, parameters and profiles."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from engine.spec.faults import SpecError
from engine.spec.model import Scalar
from engine.spec.project import load_project
from store.errors import InputError

if TYPE_CHECKING:
    from tests.engine.conftest import Files

PARAMS = """
    [package]
    name = "p"
    [params]
    opt = 2
    shared = true
    who = "you"
    [profiles.debug]
    params = { opt = 0, shared = false }
    """


def test_parameters_have_their_defaults(files: Files) -> None:
    params = load_project(files.put("spec.toml", PARAMS), {}).params
    assert params == {"opt": 2, "shared": True, "who": "you"}


def test_a_profile_sets_several(files: Files) -> None:
    params = load_project(files.put("spec.toml", PARAMS), {}, "debug").params
    assert params == {"opt": 0, "shared": False, "who": "you"}


def test_set_goes_over_a_profile(files: Files) -> None:
    params = load_project(files.put("spec.toml", PARAMS), {"opt": "3"}, "debug").params
    assert params == {"opt": 3, "shared": False, "who": "you"}


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("opt", "3", 3),
        ("opt", "-3", -3),
        ("opt", "0", 0),
        ("shared", "false", False),
        ("who", "", ""),
        ("who", "3", "3"),
        ("who", "true", "true"),
        ("who", "a=b", "a=b"),
    ],
)
def test_set_takes_the_type_of_the_default(
    files: Files, name: str, text: str, value: Scalar
) -> None:
    found = load_project(files.put("spec.toml", PARAMS), {name: text}).params[name]
    assert (found, type(found)) == (value, type(value))


@pytest.mark.parametrize(
    ("name", "text"),
    [
        *[("opt", text) for text in ("", "x", "1.5", "true", "-", "--3", "1_000", "²", "3 ")],
        *[("shared", text) for text in ("", "1", "True", "yes")],
        ("other", "1"),
    ],
)
def test_set_of_another_type_is_refused(files: Files, name: str, text: str) -> None:
    with pytest.raises(InputError, match=f"--set {name}"):
        load_project(files.put("spec.toml", PARAMS), {name: text})


def test_an_unknown_profile_is_refused(files: Files) -> None:
    with pytest.raises(InputError, match=r"spec\.toml: unknown profile 'debg'") as caught:
        load_project(files.put("spec.toml", PARAMS), {}, "debg")
    assert caught.value.hint == "did you mean 'debug'?"


def test_imports_come_with_their_parameters(files: Files) -> None:
    files.put("lib/spec.toml", PARAMS)
    path = files.put(
        "app/spec.toml",
        """
        package.name = "app"
        imports.one = { spec = "../lib/spec.toml" }
        imports.two = { spec = "../lib/spec.toml", set = { opt = 1 } }
        """,
    )
    project = load_project(path, {})
    assert project.imports["one"].params["opt"] == 2
    assert project.imports["two"].params["opt"] == 1
    assert [unit.prefix for unit in project.units()] == ["one:", "two:", ""]


def test_one_spec_with_equal_parameters_is_one_unit(files: Files) -> None:
    files.put("base.toml", PARAMS)
    for name in ("left", "right"):
        files.put(f"{name}.toml", f'package.name = "{name}"\nimports.base.spec = "base.toml"')
    path = files.put(
        "spec.toml",
        'package.name = "top"\nimports.l.spec = "left.toml"\nimports.r.spec = "right.toml"',
    )
    project = load_project(path, {})
    assert project.imports["l"].imports["base"] is project.imports["r"].imports["base"]
    assert len(list(project.units())) == 4


@pytest.mark.parametrize("length", [1, 2, 5])
def test_import_cycles_are_told(files: Files, length: int) -> None:
    for number in range(length):
        following = (number + 1) % length
        files.put(f"{number}.toml", f'package.name = "x"\nimports.n.spec = "{following}.toml"')
    with pytest.raises(SpecError, match=r"\d\.toml:2:18: import 'n': a cycle: 0\.toml → "):
        load_project(files.directory / "0.toml", {})


def test_all_faults_of_a_spec_are_told_at_once(files: Files) -> None:
    files.put("lib.toml", PARAMS)
    path = files.put(
        "spec.toml",
        """\
        package.name = "x"
        params.opt = 1
        [imports]
        gone = { spec = "gone.toml" }
        lib = { spec = "lib.toml", set = { opt = "1", otp = 1 } }
        [sources]
        lib.path = "."
        ".dot".path = "."
        [actions."a b"]
        run = ["x"]
        [profiles.debug]
        params = { opt = "1", shared = true }
        """,
    )
    with pytest.raises(SpecError) as caught:
        load_project(path, {})
    assert [(fault.line, fault.message) for fault in caught.value.faults] == [
        (4, "import 'gone': no such file: gone.toml"),
        (5, "import 'lib': parameter 'opt': expected a whole number"),
        (5, "import 'lib': its spec has no parameter 'otp'"),
        (7, "source 'lib': the name is taken by one of the imports"),
        (8, "source '.dot': not a name"),
        (9, "action 'a b': not a name"),
        (12, "profile 'debug': parameter 'opt': expected a whole number"),
        (12, "profile 'debug': unknown parameter 'shared'"),
    ]


def test_faults_of_an_imported_spec_are_told_at_their_place(files: Files) -> None:
    files.put("lib.toml", "package.name = 'x'\nbogus = 1")
    path = files.put("spec.toml", "package.name = 'x'\nimports.l.spec = 'lib.toml'")
    with pytest.raises(SpecError, match=r"^lib\.toml:2:1: unknown field 'bogus'"):
        load_project(path, {})
