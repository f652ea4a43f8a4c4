"""Warm starts on a terminal."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import sys
import termios

from tests.e2e.conftest import Bn
from tests.e2e.warming import Warm, ended, running, until


class Terminal:
    """A pseudo-terminal that a command has as its own."""

    def __init__(self, bn: Bn, *arguments: str) -> None:
        self.said = b""
        self.process, self.handle = pty.fork()
        if self.process == 0:
            os.chdir(bn.directory)
            env = {**bn.env, "TERM": "xterm-256color"}
            env.pop("CI", None)
            os.execve(sys.executable, bn.command(*arguments), env)
        fcntl.ioctl(self.handle, termios.TIOCSWINSZ, b"\x28\x00\x50\x00\0\0\0\0")

    def read(self, seconds: float = 0.05) -> bytes:
        """Take in what the terminal shows and return all of it."""
        while select.select([self.handle], [], [], seconds)[0]:
            try:
                data = os.read(self.handle, 65536)
            except OSError:
                break
            if not data:
                break
            self.said += data
        return self.said

    def end(self) -> int:
        """Return the exit code."""
        until(lambda: self.read() and os.waitid(os.P_PID, self.process, FLAGS))
        code = os.waitstatus_to_exitcode(os.waitpid(self.process, 0)[1])
        self.read()
        os.close(self.handle)
        return code


FLAGS = os.WEXITED | os.WNOHANG | os.WNOWAIT


def test_on_a_terminal(warm: Warm) -> None:
    said = []
    for variable in ("0", "1"):
        warm.edit(0.7)
        bn = Bn(warm.bn.directory, warm.bn.store, {**warm.bn.env, "BN_WARM": variable})

        def run(bn: Bn = bn) -> bytes:
            terminal = Terminal(bn, "build", "long")
            assert terminal.end() == 0
            return terminal.said

        said.append(warm.handed(int(variable), run))
    for one in said:
        assert b"1 running" in one
        assert b"\x1b[" in one
        assert b"1 built" in one
    shown = [set(re.findall(rb"\x1b\[[\d;?]*[a-zA-Z]", one)) for one in said]
    assert shown[0] == shown[1]


def test_control_c_and_control_z(warm: Warm) -> None:
    word = warm.edit(600)
    warm.zygote()
    terminal = Terminal(warm.bn, "build", "long")
    until(lambda: terminal.read() and running(word))
    worker = warm.worker(word)
    os.write(terminal.handle, b"\x03")
    assert terminal.end() == 130
    assert terminal.said.count(b"interrupted") == 1
    assert b"Traceback" not in terminal.said
    until(lambda: ended(worker) and not running(word))
