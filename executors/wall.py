"""The wall: one bubblewrap around a fork server, in which many actions run."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import trio

from executors import fork_server
from executors.base import Limits
from executors.bubblewrap import HOST_NAME, NAMESPACES, UID, Bubblewrap, sandbox_failed
from executors.descendants import host_pid
from executors.fork_server import NEW_ROOT
from executors.limits import Fence
from executors.process import Ended, watch
from executors.stage import Workspace
from store.errors import HostError

_SYSTEM = ("/usr", "/bin", "/lib", "/lib64", "/etc/ld.so.cache")
"""What of the host Python needs besides its prefix; the fork server sees it, no action does."""

_AGAIN = "run the build again, or with --executor bubblewrap"

STARTING_SECONDS = 20.0
ENDING_SECONDS = 5.0


class SetUpFailed(Exception):
    """The sandbox of an action could not be made, so its command did not start; says why."""


class Wall:
    """A running fork server behind bubblewrap, for workspaces in one directory."""

    def __init__(self, bubblewrap: Bubblewrap, work: Path, trees: Path) -> None:
        """Start it. Must be called in the main thread, as a sandbox ends with the thread that
        started it. Raises HostError where it cannot be made."""
        self.work = work
        self._control, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                [*_command(bubblewrap, work, trees), str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                env={},
                pass_fds=(theirs.fileno(),),
                start_new_session=True,
            )
        self._control.settimeout(STARTING_SECONDS)
        if self._control.recv(16) != b"ready\n":
            said = self._process.stderr.read().decode() if self._process.stderr else ""
            self.close()
            raise sandbox_failed(said)

    @property
    def alive(self) -> bool:
        """Whether the server still runs."""
        return self._process.poll() is None

    def close(self) -> None:
        """End the server, and with it whatever still runs in it."""
        self._control.close()
        try:
            self._process.wait(ENDING_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        # bubblewrap's init outlives it for a moment, and is ours then: see kernel.adopt_orphans
        with contextlib.suppress(ChildProcessError):
            while True:
                os.waitpid(-self._process.pid, 0)
        if self._process.stderr:
            self._process.stderr.close()

    async def run(
        self,
        root: Path,
        workspace: Workspace,
        env: Mapping[str, str],
        command: Sequence[str],
        limits: Limits,
        fence: Fence,
    ) -> Ended:
        """Run a command to its end; nothing that it started is left when this returns or raises.

        Raises SetUpFailed where its sandbox cannot be made, HostError where the server is gone.
        """
        started = time.monotonic()
        try:
            with self._send(root, workspace, env, command, limits, fence) as report:
                exceeded, ended = await self._watch(report, workspace, limits, fence)
                exceeded = exceeded or fence.overrun()
        finally:
            with trio.CancelScope(shield=True):
                await fence.remove()
        said = workspace.status.read_text() if workspace.status.exists() else ""
        if said and not exceeded:
            raise SetUpFailed(said)
        return Ended(
            exit_code=ended["exit_code"],
            exceeded=exceeded,
            wall_seconds=time.monotonic() - started,
            cpu_seconds=ended["cpu_seconds"],
            peak_memory=ended["peak_memory"],
        )

    def _send(
        self,
        root: Path,
        workspace: Workspace,
        env: Mapping[str, str],
        command: Sequence[str],
        limits: Limits,
        fence: Fence,
    ) -> socket.socket:
        """Hand a request to the server and return the socket on which it reports."""
        name = workspace.path.name
        request = {
            "command": list(command),
            "env": {**env, "PWD": "/build"},
            "mounts": list(workspace.mounts),
            "rlimits": fence.resource_limits(),
            "root": f"/t/{root.name}",
            "status": f"/w/{name}/status",
            "tmp_bytes": limits.memory,
            "workspace": name,
        }
        file = workspace.path / "request"
        file.write_text(json.dumps(request))
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        handed = [os.open(workspace.log, flags, 0o600)]
        report, theirs = socket.socketpair()
        handed.append(theirs.detach())
        try:
            handed += [os.open(path, os.O_WRONLY | os.O_CLOEXEC) for path in fence.entrances()]
            socket.send_fds(self._control, [f"/w/{name}/request".encode()], handed)
        except OSError as error:
            report.close()
            raise HostError(
                f"the sandbox server is gone: {error}", "run the build again"
            ) from error
        finally:
            for descriptor in handed:
                os.close(descriptor)
        report.setblocking(False)
        return report

    async def _watch(
        self, report: socket.socket, workspace: Workspace, limits: Limits, fence: Fence
    ) -> tuple[str, dict[str, Any]]:
        """Wait for the end of an action, and see to it; return the limit it went over, and how it
        ended."""
        lines = _Lines(report)
        exceeded, killed = "", True
        try:
            inner = (await lines.next())["pid"]
            exceeded = await watch(
                report.fileno(),
                lambda: host_pid(self._process.pid, inner),
                workspace.log,
                limits,
                fence,
            )
            killed = bool(exceeded)
        finally:
            with trio.CancelScope(shield=True):
                if killed:
                    report.shutdown(socket.SHUT_WR)
                ended = await lines.next()
                while "exit_code" not in ended:
                    ended = await lines.next()
        return exceeded, ended


def _command(bubblewrap: Bubblewrap, work: Path, trees: Path) -> list[str]:
    """Return the command line of the wall and the server in it, but for its last argument."""
    script = Path(fork_server.__file__)
    python = os.path.realpath(sys.executable)
    shown = [*_SYSTEM, sys.base_prefix]
    argv = [bubblewrap.path, *NAMESPACES, "--uid", str(UID), "--gid", str(UID)]
    argv += ["--hostname", HOST_NAME, "--die-with-parent", "--cap-add", "ALL"]
    for path in dict.fromkeys(shown):
        argv += ["--ro-bind-try", path, path]
    argv += ["--dev", "/dev", "--remount-ro", "/dev", "--bind", "/proc", "/proc"]
    argv += ["--dir", NEW_ROOT, "--ro-bind", str(script), "/fork_server.py"]
    argv += ["--bind", str(work), "/w", "--ro-bind", str(work), "/r", "--ro-bind", str(trees), "/t"]
    return [*argv, "--", python, "-I", "-S", "/fork_server.py"]


class _Lines:
    """The JSON lines that come over a socket."""

    def __init__(self, source: socket.socket) -> None:
        self._source = source
        self._buffer = b""

    async def next(self) -> dict[str, Any]:
        """Return the next one. Raises HostError where the server is gone."""
        while b"\n" not in self._buffer:
            try:
                data = self._source.recv(65536)
            except BlockingIOError:
                await trio.lowlevel.wait_readable(self._source)
                continue
            if not data:
                raise HostError("the sandbox server ended unexpectedly", _AGAIN)
            self._buffer += data
        line, _, self._buffer = self._buffer.partition(b"\n")
        found: dict[str, Any] = json.loads(line)
        return found
