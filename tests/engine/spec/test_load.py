"""Spec files read: what is accepted, and all faults at once, each at its place."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from engine.spec.faults import SpecError
from engine.spec.load import load_spec, read
from engine.spec.model import ToolchainFile
from store.errors import InputError

if TYPE_CHECKING:
    from tests.engine.conftest import Files


def refused(files: Files, text: str) -> list[str]:
    """Return the faults of a spec file without their hints."""
    with pytest.raises(SpecError) as caught:
        load_spec(files.put("spec.toml", text))
    return [fault.render().partition("\n")[0] for fault in caught.value.faults]


def test_a_file_with_everything_is_read(files: Files) -> None:
    spec = load_spec(
        files.put(
            "spec.toml",
            """
            [package]
            name = "all"
            version = "1"
            default = "x"
            [params]
            opt = 2
            shared = true
            who = "you"
            [imports]
            z = { spec = "z.toml", set = { a = 1 } }
            [sources.src]
            path = "."
            exclude = ["*.o", "b/**"]
            [toolchains]
            cc = "cc.toml"
            [actions.x]
            run = ["cc", "-v"]
            outputs = "x"
            env = { A = "1" }
            matrix = { n = [1, "two", true] }
            when = { shared = true, opt = [1, 2] }
            resources = { cpus = 2, memory = "1GB", timeout = "1m" }
            [profiles.debug]
            params = { opt = 0 }
            """,
        )
    )
    action = spec.file.actions["x"]
    assert spec.directory == files.directory
    assert spec.file.package.default == ("x",)
    assert action.run == ("cc", "-v")
    assert action.outputs == ("x",)
    assert action.matrix == {"n": (1, "two", True)}
    assert action.when == {"shared": True, "opt": (1, 2)}
    assert action.resources.cpus == 2
    assert spec.file.sources["src"].exclude == ("*.o", "b/**")


def test_all_faults_are_told_at_once(files: Files) -> None:
    assert refused(
        files,
        """\
        [package]
        nam = "x"
        [params]
        a = 1.5
        b = [1]
        [sources.src]
        path = 1
        unpack = "yes"
        [actions.x]
        run = ["cc", 1, true]
        otuputs = ["x"]
        resources = { cpus = "2" }
        env = { A = 1 }
        [actions]
        y = 3
        [bogus]
        """,
    ) == [
        "spec.toml:1:2: [package]: 'name' is missing",
        "spec.toml:2:1: [package]: unknown field 'nam'",
        "spec.toml:4:5: [params]: a: expected a string, whole number or boolean, got a float",
        "spec.toml:5:5: [params]: b: expected a string, whole number or boolean, got a list",
        "spec.toml:7:8: source 'src': path: expected a string, got a whole number",
        "spec.toml:8:10: source 'src': unpack: expected true or false, got a string",
        "spec.toml:10:14: action 'x': run: expected a string, got a whole number",
        "spec.toml:10:17: action 'x': run: expected a string, got true or false",
        "spec.toml:11:1: action 'x': unknown field 'otuputs'",
        "spec.toml:12:22: action 'x': resources.cpus: expected a whole number, got a string",
        "spec.toml:13:13: action 'x': env.A: expected a string, got a whole number",
        "spec.toml:15:5: [actions]: y: expected a table",
        "spec.toml:16:2: unknown field 'bogus'",
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "1:1: 'package' is missing"),
        ("package = 1", "1:11: expected a table"),
        ("[[package]]\nname = 'x'", "expected a table"),
        ("[package]\nname = 'x'\nversion = 1.1", "3:11: [package]: version: expected a string"),
        ("[package]\nname = 'x'\n[actions.x]\nrun = 'cc'\nenv = ['A=1']", "5:7: action 'x': env"),
        (
            "[package]\nname = 'x'\n[actions.x]\nforeach = 1",
            "4:11: action 'x': foreach: expected a",
        ),
        ("[package]\nname = 'x'\n[actions.x]\nrun = {}", "4:1: action 'x': run: expected a list"),
        ("[package]\nname = 'x'\n[actions.x.matrix]\nn = 1", "4:5: action 'x': matrix.n: expected"),
        ("[package]\nname = 'x'\n[imports.z]\nset = {}", "3:2: import 'z': 'spec' is missing"),
        ("[package]\nname = 'x'\n[params]\nd = 2020-01-01", "4:5: [params]: d: expected"),
        ("sources = []\npackage.name = 'x'", "1:11: expected a table"),
        ('[package]\nname = "a\\u0000b"', "2:8: [package]: name: expected a string without"),
        (
            'package.name = "x"\nparams.a = "\\u0000"',
            "2:12: [params]: a: expected a string without",
        ),
        ("[package]\nname = 'x'\n[profiles]\np = 1", "4:5: [profiles]: p: expected a table"),
    ],
)
def test_a_fault_is_told_at_its_place(files: Files, text: str, expected: str) -> None:
    assert any(expected in fault for fault in refused(files, text)), refused(files, text)


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("a = \n", "1:5"),
        ("a = 1\n\nb = [1,\n", "4:1"),
        ("a = 1\na = 2\n", "2:6"),
        ("[a\n", "1:3"),
        ("é = 1", "1:1"),
        ("a = 'x", "1:1"),
    ],
)
def test_what_is_no_toml_is_told_at_its_place(files: Files, text: str, place: str) -> None:
    (fault,) = refused(files, text)
    assert re.match(rf"spec\.toml:{place}: not TOML: [^A-Z]", fault), fault


def test_the_nearest_field_is_suggested(files: Files) -> None:
    with pytest.raises(SpecError, match="did you mean 'outputs'") as caught:
        load_spec(files.put("spec.toml", "package.name = 'x'\nactions.x.output = 'x'"))
    assert caught.value.exit_code == 3


@pytest.mark.parametrize("made", ["missing", "directory", "latin"])
def test_files_that_cannot_be_read_are_told(files: Files, made: str) -> None:
    path = files.directory / "spec.toml"
    if made == "directory":
        path.mkdir()
    elif made == "latin":
        path.write_bytes(b"package.name = '\xe9'")
    with pytest.raises(InputError, match=r"^spec\.toml: "):
        load_spec(path)


def test_a_toolchain_file_has_its_own_form(files: Files) -> None:
    path = files.put("cc.toml", "[toolchain]\npaths = ['/bin/sh=bin/sh']\n")
    assert read(path, ToolchainFile).toolchain.paths == ("/bin/sh=bin/sh",)
    with pytest.raises(SpecError, match=r"cc\.toml:1:1: 'toolchain' is missing"):
        read(files.put("cc.toml", ""), ToolchainFile)
