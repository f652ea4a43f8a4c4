"""One run of a command, measured and bounded in time."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from attrs import evolve, frozen

GRACE: Final = 10.0
"""Seconds that a command has to end after SIGTERM."""

TIDYING: Final = 0.1
"""Seconds that what did the work gets to end after it said so."""

TAIL: Final = 1500
"""Characters of what a failed command said that its error repeats."""

CGROUPS: Final = Path("/sys/fs/cgroup")
TICKS: Final = os.sysconf("SC_CLK_TCK")


@frozen
class Usage:
    """What a run took: seconds of wall time, seconds of processor time with all its processes, peak
    resident memory in bytes of the tool's own process, and that of the largest of the processes
    that it waited for.

    What ends within some 20 ms is not seen: its peak is then that of the largest, which cannot be
    told below that of the process that measures, some 10 MB.
    """

    seconds: float
    cpu: float
    memory: int
    largest: int


class RunFailedError(Exception):
    """A command failed or took too long."""


def run(
    command: Sequence[str],
    directory: Path,
    env: Mapping[str, str],
    log: Path,
    timeout: float,
    servers: Sequence[int] = (),
    *,
    grouped: bool = True,
) -> Usage:
    """Run a command and return what it took, with what the processes `servers` did for it.

    Everything it prints goes to `log`. Raises RunFailedError if it fails or takes more than
    `timeout` seconds; then, and on any other end, its process group is ended. It is run in a
    control group of its own where it may be `grouped`, and the machine can.
    """
    note = log.with_suffix(".json")
    group = ControlGroup.make() if grouped else None
    before = {pid: server_cpu(pid) for pid in servers}
    runner = [sys.executable, "-I", "-S", str(Path(__file__).with_name("runner.py")), str(note)]
    runner.append(str(group.directory / "cgroup.procs") if group else "")
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
        spent = group.end() if group else 0.0
    if code:
        tail = log.read_text(errors="replace")[-TAIL:]
        raise RunFailedError(f"{' '.join(command)}: exit code {code}\n{tail}")
    noted = json.loads(note.read_text())
    spent -= noted.pop("own")
    usage = Usage(**noted)
    if servers and not grouped:
        time.sleep(TIDYING)
    served = sum(server_cpu(pid) - spent for pid, spent in before.items())
    memory = max([usage.memory, *(server_memory(pid) for pid in servers)])
    return evolve(usage, cpu=max(usage.cpu, spent) + served, memory=memory)


@frozen
class ControlGroup:
    """A control group that counts the processor time of a run, of processes that nobody waits for
    as well."""

    directory: Path
    counter: str
    per_second: float

    @classmethod
    def make(cls) -> ControlGroup | None:
        """Return a new one beside this process, None where the machine lets it make none."""
        name = f"bench-{os.getpid()}"
        for line in Path("/proc/self/cgroup").read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            if controllers == "cpuacct" or controllers.startswith(("cpu,cpuacct", "cpuacct,cpu")):
                top = CGROUPS / controllers
                made = cls(top / path.lstrip("/") / name, "cpuacct.usage", 1e9)
            elif controllers == "":
                made = cls(CGROUPS / path.lstrip("/") / name, "cpu.stat", 1e6)
            else:
                continue
            with contextlib.suppress(OSError):
                made.directory.mkdir(exist_ok=True)
                if (made.directory / made.counter).exists():
                    return made
                made.directory.rmdir()
        return None

    def end(self) -> float:
        """Return the processor seconds that were used in it, and remove it."""
        words = (self.directory / self.counter).read_text().split()
        used = int(words[words.index("usage_usec") + 1 if "usage_usec" in words else 0])
        with contextlib.suppress(OSError):  # something in it still runs
            self.directory.rmdir()
        return used / self.per_second


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
