"""What is shown on a terminal."""

from __future__ import annotations

import os
import pty
import re
import select
import subprocess
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.e2e.conftest import Bn

ACTION_FAILED = 1
INPUT = 3


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
