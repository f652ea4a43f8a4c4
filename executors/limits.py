"""Limits on an action: control groups where they work, else resource limits and a watch."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Final

from executors import descendants
from executors.base import Limits
from executors.cgroups import Controllers, Group, find_controllers
from executors.kernel import fix_addresses
from store.errors import NoSpace, host_error

GIVEN: Final = 9
"""The descriptor of the file that `Fence.wrap` opens."""


class Limiter:
    """What this machine can enforce; makes a `Fence` for every action."""

    @cached_property
    def controllers(self) -> Controllers:
        """The control groups that work here; looked for once, on first use."""
        return find_controllers()

    @cached_property
    def threads_at_start(self) -> int:
        """How many threads this user ran when the first action started: RLIMIT_NPROC counts all of
        them, not only those of an action."""
        return sum(_threads_of(os.getuid()))

    def fence(self, limits: Limits) -> Fence:
        """Return the fence for one action. Raises HostError where its group cannot be made."""
        wanted = limits.memory is not None or limits.processes is not None
        group = None
        if wanted and self.controllers.parents:
            try:
                group = Group(self.controllers, limits)
            except OSError as error:
                raise host_error(error, "cannot make a control group") from error
        threads = 0
        if not (group and group.limits("pids")) and os.getuid() != 0:
            threads = self.threads_at_start
        return Fence(limits, group, threads)

    def enforcement(self) -> list[tuple[str, str | None]]:
        """Return every limit and how it is enforced here, None where it is not."""
        version = f"control groups, version {self.controllers.version}"
        groups = self.controllers.parents
        memory = "RLIMIT_DATA for each process, and the sum is watched"
        processes = "watched" if os.getuid() == 0 else "RLIMIT_NPROC, and watched"
        return [
            ("memory", version if "memory" in groups else memory),
            ("processes", version if "pids" in groups else processes),
            ("CPU time", "RLIMIT_CPU for each process"),
            ("wall time", "watched"),
            ("size of the log", "watched"),
        ]


def enforcement() -> list[tuple[str, str | None]]:
    """Return every limit and how it is enforced on this machine, None where it is not."""
    fixed = "off, by personality(2)" if fix_addresses() else None
    return [*Limiter().enforcement(), ("address randomisation", fixed)]


class Fence:
    """The limits of one action, in force."""

    def __init__(self, limits: Limits, group: Group | None, threads: int) -> None:
        self._limits = limits
        self._group = group
        self._threads = threads

    def wrap(self, argv: Sequence[str], given: Path | None = None) -> list[str]:
        """Return the command that joins the group, sets the limits, and then becomes `argv`, with
        the file `given` open as descriptor 9.

        A shell does it between fork and exec: Python code there would copy or deadlock a process
        with threads.
        """
        import shlex

        script = ["set -e", "umask 022", "ulimit -c 0"]
        if given is not None:
            script.append(f"exec {GIVEN}< {shlex.quote(str(given))}")
        script += [f"echo 0 > {shlex.quote(str(file))}" for file in self.entrances()]
        if (seconds := self._limits.cpu_seconds) is not None:
            script += [f"ulimit -S -t {seconds}", f"ulimit -H -t {seconds + 1}"]
        if self._limits.memory is not None and not self._grouped("memory"):
            script.append(f"ulimit -d {max(1, self._limits.memory // 1024)}")
        if self._limits.processes is not None and self._threads:
            most = self._threads + self._limits.processes
            # dash calls it -p, other shells -u
            script.append(f"ulimit -u {most} 2>/dev/null || ulimit -p {most}")
        script.append('exec "$@"')
        return ["/bin/sh", "-c", "; ".join(script), "sh", *argv]

    def entrances(self) -> list[Path]:
        """Return the files that a process writes 0 to in order to join the control groups."""
        return self._group.entrances() if self._group else []

    def resource_limits(self) -> list[tuple[str, int, int]]:
        """Return the resource limits to set before the command starts: name, soft, hard."""
        found = [("RLIMIT_CORE", 0, 0)]
        if (seconds := self._limits.cpu_seconds) is not None:
            found.append(("RLIMIT_CPU", seconds, seconds + 1))
        if self._limits.memory is not None and not self._grouped("memory"):
            found.append(("RLIMIT_DATA", self._limits.memory, self._limits.memory))
        if self._limits.processes is not None and self._threads:
            most = self._threads + self._limits.processes
            found.append(("RLIMIT_NPROC", most, most))
        return found

    def exceeded(self, pid: Callable[[], int]) -> str:
        """Say which limit the process tree under `pid` is over, in words; else return nothing."""
        if overrun := self.overrun():
            return overrun
        memory, processes = self._limits.memory, self._limits.processes
        watch_memory = memory is not None and not self._grouped("memory")
        watch_processes = processes is not None and not self._grouped("pids")
        if not watch_memory and not watch_processes:
            return ""
        used = descendants.usage(pid())
        if watch_memory and memory is not None and used.memory > memory:
            return _over_memory(self._limits)
        if watch_processes and processes is not None and used.processes > processes + 3:
            return f"ran more than {processes} processes"
        return ""

    def overrun(self) -> str:
        """Say, in words, that the kernel has killed something for a limit; else return nothing.

        Such an action is not believed even if it succeeded: it may go otherwise next time.
        """
        killed = self._group is not None and self._group.out_of_memory()
        return _over_memory(self._limits) if killed else ""

    @property
    def contains(self) -> bool:
        """Whether every process of the action, wherever it went, is among `members`."""
        return self._group is not None

    def members(self) -> set[int]:
        """Return the processes in the group; none where there is no group."""
        return self._group.members() if self._group else set()

    async def remove(self) -> None:
        """Kill what is left in the group and remove it."""
        if self._group:
            await self._group.remove()

    def drop(self) -> None:
        """Remove the group if nothing is left in it."""
        if self._group:
            self._group.drop()

    def _grouped(self, controller: str) -> bool:
        return self._group is not None and self._group.limits(controller)


def _over_memory(limits: Limits) -> str:
    """Return the reason of an action that used more than its memory."""
    return f"used more than its {(limits.memory or 0) / 1e6:.0f} MB of memory"


def require_space(directory: Path) -> None:
    """Raise NoSpace where the file system of `directory` is full: then an action that failed is
    not to blame."""
    status = os.statvfs(directory)
    blocks = status.f_bfree if os.getuid() == 0 else status.f_bavail
    no_inodes = status.f_files > 0 and status.f_ffree == 0
    if blocks * status.f_frsize < 1 << 20 or no_inodes:
        raise NoSpace(
            f"{directory}: no space left while an action ran",
            "free some space, or put the store elsewhere with BN_STORE",
        )


def _threads_of(uid: int) -> list[int]:
    found = []
    for name in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            if os.stat(f"/proc/{name}").st_uid == uid:
                found.append(len(os.listdir(f"/proc/{name}/task")))
    return found
