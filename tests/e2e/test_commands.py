"""Every command: what it does, what it prints for people and for machines, its exit code."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import shutil
import subprocess
import sys
import time
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
SMALL = """
    [params]
    word = "hello"
    [sources.src]
    path = "src"
    [actions.first]
    tools = ["sh"]
    inputs = ["src"]
    script = "echo {word}; cat src/file > $out/first"
    outputs = ["first"]
    [actions.second]
    tools = ["sh"]
    inputs = ["first"]
    script = "cp first/first $out/second"
    outputs = ["second"]
    [actions.check]
    kind = "test"
    tools = ["sh"]
    inputs = ["second"]
    script = "grep -q text second/second"
    """
BROKEN = """
    [params]
    code = 1
    [actions.good]
    tools = ["sh"]
    script = "echo fine > $out/good"
    outputs = ["good"]
    [actions.bad]
    tools = ["sh"]
    inputs = ["good"]
    env = { COLOUR = "red" }
    script = "echo to be seen; exit {code}"
    [actions.after]
    tools = ["sh"]
    inputs = ["bad"]
    script = "true"
    [actions.other]
    tools = ["sh"]
    script = "echo other > $out/other"
    outputs = ["other"]
    """


@pytest.fixture
def small(bn: Bn) -> Bn:
    """Two actions and a test."""
    bn.put("src/file", "text\n")
    bn.spec(SMALL, default="second")
    return bn


@pytest.fixture
def broken(bn: Bn) -> Bn:
    """A chain whose second action fails, and another action."""
    bn.spec(BROKEN)
    return bn


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


# build


def test_build_takes_a_directory_a_file_or_the_current_directory(small: Bn) -> None:
    above = small.directory.parent
    name = small.directory.name
    trees = {
        small.json("build")["result"],
        small.json("build", "spec.toml", "second")["result"],
        small.json("build", ".")["result"],
        small.json("build", str(small.directory))["result"],
    }
    small.directory = above
    trees.add(small.json("build", f"{name}/spec.toml")["result"])
    trees.add(small.json("build", name)["result"])
    assert len(trees) == 1
    assert (above / "result/second").read_text() == "text\n"


def test_build_copies_the_result_where_it_is_told(small: Bn) -> None:
    small.put("copy/mine", "mine")
    small("build", "--out", "copy")
    copied = small.directory / "copy/second"
    assert copied.read_text() == "text\n"
    assert not copied.is_symlink()
    assert (small.directory / "copy/mine").read_text() == "mine"
    assert not (small.directory / "result").exists()
    copied.write_text("edited\n")
    small("build", "--out", "copy")
    assert copied.read_text() == "text\n"
    small("build")
    assert small.result("second") == "text\n"


def test_build_without_a_link_says_where_the_result_is(small: Bn) -> None:
    said = small("build", "--no-link").stderr
    assert not (small.directory / "result").exists()
    assert str(small.store) in said


def test_result_of_a_target_holds_just_its_outputs(small: Bn) -> None:
    small("build", "first")
    assert os.listdir(small.directory / "result") == ["first"]
    small("build", "first", "second")
    assert sorted(os.listdir(small.directory / "result")) == ["first", "second"]


def test_results_cannot_be_written(small: Bn) -> None:
    small("build")
    assert not (small.directory / "result/second").stat().st_mode & 0o222


def test_dry_run_says_what_would_run_and_why_and_runs_nothing(small: Bn) -> None:
    first = small("build", "--dry-run")
    assert first.stdout.startswith("run   first: ")
    assert "wait  second: for first" in first.stdout
    assert "1 would run, 1 may follow, 0 cached" in first.stderr
    assert small.ran() == {"first", "second"}
    assert small("build", "--dry-run").stderr.startswith("up to date")
    small.put("src/file", "text again\n")
    planned = small.json("build", "--dry-run")["steps"]
    assert planned["first"]["plan"] == "run"
    assert "src/file" in planned["first"]["reason"]
    assert planned["second"] == {"plan": "wait", "for": ["first"]}
    assert small.result("second") == "text\n"


def test_keep_going_builds_what_a_failure_does_not_touch(broken: Bn) -> None:
    steps = broken.steps("--keep-going", code=ACTION_FAILED)
    assert steps == {"good": "built", "bad": "failed", "after": "skipped", "other": "built"}


def test_jobs_bounds_what_runs_at_once(bn: Bn) -> None:
    script = 'script = "sleep 0.3; echo {name} > $out/{name}"'
    actions = "".join(
        f'[actions.{name}]\ntools = ["sh"]\noutputs = ["{name}"]\n{script}\n'.replace(
            "{name}", name
        )
        for name in ("a", "b", "c")
    )
    bn.spec(actions)
    bn("build", "--jobs", "1")
    (log,) = (bn.store / "builds").glob("*/timeline.jsonl")
    running = most = 0
    for line in log.read_text().splitlines():
        event = json.loads(line)["event"]
        running += (event == "StepStarted") - (event == "StepFinished")
        most = max(most, running)
    assert most == 1


def test_failure_says_what_a_person_needs(broken: Bn) -> None:
    said = broken("build", code=ACTION_FAILED).stderr
    assert re.search(r"^failed: \[\d/4\] bad .*: exited with 1$", said, re.MULTILINE)
    assert "  | to be seen" in said
    whole = re.search(r"whole log: (.*)", said)
    assert whole
    with open(whole[1]) as log:
        assert log.read() == "to be seen\n"
    assert "reproduce: bn shell bad --run" in said
    assert "1 failed, 1 not tried" in said


def test_reproducing_uses_the_parameters_of_the_failure(broken: Bn) -> None:
    said = broken("build", "--set", "code=7", code=ACTION_FAILED).stderr
    line = re.search(r"reproduce: bn (.*)", said)
    assert line
    assert "to be seen" in broken(*line[1].split(), code=7).stdout


def test_long_log_shows_its_end(bn: Bn) -> None:
    bn.spec('[actions.a]\ntools = ["sh"]\nscript = "seq 1000; exit 1"\n')
    said = bn("build", code=ACTION_FAILED).stderr
    assert "  | 1000\n" in said
    assert "  | 900\n" not in said
    assert "the last 20 lines" in said
    assert bn("log", "a").stdout.splitlines() == [str(n) for n in range(1, 1001)]


def test_kept_sandbox_is_there_afterwards(broken: Bn) -> None:
    said = broken("build", "--keep-failed", code=ACTION_FAILED).stderr
    kept = re.search(r"sandbox kept: (.*)", said)
    assert kept
    assert os.path.isdir(kept[1])
    assert any("good" in names for _, _, names in os.walk(kept[1]))


def test_progress_of_a_pipe_is_a_line_for_each_action(small: Bn) -> None:
    lines = small("build").stderr.splitlines()
    assert [re.sub(r"[\d.]+ s", "T", line) for line in lines] == [
        "[1/2] first  T",
        "[2/2] second  T",
        "second → ./result  (2 built, 0 cached, T)",
    ]


def test_reader_that_goes_away_is_no_error(small: Bn) -> None:
    program = '"$@" | head -c 1; exit ${PIPESTATUS[0]}'
    done = subprocess.run(
        ["bash", "-c", program, "bash", *small.command("schema")],
        cwd=small.directory,
        env=small.env,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


# the terminal


def on_a_terminal(bn: Bn, *arguments: str, **env: str) -> tuple[int, str]:
    """Run bn on a pseudo-terminal and return its exit code and all that it wrote."""
    master, slave = pty.openpty()
    environment = {name: value for name, value in bn.env.items() if name not in ("CI", "NO_COLOR")}
    process = subprocess.Popen(
        bn.command(*arguments),
        cwd=bn.directory,
        env={**environment, "TERM": "xterm-256color", **env},
        stdin=slave,
        stdout=slave,
        stderr=slave,
        start_new_session=True,
    )
    os.close(slave)
    said = b""
    limit = time.monotonic() + 60
    while time.monotonic() < limit:
        if not select.select([master], [], [], 1)[0]:
            continue
        try:
            data = os.read(master, 65536)
        except OSError:  # the other side was closed
            break
        if not data:
            break
        said += data
    os.close(master)
    return process.wait(timeout=10), said.decode()


def test_terminal_shows_progress_and_is_left_clean(bn: Bn) -> None:
    bn.spec(
        """
        [actions.one]
        tools = ["sh"]
        script = "sleep 1; echo 1 > $out/one"
        outputs = ["one"]
        [actions.two]
        tools = ["sh"]
        inputs = ["one"]
        script = "sleep 1; echo 2 > $out/two"
        outputs = ["two"]
        """
    )
    code, said = on_a_terminal(bn, "build")
    assert code == 0
    assert "0 done · 1 running · 1 to come" in said
    assert "1 done · 1 running · 0 to come" in said
    assert re.search(r"two  0\.\d\d s", said), "what runs is shown with its time"
    assert said.count("\x1b[?25l") == said.count("\x1b[?25h"), "the cursor is shown again"
    assert said.rindex("\x1b[?25h") > said.rindex("\x1b[?25l")
    end = said.rpartition("to come")[2]
    assert "\x1b[2K" in end, "the status is taken away"
    assert "one, two → ./result" in end


def test_terminal_shows_errors_in_colour_unless_told_not_to(broken: Bn) -> None:
    code, said = on_a_terminal(broken, "build", "nothing")
    assert code == INPUT
    assert "\x1b[1;31merror:\x1b[0m unknown target" in said
    _, said = on_a_terminal(broken, "build", "nothing", NO_COLOR="1")
    assert "\x1b" not in said
    _, said = on_a_terminal(broken, "build", NO_COLOR="1")
    assert not re.search(r"\x1b\[[0-9;]*3[0-9][0-9;]*m", said), "no colours"
    _, said = on_a_terminal(broken, "build", TERM="dumb")
    assert "\x1b" not in said


def test_failure_on_a_terminal_stays_to_be_read(broken: Bn) -> None:
    code, said = on_a_terminal(broken, "build")
    assert code == ACTION_FAILED
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", said)
    assert "| to be seen" in plain
    assert "reproduce: bn shell bad --run" in plain


def test_shell_on_a_terminal_is_one(small: Bn) -> None:
    code, said = on_a_terminal(small, "shell", "second", "-c", "test -t 0 && echo a terminal")
    assert code == 0
    assert "a terminal" in said


def test_interrupt_in_a_shell_is_for_what_runs_there(small: Bn) -> None:
    script = "sh -c 'echo in; kill -INT $$; echo never'; echo $?"
    _, said = on_a_terminal(small, "shell", "second", "-c", script)
    assert "in\r\n130\r\n" in said
    assert "never" not in said


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


# graph


def test_graph_in_each_format_names_steps_and_what_they_need(small: Bn) -> None:
    assert small("graph").stdout.splitlines() == [
        "first ← src → first",
        "second ← first → second",
        "check ← second → a test",
    ]
    assert "check" not in small("graph", "second").stdout
    dot = small("graph", "--format", "dot").stdout
    assert dot.startswith("digraph")
    assert '"first" -> "second";' in dot
    mermaid = small("graph", "--format", "mermaid").stdout
    assert mermaid.startswith("flowchart LR\n")
    ids = dict(re.findall(r'(n\d+)\["(\w+)"\]', mermaid))
    edges = re.findall(r"(n\d+)\S* --> (n\d+)", mermaid)
    assert ("first", "second") in [(ids[start], ids[end]) for start, end in edges]
    document = small.json("graph")
    assert document["default"] == ["second"]
    assert document["steps"]["second"]["needs"] == ["first"]
    assert document["steps"]["first"]["sources"] == ["src"]
    assert document["steps"]["check"]["test"] is True
    assert json.loads(small("graph", "--format", "json").stdout) == document


# show


def test_show_prints_trees_actions_and_blobs(small: Bn) -> None:
    report = small.json("build")
    tree = small("show", report["result"]).stdout
    kind, digest, size, name = tree.split()
    assert (kind, size, name) == ("file", "5", "second")
    assert small("show", digest).stdout == "text\n"
    assert small("show", digest[:12]).stdout == "text\n"
    action = small("show", report["steps"]["first"]["action"]).stdout
    assert "echo hello; cat src/file" in action
    document = small.json("show", report["steps"]["first"]["action"])
    assert document["kind"] == "action"
    assert document["object"]["command"][0] == "/bin/sh"
    assert small.json("show", digest) == {"kind": "blob", "digest": digest, "size": 5}


def test_show_of_what_is_not_there_says_so(small: Bn) -> None:
    small("build")
    assert "nothing in the store" in small("show", "0" * 64, code=INPUT).stderr
    assert "is not a digest" in small("show", "xyz", code=INPUT).stderr
    assert "is not a digest" in small("show", "../../etc/passwd", code=INPUT).stderr


# log, why


def test_log_is_what_the_action_printed(small: Bn) -> None:
    small("build")
    small("build")
    assert small("log", "first").stdout == "hello\n"
    assert small("log", "spec.toml", "first").stdout == "hello\n"
    (row,) = small.json("log", "first")
    assert (row["label"], row["failed"], row["log"]) == ("first", False, "hello\n")


def test_log_of_every_item_is_headed_by_its_name(bn: Bn) -> None:
    bn.put("src/a", "")
    bn.put("src/b", "")
    bn.spec(
        '[sources.src]\npath = "src"\n[actions.each]\nforeach = "src:*"\n'
        'tools = ["sh"]\nscript = "echo this is {item}"\n'
    )
    bn("build")
    said = bn("log", "each").stdout
    assert said == "== each[src/a]\nthis is src/a\n== each[src/b]\nthis is src/b\n"
    assert bn("log", "each[src/b]").stdout == "this is src/b\n"


def test_log_and_why_of_what_never_ran_say_so(broken: Bn) -> None:
    assert "no build of 'bad' is known" in broken("log", "bad", code=INPUT).stderr
    broken("build", code=ACTION_FAILED)
    for command in ("log", "why"):
        error = broken.json(command, "after", code=INPUT)["error"]
        assert "was never built" in error["hint"]
        assert broken.json(command, "bda", code=INPUT)["error"]["hint"] == "did you mean 'bad'?"


WHY = """
    [params]
    flag = "-a"
    [sources.src]
    path = "src"
    [actions.it]
    tools = ["sh"]
    inputs = ["src"]
    env = {{ COLOUR = "{colour}" }}
    run = ["echo", "{{flag}}", "{more}"]
    """


def test_why_names_the_file_flag_and_variable_that_changed(bn: Bn) -> None:
    bn.put("src/data.txt", "one\ntwo\n")
    bn.spec(WHY.format(colour="red", more="x"))
    bn("build")
    assert "never built before" in bn("why", "it").stdout
    bn.put("src/data.txt", "one\nthree\n")
    bn("build")
    assert "file src/data.txt changed (line 2)" in bn("why", "it").stdout
    bn.put("src/new.txt", "")
    bn("build")
    assert "src/new.txt" in bn("why", "it").stdout
    bn("build", "--set", "flag=-b")
    assert "flag -a → -b" in bn("why", "it").stdout
    bn.spec(WHY.format(colour="blue", more="x"))
    bn("build", "--set", "flag=-b")
    said = bn("why", "it").stdout
    assert "COLOUR" in said
    assert "blue" in said
    (row,) = bn.json("why", "it")
    assert row["ran"] is True
    assert len(row["changes"]) == 1
    bn("build")
    bn("build", "--set", "flag=-a")
    assert "was in the store" in bn("why", "it").stdout


def test_why_names_the_tool_that_changed(bn: Bn) -> None:
    bn.spec('[actions.it]\ntools = ["sh"]\nscript = "true"\n')
    text = (bn.directory / "spec.toml").read_text()
    toolchain = re.search(r'sh = "(.*)"', text)
    assert toolchain
    with open(toolchain[1]) as file:
        tools = file.read()
    bn.put("tools.toml", tools)
    (bn.directory / "spec.toml").write_text(text.replace(toolchain[1], "tools.toml"))
    bn("build")
    bn.put("tools.toml", tools + 'exclude = ["usr/bin/sed"]\n')
    bn("build")
    assert "usr/bin/sed" in bn("why", "it").stdout


# shell


def test_shell_has_the_inputs_and_variables_of_the_action(broken: Bn) -> None:
    done = broken("shell", "bad", "-c", "cat good/good; echo $COLOUR; pwd; exit 9", code=9)
    assert done.stdout == "fine\nred\n/build\n"
    assert broken("shell", "bad", "--run", code=ACTION_FAILED).stdout == "to be seen\n"


def test_shell_without_a_name_is_in_the_last_failure(broken: Bn) -> None:
    assert "no build of it is known to have failed" in broken("shell", code=INPUT).stderr
    broken("build", "--set", "code=5", code=ACTION_FAILED)
    assert broken("shell", "--run", code=5).stdout == "to be seen\n"


def test_shell_leaves_nothing_behind(small: Bn) -> None:
    small("shell", "second", "-c", "echo x > $out/second; echo y > mine")
    assert not any((small.store / "work").iterdir())
    assert small.ran() == {"second"}
    assert small.result("second") == "text\n"


def test_shell_of_many_actions_asks_for_one(bn: Bn) -> None:
    bn.put("src/a", "")
    bn.put("src/b", "")
    bn.spec(
        '[sources.src]\npath = "src"\n[actions.each]\nforeach = "src:*"\n'
        'tools = ["sh"]\nscript = "true"\n'
    )
    error = bn.json("shell", "each", code=INPUT)["error"]
    assert error["message"] == "'each' is 2 actions"
    assert "each[src/a]" in error["hint"]


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
    words = {"_BN_COMPLETE": "bash_complete", "COMP_WORDS": "bn bu", "COMP_CWORD": "1"}
    assert bn(env=words).stdout == "plain,build\n"
    words = {**words, "COMP_WORDS": "bn build --keep", "COMP_CWORD": "2"}
    assert bn(env=words).stdout.splitlines() == ["plain,--keep-going", "plain,--keep-failed"]
