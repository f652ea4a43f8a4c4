"""Processes pinned to one processor each, and the processor time that they took."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from attrs import frozen

from store.errors import HostError


@frozen(kw_only=True)
class Taken:
    """What a process took: seconds of processor time (user and system), and by the wall clock."""

    cpu: float
    wall: float
    printed: str = ""


def run_pinned(
    command: Sequence[str], cpus: Sequence[int], directory: Path, accept: Sequence[int] = (0,)
) -> list[Taken]:
    """Run a command at the same time on each of some processors; raises HostError if one fails."""
    began = time.perf_counter()
    started: list[subprocess.Popen[bytes]] = []
    try:
        for cpu in cpus:
            one = _start(command, cpu, directory)
            started.append(one)  # at once: it is killed if the next one cannot be started
        taken = [_ended(process, began) for process in started]
    finally:
        for process in started:
            if process.returncode is None:  # interrupted, or another one could not be started
                process.kill()
                process.wait()
    for process, ended in zip(started, taken, strict=True):
        if process.returncode not in accept:
            told = ended.printed.strip()[-400:]
            raise HostError(
                f"{command[0]} failed in the benchmark", f"exit code {process.returncode}: {told}"
            )
    return taken


def _start(command: Sequence[str], cpu: int, directory: Path) -> subprocess.Popen[bytes]:
    before = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {cpu})  # of this thread; what it starts inherits it
        return subprocess.Popen(
            command,
            cwd=directory,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C"},
        )
    except OSError as error:
        raise HostError(f"cannot run {command[0]} on processor {cpu}", str(error)) from error
    finally:
        os.sched_setaffinity(0, before)


def _ended(process: subprocess.Popen[bytes], began: float) -> Taken:
    assert process.stdout
    with process.stdout:
        printed = process.stdout.read().decode(errors="replace")
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    seconds = usage.ru_utime + usage.ru_stime
    return Taken(cpu=seconds, wall=time.perf_counter() - began, printed=printed)


def python() -> str:
    """Return the Python that runs now."""
    return os.path.realpath(sys.executable)
