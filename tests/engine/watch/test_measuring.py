"""What the watcher measures by itself: only in quiet, and never in somebody's way."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from engine.watch.measuring import ARGUMENTS, EVERY_SECONDS, QUIET_SECONDS, Measuring

FOR_EVER = "import time; print(flush=True); time.sleep(600)"


class Starts:
    """Starts a stand-in for the benchmark, and counts."""

    def __init__(self, code: str) -> None:
        self.code = code
        self.arguments: list[Sequence[str]] = []
        self.processes: list[subprocess.Popen[bytes]] = []

    def __call__(self, arguments: Sequence[str], store: Path) -> subprocess.Popen[bytes]:
        self.arguments.append(arguments)
        process = subprocess.Popen([sys.executable, "-I", "-S", "-c", self.code])
        self.processes.append(process)
        return process


def test_waits_for_quiet_then_looks_every_hour(tmp_path: Path) -> None:
    start = Starts("pass")
    measuring = Measuring(tmp_path, start)
    measuring.look(0, QUIET_SECONDS - 1)
    assert start.arguments == []
    now = QUIET_SECONDS + 1
    measuring.look(0, now)
    assert start.arguments == [ARGUMENTS]
    start.processes[0].wait()
    measuring.look(0, now + 1)
    measuring.look(0, now + 2)
    assert len(start.arguments) == 1
    assert measuring.status() == {"running": False, "looks": 1, "broken_off": 0}
    measuring.look(0, now + EVERY_SECONDS)
    assert len(start.arguments) == 2
    measuring.close()


def test_gives_way_to_a_build(tmp_path: Path) -> None:
    start = Starts(FOR_EVER)
    measuring = Measuring(tmp_path, start)
    now = QUIET_SECONDS + 1
    measuring.look(0, now)
    measuring.look(0, now + 1)
    assert measuring.status()["running"]
    measuring.look(now + 2, now + 2)
    assert start.processes[0].returncode is not None
    assert measuring.status() == {"running": False, "looks": 0, "broken_off": 1}
    measuring.look(now + 2, now + 3 + QUIET_SECONDS)
    assert len(start.arguments) == 2, "it is due still"
    measuring.close()
    assert start.processes[1].returncode is not None


def test_that_it_cannot_be_started_ends_nothing(tmp_path: Path) -> None:
    def fail(arguments: Sequence[str], store: Path) -> subprocess.Popen[bytes]:
        raise OSError("no memory")

    measuring = Measuring(tmp_path, fail)
    measuring.look(0, QUIET_SECONDS + 1)
    assert not measuring.status()["running"]
    measuring.close()
