"""Every command: what it does, what it prints for people and for machines, its exit code."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click
import jsonschema
import pytest

from engine.cli.commands import COMMANDS, commands

if TYPE_CHECKING:
    from tests.e2e.conftest import Bn

ACTION_FAILED = 1
INPUT = 3


# all commands


def commands_of(name: str) -> Iterator[tuple[str, click.Command]]:
    """Yield a command with its words and, where it is a group, all that it holds."""
    context = click.Context(commands)
    command = commands.get_command(context, name)
    assert command is not None
    yield name, command
    if isinstance(command, click.Group):
        for inner in command.list_commands(context):
            held = command.get_command(context, inner)
            assert held is not None
            yield f"{name} {inner}", held


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(bn: Bn, command: str) -> None:
    for words, _ in commands_of(command):
        said = bn(*words.split(), "--help").stdout
        usage, _, text = said.partition("\n\n")
        assert usage.startswith(f"Usage: bn {words} ")
        first = text.partition("\n\n")[0]
        assert re.fullmatch(r"  [A-Z]\w+ .*\.", first, re.DOTALL), "it says what the command does"
        assert bn(*words.split(), "-h").stdout == said


@pytest.mark.parametrize("command", COMMANDS)
def test_every_option_has_help(command: str) -> None:
    for words, made in commands_of(command):
        for option in made.params:
            if isinstance(option, click.Option) and not isinstance(option.type, click.Choice):
                assert option.help, f"bn {words} {option.opts}"


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_is_documented(command: str) -> None:
    from tests.e2e.conftest import REPOSITORY

    pages = [REPOSITORY / "README.md", *REPOSITORY.glob("*/README.md")]
    assert any(f"bn {command}" in page.read_text() for page in pages)


def test_help_lists_every_command_and_the_exit_codes(bn: Bn) -> None:
    said = bn("--help").stdout
    for command, what in COMMANDS.items():
        assert re.search(rf"^  {command} +{re.escape(what)}$", said, re.MULTILINE)
    words = " ".join(said.split())
    for code in ("0 ok", "1 an action failed", "2 usage", "3 input", "4 host", "5 integrity"):
        assert code in words
    for code in ("6 not reproducible", "70 internal", "130 interrupted"):
        assert code in words


def test_version_is_printed(bn: Bn) -> None:
    assert re.fullmatch(r"bn, version \d+\.\d+\.\d+\n", bn("--version").stdout)


def test_bug_exits_with_its_own_code_and_asks_for_a_report(bn: Bn) -> None:
    program = (
        "import engine.cli.init as command, sys\n"
        "command.look = lambda directory: 1 / 0\n"
        "sys.argv = ['bn', 'init', '--json']\n"
        "from engine.cli.main import main\n"
        "main()\n"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-c", program],
        cwd=bn.directory,
        env=bn.env,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 70
    assert "ZeroDivisionError" in done.stderr
    assert "please report it" in done.stderr
    assert json.loads(done.stdout)["error"]["class"] == "InternalError"


def test_json_is_one_document_on_success(small: Bn) -> None:
    small("build")
    digest = small.json("build")["result"]
    for arguments in (
        ["build"],
        ["build", "--dry-run"],
        ["build", "--set", "word=other"],
        ["test"],
        ["test"],
        ["graph"],
        ["why", "second"],
        ["log", "first"],
        ["show", digest],
        ["shell", "second", "-c", "echo said; echo more >&2"],
        ["doctor"],
        ["schema"],
        ["schema", "--toolchain"],
    ):
        assert small.json(*arguments), arguments
    assert small.json("init", "--force", code=INPUT)["error"]


def test_json_is_one_document_on_error(broken: Bn) -> None:
    assert broken.json("build", code=ACTION_FAILED)["status"] == "failed"
    for arguments, code in (
        (["build", "nothing"], INPUT),
        (["test"], INPUT),
        (["graph", "nothing"], INPUT),
        (["why", "nothing"], INPUT),
        (["log", "nothing"], INPUT),
        (["show", "0" * 64], INPUT),
        (["shell", "nothing"], INPUT),
        (["init"], INPUT),
    ):
        error = broken.json(*arguments, code=code)["error"]
        assert error["exit_code"] == code
        assert set(error) == {"class", "exit_code", "message", "hint"}
    assert broken.json("shell", "after", code=ACTION_FAILED)["status"] == "failed"


@pytest.mark.parametrize("extra", [{}, {"NO_COLOR": "1"}, {"TERM": "dumb"}, {"CI": "1"}])
def test_what_is_not_for_a_terminal_has_no_escape_codes(broken: Bn, extra: dict[str, str]) -> None:
    for arguments, code in (
        (["build"], ACTION_FAILED),
        (["build", "nothing"], INPUT),
        (["doctor"], 0),
        (["--help"], 0),
    ):
        done = broken(*arguments, code=code, env=extra)
        assert "\x1b" not in done.stdout + done.stderr
        assert "\r" not in done.stdout + done.stderr


# test


def test_tests_run_once_until_what_they_need_changes(small: Bn) -> None:
    assert "passed   check" in small("test").stderr
    assert "cached   check" in small("test").stderr
    small.put("src/file", "some text\n")
    assert "passed   check" in small("test").stderr
    small.put("src/file", "nothing\n")
    said = small("test", code=ACTION_FAILED).stderr
    assert "failed   check" in said
    assert small("test", code=ACTION_FAILED).stderr.count("failed   check") == 1


def test_every_test_is_run_unless_told_to_stop(bn: Bn) -> None:
    bn.spec(
        "".join(
            f'[actions.{name}]\nkind = "test"\ntools = ["sh"]\nscript = "exit {code} # {name}"\n'
            for name, code in (("a", 1), ("b", 0), ("c", 1))
        )
    )
    steps = bn.json("test", "--jobs", "1", code=ACTION_FAILED)["steps"]
    assert {label: step["status"] for label, step in steps.items()} == {
        "a": "failed",
        "b": "built",
        "c": "failed",
    }
    stopped = bn.json("test", "--jobs", "1", "--fail-fast", code=ACTION_FAILED)["steps"]
    assert [step["status"] for step in stopped.values()].count("failed") == 1
    assert "passed" not in bn("test", "c", code=ACTION_FAILED).stderr


# init


def test_init_writes_a_spec_that_builds(cc_bn: Bn) -> None:
    cc_bn.put("main.c", '#include "add.h"\nint main(void) { return add(-2, 2); }\n')
    cc_bn.put("lib/add.c", '#include "add.h"\nint add(int a, int b) { return a + b; }\n')
    cc_bn.put("include/add.h", "int add(int, int);\n")
    cc_bn.put("tests/check.c", "int main(void) { return 1; }\n")
    said = cc_bn("init").stderr
    assert said == "wrote spec.toml and cc.toml; next: bn build\n"
    name = tomllib.loads((cc_bn.directory / "spec.toml").read_text())["package"]["name"]
    assert name == "project"
    cc_bn("build")
    subprocess.run([cc_bn.directory / "result/bin/project"], check=True)
    assert "up to date" in cc_bn("build").stderr


def test_init_builds_two_programs_and_a_library_alone(cc_bn: Bn) -> None:
    cc_bn.put("two/a.c", "int main(void) { return 0; }\n")
    cc_bn.put("two/b.c", "int main(void) { return 0; }\n")
    assert cc_bn.json("init", "two")["next"] == "bn build two/spec.toml"
    cc_bn("build", "two/spec.toml")
    assert sorted(os.listdir(cc_bn.directory / "result/bin")) == ["a", "b"]
    cc_bn.put("library/x.c", "int x(void) { return 0; }\n")
    cc_bn("init", "library")
    cc_bn("build", "library")
    assert (cc_bn.directory / "result/src/x.c.o").exists()


def test_init_leaves_what_is_there(cc_bn: Bn) -> None:
    assert "there are no .c files" in cc_bn("init", code=INPUT).stderr
    assert "no such directory" in cc_bn("init", "nowhere", code=INPUT).stderr
    cc_bn.put("a.c", "int main(void) { return 0; }\n")
    mine = cc_bn.put("spec.toml", "mine")
    assert "--force" in cc_bn("init", code=INPUT).stderr
    assert mine.read_text() == "mine"
    cc_bn("init", "--force")
    cc_bn("build")


# doctor, schema, completions


def test_doctor_finds_a_healthy_machine_healthy(bn: Bn) -> None:
    said = bn("doctor").stdout
    findings = {one["check"]: one for one in bn.json("doctor")}
    assert {"sandbox", "fuse", "store", "toolchains", "disk", "clock"} <= set(findings)
    for name in ("sandbox", "store", "toolchains", "clock"):
        assert findings[name]["state"] == "ok", findings[name]
    for name in findings:
        assert f"{name}: " in said


def test_doctor_says_how_to_mend_what_is_missing(bn: Bn) -> None:
    empty = bn.directory / "empty"
    empty.mkdir()
    findings = {one["check"]: one for one in bn.json("doctor", code=4, env={"PATH": str(empty)})}
    assert findings["sandbox"]["state"] == "fail"
    assert "apt-get install bubblewrap" in findings["sandbox"]["mend"]
    for finding in findings.values():
        assert finding["state"] == "ok" or finding["mend"], finding


def test_schema_accepts_good_specs_and_refuses_bad_ones(bn: Bn) -> None:
    from tests.e2e.conftest import REPOSITORY

    schema: dict[str, Any] = json.loads(bn("schema").stdout)
    tools: dict[str, Any] = json.loads(bn("schema", "--toolchain").stdout)
    for kind in (schema, tools):
        jsonschema.validators.validator_for(kind).check_schema(kind)
    specs = sorted((REPOSITORY / "specs").rglob("*.toml"))
    assert specs
    for path in specs:
        document = tomllib.loads(path.read_text())
        jsonschema.validate(document, tools if "toolchain" in document else schema)
    for bad in ({}, {"package": {"name": 1}}, {"package": {"name": "x"}, "actoins": {}}):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(bad, schema)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completions_are_a_script_of_the_shell(bn: Bn, shell: str) -> None:
    script = bn("completions", shell).stdout
    assert "_BN_COMPLETE" in script
    if shutil.which(shell):
        subprocess.run([shell, "-n"], input=script, text=True, check=True, timeout=60)


def test_completing_offers_commands_and_options(bn: Bn) -> None:
    words = {"_BN_COMPLETE": "bash_complete", "COMP_WORDS": "bn bui", "COMP_CWORD": "1"}
    assert bn(env=words).stdout == "plain,build\n"
    words = {**words, "COMP_WORDS": "bn build --keep", "COMP_CWORD": "2"}
    assert bn(env=words).stdout.splitlines() == ["plain,--keep-going", "plain,--keep-failed"]
