"""The zygote: what it imports, and what it takes for a request."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from engine.watch.inherit import LOADED, Refused, parsed
from engine.watch.warm import interpreter

ROOT = Path(__file__).parents[3]

SCRIPT = """
import importlib, os, sys
names = set()
plain = type(os.environ).__getitem__

def noted(self, name):
    names.add(name)
    return plain(self, name)

type(os.environ).__getitem__ = noted
sys.path.insert(0, sys.argv[1])
from engine.packages import find_packages
find_packages()
from engine.watch.zygote import MODULES
for name in MODULES:
    importlib.import_module(name)
print(len(os.listdir("/proc/self/task")), *sorted(names))
"""


def test_imports_start_no_thread_and_read_no_variable_that_is_not_compared() -> None:
    """Else a worker would have something of the watcher's, not of its client's."""
    command = [sys.executable, "-I", "-S", "-c", SCRIPT, str(ROOT)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    threads, *names = done.stdout.split()
    assert threads == "1"
    assert [name for name in names if not name.startswith(LOADED)] == []


def request(*fields: str) -> bytes:
    return b"\0".join(map(os.fsencode, fields))


def test_a_request_is_taken_apart() -> None:
    packet = request(
        "python", "00000000", "50000", "0,1,2,9", "/a:/b", "2", "bn", "build", "A=1", "B=x=y"
    )
    asked = parsed(packet)
    assert asked.interpreter == b"python"
    assert asked.own == (b"00000000", b"50000")
    assert asked.numbers == (0, 1, 2, 9)
    assert asked.paths == ("/a", "/b")
    assert asked.arguments == ("bn", "build")
    assert asked.environment == {b"A": b"1", b"B": b"x=y"}


@pytest.mark.parametrize("packet", [b"", b"x", request("python", "0", "0", "a", "", "1", "bn")])
def test_what_is_no_request(packet: bytes) -> None:
    with pytest.raises(Refused):
        parsed(packet)


def test_the_interpreter_is_the_same_for_all_starts() -> None:
    command = [sys.executable, "-I", "-S", "-c"]
    script = "import sys; sys.path.insert(0, sys.argv[1]); from engine.watch.warm import *; "
    said = []
    for more in ("", "from engine.packages import find_packages; find_packages(); "):
        text = f"{script}{more}sys.stdout.buffer.write(interpreter())"
        done = subprocess.run([*command, text, str(ROOT)], capture_output=True, check=True)
        said.append(done.stdout)
    assert said[0] == said[1]
    assert said[0].startswith(interpreter()[:9])
