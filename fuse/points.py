"""Mount points: what is mounted where, and how it is taken away."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Final

from attrs import frozen

from store.errors import HostError

TYPE: Final = "fuse.bn"
_SECONDS: Final = 30
_ESCAPE: Final = re.compile(r"\\([0-7]{3})")
_OWNER: Final = re.compile(r"bn-(\d+)")


@frozen
class MountPoint:
    """A line of /proc/self/mountinfo; `device` is MAJOR:MINOR."""

    path: str
    device: str
    kind: str
    source: str

    @property
    def server(self) -> int | None:
        """The process that serves it, where it is a mount of bn."""
        match = _OWNER.fullmatch(self.source)
        return int(match[1]) if match and self.kind == TYPE else None


def mount_points() -> list[MountPoint]:
    """Return all mount points that this process sees, later ones over earlier ones."""
    found = []
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        left, _, right = line.partition(" - ")
        fields, more = left.split(" "), right.split(" ")
        found.append(MountPoint(_plain(fields[4]), fields[2], more[0], _plain(more[1])))
    return found


def mounted_at(directory: Path) -> MountPoint | None:
    """Return what is mounted at the absolute path, None if it is no mount point.

    Its server is not asked: it may be dead.
    """
    here = [point for point in mount_points() if point.path == str(directory)]
    return here[-1] if here else None


def device_of(directory: Path) -> str | None:
    """Return MAJOR:MINOR of what is mounted at the absolute path."""
    point = mounted_at(directory)
    return point.device if point else None


def is_stale(directory: Path) -> bool:
    """Say whether a mount whose server is gone is left at the absolute path."""
    try:
        os.statvfs(directory)  # what stat(2) says of the top is cached
    except OSError as error:
        return error.errno in (errno.ENOTCONN, errno.ECONNABORTED)
    return False


def unmount(directory: Path, *, lazy: bool = False) -> None:
    """Unmount what is mounted at the absolute path; `lazy`: once nobody uses it any more.

    Raises HostError, that says who uses it where somebody does.
    """
    if os.geteuid() == 0:
        command = ["umount", *(["-l"] if lazy else []), str(directory)]
    else:
        command = [_fusermount(), "-u", *(["-z"] if lazy else []), str(directory)]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=_SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        raise HostError(f"{directory}: unmounting takes too long", "try --lazy") from None
    except FileNotFoundError:
        raise HostError(f"{command[0]} is not installed", "apt-get install mount") from None
    if done.returncode == 0 or mounted_at(directory) is None:
        return
    said = done.stderr.strip().rpartition(": ")[2].rstrip(".") or f"exit {done.returncode}"
    if "busy" in said:
        users = ", ".join(users_of(directory)) or "somebody"
        hint = "end that, or use --lazy: it goes when it is used no more"
        raise HostError(f"{directory}: in use by {users}", hint)
    raise HostError(f"{directory}: cannot unmount: {said}")


def users_of(directory: Path) -> list[str]:
    """Return the processes that are in the directory or have files there open, as `PID (NAME)`."""
    prefix = f"{directory}/"
    found = []
    for process in sorted((name for name in os.listdir("/proc") if name.isdigit()), key=int):
        if any(f"{path}/".startswith(prefix) for path in _paths_of(process)):
            try:
                name = Path("/proc", process, "comm").read_text().strip()
            except OSError:
                continue
            found.append(f"{process} ({name})")
    return found


def _paths_of(process: str) -> list[str]:
    links = [f"/proc/{process}/{place}" for place in ("cwd", "exe", "root")]
    with contextlib.suppress(OSError):
        links += [f"/proc/{process}/fd/{name}" for name in os.listdir(f"/proc/{process}/fd")]
    paths = []
    for link in links:
        with contextlib.suppress(OSError):  # it may have ended, or closed that
            paths.append(os.readlink(link))
    return paths


def _fusermount() -> str:
    found = shutil.which("fusermount3")
    if found is None:
        raise HostError("fusermount3 is not installed", "apt-get install fuse3")
    return found


def _plain(text: str) -> str:
    """Return a field of mountinfo without its octal escapes."""
    return _ESCAPE.sub(lambda match: chr(int(match[1], 8)), text)
