"""The fork server: the one program inside the wall, making the cells in which actions run.

Run by `wall.py` in a Python of its own (`-I -S`), in one bubblewrap for many actions, so that it
imports little and stays small: every start waits for it, and a fork costs what its parent
weighs. What it sees of the
host is /w and /r (the store's work directory, writable and read-only), /t (the roots), and what
Python needs. An action sees none of that: a cell's root is pivoted to one of the roots.

::

    bn ──control socket──▶ server ──fork, new namespaces──▶ cell: init of its pid namespace
    bn ◀═ a channel for each cell ═══════════════════════▶   └─ spawn ─▶ the command, pid 2

A cell runs one action after another. When a command has ended, the cell kills and reaps whatever
else runs in its namespace, and then makes sure that it is as it was when it was new; where it
cannot be, it ends. On its channel are messages of a length (4 bytes, native) and that much of
marshal(3)'s data, as both ends are the same Python::

    server ─▶ {"pid"}                               before or after the cell's first word
    cell ─▶ {"ready": True} or {"error"}            waits for an action; first: the cell is made
    bn   ─▶ {"command", "env", "mounts", "rlimits", "cpus"}
    cell ─▶ {"exit_code", "cpu_seconds", "peak_memory"}
    server ─▶ {"gone", …} and the end               the cell and all that ran in it are no more

bn ends a cell, and what runs in it, by shutting down its side of the channel for writing.
"""

from __future__ import annotations

import _socket
import marshal
import os
import select
import struct
import sys

from executors.behind.calls import (
    CLONE_NEWNS,
    CLONE_NEWPID,
    LAST_CAPABILITY,
    MS_NODEV,
    MS_NOEXEC,
    MS_NOSUID,
    NEW_ROOT,
    PR_CAPBSET_DROP,
    PR_SET_PDEATHSIG,
    SIGKILL,
    SIGNALS,
    check,
    library,
    mount,
    send,
    usage,
)
from executors.behind.cell import Cell

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NoReturn


def main() -> NoReturn:
    """Serve requests from the control socket (descriptor: first argument) until it is closed."""
    number = int(sys.argv[1])
    os.closerange(number + 1, 1 << 20)  # whatever bn was started with
    os.set_inheritable(number, False)
    control = _socket.socket(fileno=number)
    # A pid namespace that belongs to this user namespace: only then can new ones be entered from
    # it again and again. bubblewrap's own may belong to the one above.
    check(library.unshare(CLONE_NEWPID | CLONE_NEWNS), "unshare")
    server = os.fork()
    if server:
        control.close()
        os._exit(os.waitstatus_to_exitcode(os.waitpid(server, 0)[1]) & 0xFF)
    library.prctl(PR_SET_PDEATHSIG, SIGKILL)
    os.mkdir(NEW_ROOT)
    mount("proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC)
    with open("/proc/sys/user/max_user_namespaces", "w") as limit:
        limit.write("0")
    for capability in range(LAST_CAPABILITY + 1):
        library.prctl(PR_CAPBSET_DROP, capability, 0, 0, 0)
    control.sendall(b"ready\n")
    Server(control).serve()


class Server:
    """The loop: takes requests, makes cells, reports those that ended."""

    def __init__(self, control: _socket.socket) -> None:
        self.control = control
        self.own_pids = os.open("/proc/self/ns/pid", os.O_RDONLY | os.O_CLOEXEC)
        self.cells: dict[int, tuple[int, _socket.socket]] = {}
        """The process and the channel of each cell, by the descriptor of the process."""
        self.channels: dict[int, int] = {}
        """The processes of the cells by the descriptor of their channel."""
        self.poll = select.poll()
        self.poll.register(control, select.POLLIN)

    def serve(self) -> NoReturn:
        """Serve for ever; the end of the control connection ends the process and all cells."""
        while True:
            for descriptor, _ in self.poll.poll():
                if descriptor == self.control.fileno():
                    self.take()
                elif descriptor in self.cells:
                    self.bury(descriptor)
                elif descriptor in self.channels:
                    # bn has shut it down; the cell itself may have ended meanwhile
                    os.kill(self.channels.pop(descriptor), SIGKILL)
                    self.poll.unregister(descriptor)

    def take(self) -> None:
        """Take the request for one cell and make it."""
        data, ancillary, _, _ = self.control.recvmsg(65536, _socket.CMSG_SPACE(16 * 4))
        if not data:
            os._exit(0)
        handed = [
            descriptor
            for _, _, packed in ancillary
            for (descriptor,) in struct.iter_unpack("=i", packed[: len(packed) & ~3])
        ]
        for descriptor in handed:
            os.set_inheritable(descriptor, False)
        channel_fd, *entrances = handed
        channel = _socket.socket(fileno=channel_fd)
        check(library.setns(self.own_pids, CLONE_NEWPID), "setns")
        check(library.unshare(CLONE_NEWPID), "unshare")
        pid = os.fork()
        if pid == 0:
            self.become_cell(marshal.loads(data), channel, entrances)
        for descriptor in entrances:
            os.close(descriptor)
        process = os.pidfd_open(pid)
        self.cells[process] = (pid, channel)
        self.channels[channel_fd] = pid
        self.poll.register(process, select.POLLIN)
        self.poll.register(channel, select.POLLRDHUP)
        send(channel, {"pid": pid})

    def become_cell(
        self, request: dict[str, Any], channel: _socket.socket, entrances: list[int]
    ) -> NoReturn:
        """Turn this process, just forked, into a cell."""
        try:
            for number in range(1, SIGNALS + 1):
                library.signal(number, None)  # whatever bn was started with ignored
            self.control.close()
            for process, (_, other) in self.cells.items():
                os.close(process)
                other.close()
            os.close(self.own_pids)
            try:
                for entrance in entrances:
                    os.write(entrance, b"0")
                    os.close(entrance)
                cell = Cell(request, channel)
            except OSError as error:
                send(channel, {"error": str(error)})
                os._exit(1)
            cell.serve()
        finally:
            os._exit(1)

    def bury(self, process: int) -> None:
        """Report a cell that is gone: with it, all of its namespace is."""
        pid, channel = self.cells.pop(process)
        _, status, used = os.wait4(pid, 0)
        self.poll.unregister(process)
        os.close(process)
        if self.channels.pop(channel.fileno(), None):
            self.poll.unregister(channel)
        try:  # noqa: SIM105 contextlib takes long to load
            send(channel, {"gone": os.waitstatus_to_exitcode(status), **usage(used)})
        except OSError:
            pass  # bn has let go of it
        channel.close()
