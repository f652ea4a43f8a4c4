"""Bubblewrap: its command line, what its version can do, and how its own failures look."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from executors.base import HOST_NAME, NAMESPACES, UID, WORK
from executors.limits import GIVEN
from executors.stage import Workspace
from store.errors import HostError
from store.records import frozen

_NATIVE: Final = "or run without isolation: --executor native"
_ABSENT: Final = f"install it: apt-get install bubblewrap (dnf, pacman: the same name); {_NATIVE}"
_FORBIDDEN: Final = (
    "user namespaces seem to be forbidden here. On Ubuntu: "
    "sysctl kernel.apparmor_restrict_unprivileged_userns=0; on older Debian: "
    "sysctl kernel.unprivileged_userns_clone=1; in a container: start it with "
    f"--security-opt seccomp=unconfined --security-opt systempaths=unconfined; {_NATIVE}"
)
NOTHING_MORE: Final[Mapping[str, str]] = {}
PROC: Final = ("--proc", "/proc", "--remount-ro", "/proc")
"""The sandbox's /proc. Where bn runs as root, the kernel lets the sandbox's processes write what
root owns in there, without any capability: /proc/sys/kernel/core_pattern is a way out."""


@frozen
class Bubblewrap:
    """An installed bubblewrap: its path and version."""

    path: str
    version: tuple[int, ...]

    @property
    def stops_nesting(self) -> bool:
        """Whether it can forbid user namespaces in the sandbox (0.8 and later)."""
        return self.version >= (0, 8)

    @property
    def sizes_tmpfs(self) -> bool:
        """Whether it can limit the size of /tmp (0.7 and later)."""
        return self.version >= (0, 7)

    def isolation(self, host_name: str = HOST_NAME) -> list[str]:
        """Return the options that shut the sandbox off from the host."""
        nesting = ["--disable-userns"] if self.stops_nesting else []
        return [
            *NAMESPACES,
            *nesting,
            *("--uid", str(UID), "--gid", str(UID), "--hostname", host_name),
            *("--die-with-parent", "--cap-drop", "ALL"),
        ]

    def check(self) -> None:
        """Run something in a sandbox made of the host's own files. Raises HostError if it fails."""
        import subprocess

        argv = [self.path, *self.isolation(), "--ro-bind", "/", "/", *PROC]
        tried = subprocess.run(
            [*argv, "--dev", "/dev", "/bin/sh", "-c", ":"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        if tried.returncode != 0:
            raise sandbox_failed(tried.stderr)


def find_bubblewrap() -> Bubblewrap:
    """Return the bubblewrap of this machine. Raises HostError where there is none."""
    import shutil
    import subprocess

    path = shutil.which("bwrap")
    if path is None:
        raise not_installed()
    said = subprocess.run([path, "--version"], capture_output=True, text=True, check=False).stdout
    return Bubblewrap(path, tuple(map(int, re.findall(r"\d+", said)[:3])))


def not_installed() -> HostError:
    """Return the error of a machine without bubblewrap."""
    return HostError("bubblewrap (bwrap) is not installed", _ABSENT)


def command_line(
    bubblewrap: Bubblewrap,
    root: Path,
    workspace: Workspace,
    env: Mapping[str, str],
    command: Sequence[str],
    *,
    terminal: bool = False,
    tmp_bytes: int | None = None,
    host_name: str = HOST_NAME,
    shown: Mapping[str, str] = NOTHING_MORE,
) -> list[str]:
    """Return the whole command line; with `terminal` the command keeps the user's terminal.

    `shown` are further files of the host and where they stand in the sandbox.

    It is to be started with the workspace's `seccomp` file open as descriptor `GIVEN`.
    """
    argv = [bubblewrap.path, *bubblewrap.isolation(host_name)]
    if not terminal:
        # without a session of its own, it could type into the user's terminal (TIOCSTI)
        argv.append("--new-session")
    argv += ["--seccomp", str(GIVEN), "--ro-bind", str(root), "/", *PROC, "--dev", "/dev"]
    if tmp_bytes is not None and bubblewrap.sizes_tmpfs:
        argv += ["--size", str(tmp_bytes)]
    argv += ["--perms", "1777", "--tmpfs", "/tmp"]
    argv += ["--bind", str(workspace.io), "/bn", "--bind", str(workspace.build), WORK]
    for name in workspace.mounts:
        argv += ["--ro-bind", str(workspace.path / "in" / name), f"{WORK}/{name}"]
    for here, there in shown.items():
        argv += ["--ro-bind", here, there]
    argv += ["--chdir", WORK, "--clearenv"]
    for name, value in sorted(env.items()):
        argv += ["--setenv", name, value]
    return [*argv, "--", *command]


def sandbox_failed(said: str) -> HostError:
    """Return the error for a sandbox that could not be set up; `said` is what bubblewrap wrote."""
    last = (said.strip().splitlines() or ["bwrap failed without a word"])[-1]
    words = last.removeprefix("bwrap: ")
    return HostError(f"bubblewrap cannot make a sandbox: {words}", _FORBIDDEN)
