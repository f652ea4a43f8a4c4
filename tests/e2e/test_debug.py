"""`bn debug`: a build led by a script, and at a terminal."""

from __future__ import annotations

import os
import pty
import select
import subprocess
import time

import pytest

from tests.e2e.conftest import Bn

ACTION_FAILED = 1
INPUT = 3
INTERRUPTED = 130


@pytest.fixture
def project(bn: Bn) -> Bn:
    """Three steps that need nothing, one that fails, and one that needs two of them."""
    text = ""
    for name, script in {"a": "echo a", "b": "echo b", "c": "echo c", "bad": "exit 3"}.items():
        text += f'[actions.{name}]\ntools = ["sh"]\noutputs = ["{name}"]\n'
        text += f'script = "({script}) > {{out}}/{name}"\nenv = {{ NAME = "{name}" }}\n'
    text += '[actions.last]\ntools = ["sh"]\ninputs = ["a", "b"]\noutputs = ["last"]\n'
    text += 'script = "cat a/a b/b > {out}/last"\n'
    bn.spec(text, default="last c")
    return bn


def led(bn: Bn, script: str, *arguments: str, code: int = 0) -> tuple[list[str], list[str]]:
    """Debug with a script; return what stood on standard output and error."""
    bn.put("script", script)
    done = bn("debug", "--script", "script", "-j", "1", *arguments, code=code)
    return done.stdout.splitlines(), done.stderr.splitlines()


def test_each_placement_is_shown_before_it_happens(project: Bn) -> None:
    said, _ = led(project, "step\nstep\nstep\nstep\n")
    assert [line for line in said if line.startswith("→")] == [
        "→ a on local: never built before",
        "→ b on local: never built before",
        "→ c on local: never built before",
        "→ last on local: never built before",
    ]
    assert project.result("last") == "a\nb\n"


def test_what_is_asked_of_the_next_action(project: Bn) -> None:
    said, _ = led(
        project,
        """
        # lines like this one are none
        break last
        continue
        command
        inputs
        env
        why
        toolchains
        running
        list
        shell cat a/a; ls
        """,
    )
    text = "\n".join(said)
    assert "breakpoint 1: last" in text
    assert "outputs: last" in text
    assert "  a/a  2 B" in text
    assert "  b/b  2 B" in text
    assert "  LANG=C.UTF-8" in text
    assert "longest chain first" in text
    assert "a\na\nb\nit ended with 0" in text
    assert project.result("last") == "a\nb\n"


def test_breakpoints(project: Bn) -> None:
    script = "b c\nbreak if step ~ l* and cpus == 1\nbreaks\ndelete 1\nbreaks\nc\nq\n"
    said, errors = led(project, script, code=INTERRUPTED)
    assert "  2: if step ~ l* and cpus == 1" in said
    assert said.count("  1: if step ~ l* and cpus == 1") == 1
    assert "breakpoint 1: if step ~ l* and cpus == 1" in said
    assert "interrupted" in errors[-1]
    said, _ = led(project, "", "--break", "failure", "bad", "last", code=ACTION_FAILED)
    assert said[0].startswith("stopped: bad failed")


def test_a_step_that_is_skipped_takes_what_needs_it_along(project: Bn) -> None:
    _, errors = led(project, "skip a\n", code=ACTION_FAILED)
    assert "failed: a: skipped in the debugger" in errors
    assert "1 failed, 1 not tried, 2 built, 0 cached" in errors
    assert project.ran("last") == {"a", "last"}
    assert any(
        "skipped in the debugger" in line
        for line in project("timeline", "show", "last~1").stdout.splitlines()
    )


def test_a_step_is_chosen(project: Bn) -> None:
    said, _ = led(project, "s c\ns zzz\nskip zzz\nwait\nnode x\nfoo\nb if x\nst\n", "-j", "2")
    assert "it is not the turn of 'zzz' now: list shows whose it is" in said
    assert "nothing runs: step, continue, skip or quit" in "\n".join(said)
    assert "there is no node 'x', but local" in said
    assert "there is no command 'foo'; help lists them" in said
    assert "'x': write it as FIELD OP VALUE, as memory > 1GB" in said


def test_quit_keeps_what_was_built(project: Bn) -> None:
    _, errors = led(project, "step\nquit\n", code=INTERRUPTED)
    assert "interrupted" in errors[-1]
    assert project.ran() == {"b", "c", "last"}


def test_nothing_to_do_asks_nothing(project: Bn) -> None:
    project("build")
    said, errors = led(project, "list\n")
    assert said == []
    assert "up to date" in errors[-1]


def test_commands_come_from_standard_input(project: Bn) -> None:
    done = subprocess.run(
        project.command("debug", "c"),
        input="command\ncontinue\n",
        cwd=project.directory,
        env=dict(project.env),
        capture_output=True,
        text=True,
        check=True,
    )
    assert "(bn) command" in done.stdout
    assert project.result("c") == "c\n"


def test_at_a_terminal(project: Bn) -> None:
    mine, theirs = pty.openpty()
    building = subprocess.Popen(
        project.command("debug", "c"),
        cwd=project.directory,
        env={**project.env, "TERM": "dumb"},
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
    )
    os.close(theirs)
    seen = b""
    try:
        for answer in (b"why\n", b"step\n"):
            seen += read_until(mine, b"(bn) ")
            os.write(mine, answer)
        assert building.wait(60) == 0
    finally:
        building.kill()
        building.wait()
        os.close(mine)
    assert b"c on local" in seen
    assert b"longest chain first" in seen


def read_until(terminal: int, wanted: bytes, seconds: float = 60) -> bytes:
    """Return what a terminal shows, up to the last `wanted` of it."""
    end, seen = time.monotonic() + seconds, b""
    while not seen.endswith(wanted):
        ready, _, _ = select.select([terminal], [], [], max(0.0, end - time.monotonic()))
        assert ready, seen
        seen += os.read(terminal, 4096)
    return seen


def test_bad_input(project: Bn) -> None:
    done = project("debug", "--break", "if size > 1", code=INPUT)
    assert "--break: 'size': is none of step, node" in done.stderr
    assert "cannot read the script" in project("debug", "--script", "none", code=4).stderr
