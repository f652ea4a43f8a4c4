"""The wall: one bubblewrap around a fork server, in whose cells many actions run."""

from __future__ import annotations

import contextlib
import marshal
import os
import socket
import struct
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import trio

from executors import fork_server
from executors.bubblewrap import HOST_NAME, NAMESPACES, UID, Bubblewrap, sandbox_failed
from executors.descendants import host_pid
from executors.fork_server import NEW_ROOT
from store.errors import HostError

_SYSTEM = ("/usr", "/bin", "/lib", "/lib64", "/etc/ld.so.cache")
"""What of the host Python needs besides its prefix; the fork server sees it, no action does."""

_AGAIN = "run the build again, or with --executor bubblewrap"

STARTING_SECONDS = 20.0
ENDING_SECONDS = 5.0


class SetUpFailed(Exception):
    """A sandbox could not be made, so no command started in it; says why."""


class Wall:
    """A running fork server behind bubblewrap, for workspaces in one directory."""

    def __init__(self, bubblewrap: Bubblewrap, work: Path, trees: Path) -> None:
        """Start it; `ready` waits for it. Must be called in the main thread, as a sandbox ends with
        the thread that started it."""
        self.work = work
        self._control, theirs = socket.socketpair(type=socket.SOCK_SEQPACKET)
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
        self._started = False

    def ready(self) -> None:
        """Wait until it makes cells. Raises HostError where it cannot."""
        if self._started:
            return
        self._control.settimeout(STARTING_SECONDS)
        with contextlib.suppress(OSError):
            self._started = self._control.recv(16) == b"ready\n"
        if not self._started:
            self._process.kill()
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

    async def make(self, request: Mapping[str, Any], entrances: list[Path]) -> Channel:
        """Have a cell made that joins the control groups of `entrances`; return its channel.

        Raises SetUpFailed where it cannot be made, HostError where the server is gone.
        """
        ours, theirs = socket.socketpair()
        handed = [theirs.detach()]
        try:
            handed += [os.open(path, os.O_WRONLY | os.O_CLOEXEC) for path in entrances]
            socket.send_fds(self._control, [marshal.dumps(dict(request))], handed)
        except OSError as error:
            ours.close()
            raise HostError(f"the sandbox server is gone: {error}", _AGAIN) from error
        finally:
            for descriptor in handed:
                os.close(descriptor)
        channel = Channel(ours)
        try:
            channel.inner = (await channel.next())["pid"]
            first = await channel.next()
        except BaseException:
            channel.close()
            raise
        if "error" in first:
            channel.close()
            raise SetUpFailed(first["error"])
        return channel

    def host_pid(self, channel: Channel) -> int:
        """Return the host's id of a cell's first process."""
        return host_pid(self._process.pid, channel.inner)


class Channel:
    """The messages to and from one cell; `inner` is its process id behind the wall."""

    inner: int

    def __init__(self, ours: socket.socket) -> None:
        ours.setblocking(False)
        self._socket = ours
        self._buffer = b""

    def fileno(self) -> int:
        """Return the descriptor that is readable when there is a message."""
        return self._socket.fileno()

    async def send(self, message: Mapping[str, Any]) -> None:
        """Send a message. Raises OSError where the cell is gone."""
        data = marshal.dumps(dict(message))
        data = struct.pack("=I", len(data)) + data
        while data:
            try:
                data = data[self._socket.send(data) :]
            except BlockingIOError:
                await trio.lowlevel.wait_writable(self._socket)

    async def next(self) -> dict[str, Any]:
        """Return the next message. Raises HostError where the server is gone."""
        while (message := self.poll()) is None:
            await trio.lowlevel.wait_readable(self._socket)
        return message

    def poll(self) -> dict[str, Any] | None:
        """Return the next message if it is there. Raises HostError where the server is gone."""
        while True:
            if len(self._buffer) >= 4:
                end = 4 + struct.unpack_from("=I", self._buffer)[0]
                if len(self._buffer) >= end:
                    data, self._buffer = self._buffer[4:end], self._buffer[end:]
                    message: dict[str, Any] = marshal.loads(data)
                    return message
            try:
                data = self._socket.recv(65536)
            except BlockingIOError:
                return None
            except ConnectionResetError:
                data = b""
            if not data:
                raise HostError("the sandbox server ended unexpectedly", _AGAIN)
            self._buffer += data

    async def end(self) -> dict[str, Any]:
        """End the cell and all that runs in it; return what it used when it is gone.

        Raises HostError where the server is gone.
        """
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_WR)
        while True:
            message = await self.next()
            if "gone" in message:
                return message

    def close(self) -> None:
        """Let go of the cell: it ends without being waited for."""
        self._socket.close()


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
