"""Bad input: every fault at its place with the nearest name, exit code 3, nothing half-done."""

from __future__ import annotations

import os
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.e2e.conftest import Bn

INPUT = 3
USAGE = 2


def test_all_faults_of_form_are_placed_at_once(bn: Bn) -> None:
    bn.put(
        "spec.toml",
        """\
        [package]
        nam = "app"
        [parms]
        [params]
        ratio = 1.5
        [actions.x]
        scrpt = "true"
        inputs = [1]
        outputs = 3
        """,
    )
    said = bn("build", code=INPUT).stderr
    assert "spec.toml:1:2: [package]: 'name' is missing" in said
    assert "spec.toml:2:1: [package]: unknown field 'nam'\n  hint: did you mean 'name'?" in said
    assert "spec.toml:3:2: unknown field 'parms'\n  hint: did you mean 'params'?" in said
    assert "spec.toml:5:9: [params]: ratio: expected" in said
    assert "spec.toml:7:1: action 'x': unknown field 'scrpt'" in said
    assert "spec.toml:8:11: action 'x': inputs: expected a string, got a whole number" in said
    assert "spec.toml:9:11: action 'x': outputs: expected a list" in said


FAULTY = """\
[package]
name = "app"
default = ["aplication"]
[params]
optimise = 2
[sources.src]
path = "src"
[sources.gone]
path = "gone"
[toolchains]
sh = "gone.toml"
[actions.application]
tools = ["shh"]
inputs = ["sorc", "src:*.h", "application"]
script = "echo {optimize} {item} ${HOME} {} {print $1}"
[actions.d]
run = ["true"]
inputs = ["e"]
outputs = ["../x", "/abs", "a", "a", "dir/"]
kind = "tset"
resources = { cpus = 0, memory = "lots", timeout = "soon" }
env = { HOME = "x" }
[actions.e]
run = ["true"]
inputs = ["d"]
[actions.both]
run = ["true"]
script = "true"
"""


def test_all_faults_of_meaning_are_placed_at_once(bn: Bn) -> None:
    bn.put("src/a.c", "")
    bn.put("spec.toml", FAULTY)
    said = bn("build", code=INPUT).stderr
    for place, what, hint in (
        ("3:12", "unknown default target 'aplication'", "did you mean 'application'?"),
        ("9:8", "source 'gone': no such file or directory", ""),
        ("11:6", "toolchain 'sh': gone.toml: no such file", "check the path in the spec"),
        ("13:10", "action 'application': unknown toolchain 'shh'", "did you mean 'sh'?"),
        ("14:11", "action 'application': unknown input 'sorc'", "did you mean 'src'?"),
        ("14:19", "action 'application': 'src:*.h' matches nothing", ""),
        ("15:10", "unknown name in template {optimize}", "did you mean 'optimise'?"),
        ("19:12", "action 'd': bad output path '../x'", "a path below $out"),
        ("19:20", "action 'd': bad output path '/abs'", "a path below $out"),
        ("19:38", "action 'd': bad output path 'dir/'", "declared without the slash: 'dir'"),
        ("19:11", "action 'd': duplicate output 'a'", ""),
        ("20:8", "action 'd': 'kind' is \"build\" or \"test\"", ""),
        ("21:22", "'cpus' is at least 1", ""),
        ("22:9", "variable 'HOME' is bn's own", ""),
        ("26:2", "action 'both': has both 'run' or 'script'", ""),
    ):
        assert what in said, said
        assert hint in said, said
        assert f"spec.toml:{place}: " in said, (place, said)
    assert "a cycle: " in said
    assert "template {print" not in said


def test_faults_are_listed_for_machines_too(bn: Bn) -> None:
    bn.put("spec.toml", '[package]\nname = "x"\ndefault = ["nothing"]\n[actions.x]\nrun = []\n')
    error = bn.json("build", code=INPUT)["error"]
    assert (error["class"], error["exit_code"]) == ("InputError", INPUT)
    assert [(f["file"], f["line"], f["column"]) for f in error["faults"]] == [
        ("spec.toml", 3, 12),
        ("spec.toml", 5, 7),
    ]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "'package' is missing"),
        ("[package", "spec.toml:1:1: not TOML: "),
        ('[package]\nname = "x"\nname = "y"\n', "spec.toml:3:"),
        ('[package]\nname = """', "not TOML: "),
        ("package = 3", "expected a table"),
        ('[package]\nname = "x"\n[actions]\nx = "echo"\n', "expected a table"),
        ('[package]\nname = "x"\n', "spec.toml: there are no actions to build"),
        ('[package]\nname = "x"\n[sources.s]\n', "source 's': says nowhere to come from"),
        (
            '[package]\nname = "x"\n[sources.s]\npath = "."\nurl = "http://127.0.0.1/x"\n',
            "source 's': has path and url: give one of",
        ),
        ('[package]\nname = "x"\n[imports]\nz = { spec = "no.toml" }\n', "no such file: no.toml"),
        ('[package]\nname = "x"\n[actions."a b"]\nrun = ["x"]\n', "action 'a b': not a name"),
        ('[package]\nname = "x"\n[actions.a]\nscript = "x"\n', "a script needs a shell"),
        ('[package]\nname = "x"\n[sources.a]\npath = "."\n[actions.a]\nrun = ["x"]\n', "is taken"),
    ],
)
def test_each_kind_of_faulty_spec_is_named(bn: Bn, text: str, said: str) -> None:
    bn.put("spec.toml", text)
    error = bn("build", code=INPUT).stderr
    assert said in error
    assert "Traceback" not in error


