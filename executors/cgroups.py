"""Control groups: memory and process limits for a whole process tree, version 1 and 2."""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from executors.base import Limits
from executors.waiting import pause
from store.records import frozen

_MOUNTS: Final = Path("/proc/self/mountinfo")
_OWN: Final = Path("/proc/self/cgroup")
_WANTED: Final = ("memory", "pids")
_OWN_PROCESSES: Final = 3
"""What the sandbox itself needs of the limit on processes: bubblewrap twice and its init."""

_names = itertools.count()


@frozen
class Controllers:
    """Where groups can be made: a directory for each controller that works here."""

    version: int
    parents: Mapping[str, Path]


def find_controllers() -> Controllers:
    """Return the controllers under which this process may make groups and move a child into them.

    Each is tried with a real group, because permissions alone do not tell. Also removes groups of
    processes that are gone.
    """
    for version, parents in ((2, _version_2()), (1, _version_1())):
        usable = {name: path for name, path in parents.items() if _works(version, name, path)}
        if usable:
            for path in usable.values():
                _sweep(path)
            return Controllers(version, usable)
    return Controllers(0, {})


class Group:
    """The control group of one action. Used as: make, let the process join, watch, kill, remove."""

    def __init__(self, controllers: Controllers, limits: Limits) -> None:
        """Make the group and set its limits. Raises OSError where the kernel refuses."""
        self._version = controllers.version
        self._directories: dict[str, Path] = {}
        wanted = {"memory": limits.memory, "pids": limits.processes}
        name = f"bn-{os.getpid()}-{next(_names)}"
        for controller, parent in controllers.parents.items():
            if wanted[controller] is not None:
                path = parent / name
                path.mkdir(exist_ok=True)
                self._directories[controller] = path
        self._limit(limits)

    def limits(self, controller: str) -> bool:
        """Say whether this group limits `memory` or `pids`."""
        return controller in self._directories

    def entrances(self) -> list[Path]:
        """Return the files that a process writes 0 to in order to join."""
        return [path / "cgroup.procs" for path in sorted(set(self._directories.values()))]

    def out_of_memory(self) -> bool:
        """Say whether the kernel has killed something here for its memory."""
        directory = self._directories.get("memory")
        if directory is None:
            return False
        file = "memory.events" if self._version == 2 else "memory.oom_control"
        counts = dict(line.split() for line in _read(directory / file).splitlines())
        return int(counts.get("oom_kill", 0)) > 0

    def members(self) -> set[int]:
        """Return the ids of the processes in the group."""
        return {int(pid) for file in self.entrances() for pid in _read(file).split()}

    def drop(self) -> None:
        """Remove the group if nothing is left in it."""
        for path in self._directories.values():
            _remove(path)

    async def remove(self) -> None:
        """Kill what is left in the group and remove it."""
        directories = set(self._directories.values())
        for _ in range(200):
            for pid in self.members():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            for path in list(directories):
                if _remove(path):
                    directories.discard(path)
            if not directories:
                return
            await pause(0.005)

    def _limit(self, limits: Limits) -> None:
        if path := self._directories.get("pids"):
            (path / "pids.max").write_text(str((limits.processes or 0) + _OWN_PROCESSES))
        if path := self._directories.get("memory"):
            memory = str(limits.memory)
            if self._version == 2:
                (path / "memory.max").write_text(memory)
                _try_write(path / "memory.swap.max", "0")
                _try_write(path / "memory.oom.group", "1")
            else:
                (path / "memory.limit_in_bytes").write_text(memory)
                _try_write(path / "memory.memsw.limit_in_bytes", memory)


def _version_1() -> dict[str, Path]:
    own = {}
    for line in _read(_OWN).splitlines():
        _, names, path = line.split(":", 2)
        own.update(dict.fromkeys(names.split(","), path))
    found = {}
    for fields in map(str.split, _read(_MOUNTS).splitlines()):
        dash = fields.index("-")
        if fields[dash + 1] == "cgroup":
            for name in set(fields[dash + 3].split(",")).intersection(_WANTED):
                here = Path(fields[4] + own.get(name, "/"))
                found[name] = here if here.is_dir() else Path(fields[4])
    return found


def _version_2() -> dict[str, Path]:
    """Return the nearest group, from our own upwards, that hands both controllers down."""
    mounts = [
        Path(fields[4])
        for fields in map(str.split, _read(_MOUNTS).splitlines())
        if fields[fields.index("-") + 1] == "cgroup2"
    ]
    own = [line[3:] for line in _read(_OWN).splitlines() if line.startswith("0::")]
    if not mounts or not own:
        return {}
    mount = mounts[0]
    here = Path(f"{mount}{own[0]}")
    for path in (here, *here.parents):
        handed_down = _read(path / "cgroup.subtree_control").split()
        if set(_WANTED) <= set(handed_down) and os.access(path, os.W_OK):
            return dict.fromkeys(_WANTED, path)
        if path == mount:
            break
    return {}


def _works(version: int, name: str, parent: Path) -> bool:
    """Make a group, move a child into it (in version 1 nothing forbids just that), remove it."""
    trial = Limits(memory=1 << 30, processes=64)
    try:
        group = Group(Controllers(version, {name: parent}), trial)
    except OSError:
        return False
    [entrance] = group.entrances()
    joined = True
    if version == 2:
        import subprocess

        joining = ["/bin/sh", "-c", 'echo 0 > "$1"', "sh", str(entrance)]
        done = subprocess.run(joining, stderr=subprocess.DEVNULL, check=False)
        joined = done.returncode == 0
    _remove(entrance.parent)
    return joined


def _sweep(parent: Path) -> None:
    for path in parent.glob("bn-*-*"):
        owner = path.name.split("-")[1]
        if not Path("/proc", owner).exists():
            _remove(path)


def _remove(path: Path) -> bool:
    try:
        path.rmdir()
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True


def _try_write(path: Path, text: str) -> None:
    with contextlib.suppress(OSError):
        path.write_text(text)


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
