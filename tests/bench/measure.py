"""One run of a command, measured and bounded in time."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from attrs import evolve, frozen

GRACE: Final = 10.0
"""Seconds that a command has to end after SIGTERM."""

TAIL: Final = 1500
"""Characters of what a failed command said that its error repeats."""

TICKS: Final = os.sysconf("SC_CLK_TCK")


@frozen
class Usage:
    """What a run took: seconds of wall and processor time (its own and its children's), and the
    peak of memory, in bytes, of the largest of its processes.

    The peak cannot be told below that of the process that measures, some 10 MB.
    """

    seconds: float
    cpu: float
    memory: int


class RunFailedError(Exception):
    """A command failed or took too long."""


def run(
    command: Sequence[str],
    directory: Path,
    env: Mapping[str, str],
    log: Path,
    timeout: float,
    servers: Sequence[int] = (),
) -> Usage:
    """Run a command and return what it took, with what the processes `servers` did for it.

    Everything it prints goes to `log`. Raises RunFailedError if it fails or takes more than
    `timeout` seconds; then, and on any other end, its process group is ended.
    """
    note = log.with_suffix(".json")
    before = {pid: server_cpu(pid) for pid in servers}
    runner = [sys.executable, "-I", "-S", str(Path(__file__).with_name("runner.py")), str(note)]
    with open(log, "wb") as said:
        process = subprocess.Popen(
            [*runner, *command],
            cwd=directory,
            env=dict(env),
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        code = process.wait(timeout)
    except subprocess.TimeoutExpired:
        raise RunFailedError(f"{command[0]}: took more than {timeout:g} s") from None
    finally:
        end(process)
    if code:
        tail = log.read_text(errors="replace")[-TAIL:]
        raise RunFailedError(f"{' '.join(command)}: exit code {code}\n{tail}")
    usage = Usage(**json.loads(note.read_text()))
    served = sum(server_cpu(pid) - spent for pid, spent in before.items())
    memory = max([usage.memory, *(server_memory(pid) for pid in servers)])
    return evolve(usage, cpu=usage.cpu + served, memory=memory)


def end(process: subprocess.Popen[bytes]) -> None:
    """End a process and its group, if it still runs."""
    if process.poll() is not None:
        return
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(GRACE)
            return


def server_cpu(pid: int) -> float:
    """Return the processor seconds of a process and of its children that ended."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return 0.0
    fields = text.rpartition(")")[2].split()
    return sum(map(int, fields[11:15])) / TICKS


def server_memory(pid: int) -> int:
    """Return the peak of resident memory of a process, in bytes."""
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    return 0