def test_spec_that_is_no_text_is_named(bn: Bn) -> None:
    (bn.directory / "spec.toml").write_bytes(b"\xff\xfe\x00")
    assert "spec.toml: cannot be read: not utf-8" in bn("build", code=INPUT).stderr


def test_spec_that_is_a_directory_is_named(bn: Bn) -> None:
    (bn.directory / "spec.toml").mkdir()
    assert "spec.toml: cannot be read: is a directory" in bn("build", code=INPUT).stderr


@pytest.mark.parametrize("command", ["build", "test", "graph", "shell"])
def test_missing_spec_is_an_input_error_of_every_command(bn: Bn, command: str) -> None:
    error = bn.json(command, "nowhere/spec.toml", "x", code=INPUT)["error"]
    assert error["message"] == "nowhere/spec.toml: no such file"
    assert "bn init" in error["hint"]


def test_wrong_targets_profiles_and_parameters_name_the_nearest(bn: Bn) -> None:
    bn.spec(
        """
        [params]
        level = 1
        debug = false
        [profiles.release]
        params = { level = 3 }
        [actions.program]
        tools = ["sh"]
        script = "true"
        """
    )
    for arguments, message, hint in (
        (["progam"], "unknown target 'progam'", "did you mean 'program'?"),
        (["--profile", "relase"], "unknown profile 'relase'", "did you mean 'release'?"),
        (["--set", "levle=2"], "has no such parameter", "did you mean 'level'?"),
        (["--set", "level=two"], "--set level=two: expected a whole number", "default is 1"),
        (["--set", "debug=1"], "--set debug=1: expected true or false", "default is false"),
    ):
        error = bn.json("build", *arguments, code=INPUT)["error"]
        assert message in error["message"]
        assert hint in error["hint"]


@pytest.mark.parametrize(
    "arguments",
    [
        ["bild"],
        ["build", "--nonsense"],
        ["build", "--jobs", "0"],
        ["build", "--set", "level"],
        ["build", "--set", "=1"],
        ["build", "--executor", "magic"],
        ["graph", "--format", "gif"],
        ["shell", "--executor", "native"],
        ["show"],
    ],
)
def test_wrong_usage_exits_with_its_code_and_is_json_where_asked(
    bn: Bn, arguments: list[str]
) -> None:
    assert bn(*arguments, code=USAGE).stdout == ""
    error = bn.json(*arguments, code=USAGE)["error"]
    assert (error["class"], error["exit_code"]) == ("UsageError", USAGE)
    assert error["message"]


def test_misspelt_command_gets_the_nearest(bn: Bn) -> None:
    assert "did you mean 'build'?" in bn("bild", code=USAGE).stderr


def test_something_in_the_way_of_the_result_is_left_alone(bn: Bn) -> None:
    bn.spec('[actions.a]\ntools = ["sh"]\nscript = "echo 1 > $out/a"\noutputs = ["a"]\n')
    mine = bn.put("result", "mine")
    assert "in the way" in bn("build", code=INPUT).stderr
    assert "no directory" in bn("build", "--out", "result", code=INPUT).stderr
    assert mine.read_text() == "mine"
    bn("build", "--no-link")


def test_targets_that_disagree_about_a_path_are_named(bn: Bn) -> None:
    bn.spec(
        """
        [actions.a]
        tools = ["sh"]
        script = "echo a > $out/same"
        outputs = ["same"]
        [actions.b]
        tools = ["sh"]
        script = "echo b > $out/same"
        outputs = ["same"]
        """
    )
    error = bn.json("build", code=INPUT)["error"]
    assert "same" in error["message"]
    assert "a, b" in error["message"]
    bn("build", "a")
    assert bn.result("same") == "a\n"


def test_removed_spec_is_missed_in_the_next_build(bn: Bn) -> None:
    spec = bn.spec('[actions.a]\ntools = ["sh"]\nscript = "true"\n')
    bn("build")
    bn("build")
    spec.unlink()
    assert "spec.toml: no such file" in bn("build", code=INPUT).stderr


def test_removed_source_is_missed_in_the_next_build(bn: Bn) -> None:
    bn.put("src/f", "")
    bn.spec(
        '[sources.src]\npath = "src"\n'
        '[actions.a]\ntools = ["sh"]\ninputs = ["src"]\nscript = "true"\n'
    )
    bn("build")
    shutil.rmtree(bn.directory / "src")
    assert "spec.toml:8:8: source 'src': no such" in bn("build", code=INPUT).stderr


def test_current_directory_that_is_gone_is_no_bug_of_ours(bn: Bn) -> None:
    gone = bn.directory / "gone"
    gone.mkdir()
    command = ["sh", "-c", 'rmdir ../gone; exec "$@"', "sh", *bn.command("build")]
    done = subprocess.run(
        command, cwd=gone, env=bn.env, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 4
    assert "error: the current directory is gone" in done.stderr
    assert "Traceback" not in done.stderr


def test_names_with_odd_letters_build(bn: Bn) -> None:
    bn.put("src/ä b'c\"d$e.txt", "x")
    bn.put("src/line\nbreak.txt", "y")
    bn.spec(
        """
        [sources.src]
        path = "src"
        [actions.copy]
        foreach = "src:*.txt"
        tools = ["sh"]
        inputs = ["{item}"]
        run = ["cp", "{item}", "{out}/{item.name}"]
        outputs = ["{item.name}"]
        """
    )
    assert set(bn.steps().values()) == {"built"}
    assert sorted(os.listdir(bn.directory / "result")) == ["line\nbreak.txt", "ä b'c\"d$e.txt"]
    assert set(bn.json("graph")["steps"]) == {
        "copy[src/line\nbreak.txt]",
        "copy[src/ä b'c\"d$e.txt]",
    }
