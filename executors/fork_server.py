"""The fork server: the one program inside the wall, making the cells in which actions run.

Run by `wall.py` as a script of its own (`python -I -S`), in one bubblewrap for many actions, so
that it imports little and stays small: every start waits for it, and a fork costs what its parent
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

    server ─▶ {"pid"}
    cell ─▶ {"ready": True} or {"error"}            waits for an action; first: the cell is made
    bn   ─▶ {"command", "env", "mounts", "rlimits"}
    cell ─▶ {"exit_code", "cpu_seconds", "peak_memory"}
    server ─▶ {"gone", …} and the end               the cell and all that ran in it are no more

bn ends a cell, and what runs in it, by shutting down its side of the channel for writing.
"""

from __future__ import annotations

import _socket  # `socket` and `signal` load what takes longer than all the rest
import ctypes
import errno
import fcntl
import marshal
import os
import resource
import select
import struct
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NoReturn

MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_BIND, MS_REC = 1, 2, 4, 8, 4096, 16384
MS_NOATIME = 1024
CLONE_NEWNS, CLONE_NEWIPC, CLONE_NEWPID, CLONE_NEWNET = 0x20000, 0x8000000, 0x20000000, 0x40000000
MNT_DETACH = 2
PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_CAPBSET_DROP, PR_SET_NO_NEW_PRIVS = 1, 4, 24, 38
PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL = 47, 4
CAPABILITY_VERSION_3 = 0x20080522
LAST_CAPABILITY = 63
RESOURCES = 16
SIOCSIFFLAGS, IFF_UP = 0x8914, 1
SIGKILL, SIGNALS = 9, 64
PR_SET_SECCOMP, SECCOMP_MODE_FILTER = 22, 2
SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_SPEC_ALLOW = 1, 4

NEW_ROOT = "/n"
CANNOT_RUN = 127

COUNTERS = ("dev", "netstat", "snmp", "snmp6")
"""Files of /proc/self/net that differ once anything was sent, received or refused."""

library = ctypes.CDLL(None, use_errno=True)


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
            for number in range(1, SIGNALS):
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


class Cell:
    """The namespaces, the root and the mounts in which actions run, one after another."""

    def __init__(self, request: dict[str, Any], channel: _socket.socket) -> None:
        """Make it around this process. Raises OSError."""
        self.channel = channel
        self.tmp_options = f",size={request['tmp_bytes']}" if request["tmp_bytes"] else ""
        name = request["workspace"]
        self.last_pid: int | None = None
        try:  # noqa: SIM105
            self.last_pid = os.open("/proc/sys/kernel/ns_last_pid", os.O_WRONLY | os.O_CLOEXEC)
        except OSError:
            pass  # a kernel without it: see `renew`
        os.umask(0o022)
        for limit, soft, hard in request["rlimits"]:
            resource.setrlimit(getattr(resource, limit), (soft, hard))
        check(library.unshare(CLONE_NEWNS | CLONE_NEWIPC), "unshare")
        bind(request["root"], NEW_ROOT)
        mount("proc", f"{NEW_ROOT}/proc", "proc", MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC)
        bind("/dev", f"{NEW_ROOT}/dev", MS_REC)
        options = "newinstance,ptmxmode=0666,mode=620"
        mount("devpts", f"{NEW_ROOT}/dev/pts", "devpts", MS_NOSUID | MS_NOEXEC, options)
        bind(f"/w/{name}/io", f"{NEW_ROOT}/bn")
        bind(f"/w/{name}/build", f"{NEW_ROOT}/build")
        self.log = os.open(f"/w/{name}/log", os.O_PATH | os.O_CLOEXEC)
        # inputs are bound from here; what is mounted over it, /tmp, hides it from the action
        bind(f"/r/{name}/in", f"{NEW_ROOT}/tmp")
        self.inputs = os.open(f"{NEW_ROOT}/tmp", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        os.chdir(NEW_ROOT)
        check(library.pivot_root(b".", b"."), "pivot_root")
        check(library.umount2(b".", MNT_DETACH), "umount of the wall")
        os.chdir("/build")
        sys.path.clear()
        sys.meta_path.clear()  # nothing is imported from what an action may have brought
        self.scratch = {"/tmp": self.tmp_options, "/dev/shm": ""}
        self.marks = {path: self.mount_scratch(path) for path in self.scratch}
        self.network: list[int] = []
        self.enter_network()
        library.prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)
        renounce()
        forbid(request["filter"])
        self.attributes = attributes()

    def serve(self) -> NoReturn:
        """Run actions until bn closes the channel or this cell cannot be made as new again."""
        send(self.channel, {"ready": True})
        while True:
            request = receive(self.channel)
            if request is None:
                os._exit(0)
            for name in request["mounts"]:
                bind(f"/proc/self/fd/{self.inputs}/{name}", f"/build/{name}")
            send(self.channel, self.run(request))
            self.renew()
            send(self.channel, {"ready": True})

    def run(self, request: dict[str, Any]) -> dict[str, Any]:
        """Run one command to its end and leave nothing running; return how it ended."""
        used: list[resource.struct_rusage] = []
        code = CANNOT_RUN
        log = os.open(f"/proc/self/fd/{self.log}", os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
        null = os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)
        try:
            start = fork if request["rlimits"] else spawn
            command = start(request, ((null, 0), (log, 1), (log, 2)))
        except OSError as error:
            os.write(log, cannot_run(request["command"][0], error))
        else:
            while True:
                pid, status, usage_of = os.wait4(-1, 0)
                used.append(usage_of)
                if pid == command:
                    break
            code = os.waitstatus_to_exitcode(status)
        finally:
            os.close(log)
            os.close(null)
        try:
            os.kill(-1, SIGKILL)
            while True:
                used.append(os.wait4(-1, 0)[2])
        except (ProcessLookupError, ChildProcessError):
            pass  # nothing is left
        return {"exit_code": code if code >= 0 else 128 - code, **usage(*used)}

    def renew(self) -> None:
        """Make sure that the next action finds all as the first one did; ends where it cannot.

        What can be left behind without a process: System V and POSIX IPC, files in the private
        file systems, what the network counts, and changes to this very process by its like.
        """
        if self.last_pid is None:
            os._exit(1)
        os.pwrite(self.last_pid, b"1", 0)
        check(library.unshare(CLONE_NEWIPC), "unshare")
        for path, before in self.marks.items():
            if marks(path) != before:
                check(library.umount2(path.encode(), MNT_DETACH), f"umount of {path}")
                self.marks[path] = self.mount_scratch(path)
        if self.counters() != self.unused:
            self.enter_network()
        if attributes() != self.attributes:
            os._exit(1)

    def mount_scratch(self, path: str) -> tuple[object, ...]:
        """Mount an empty private file system and return its marks."""
        flags = MS_NOSUID | MS_NODEV | MS_NOATIME
        mount("tmpfs", path, "tmpfs", flags, f"mode=1777{self.scratch[path]}")
        os.utime(path, ns=(0, 0))
        return marks(path)

    def enter_network(self) -> None:
        """Enter a new network namespace with the loopback up, and nothing else."""
        for descriptor in self.network:
            os.close(descriptor)
        check(library.unshare(CLONE_NEWNET), "unshare")
        any_socket = _socket.socket(_socket.AF_INET, _socket.SOCK_DGRAM)
        fcntl.ioctl(any_socket, SIOCSIFFLAGS, struct.pack("16sH14x", b"lo", IFF_UP))
        any_socket.close()
        self.network = []
        for name in COUNTERS:
            if os.path.exists(f"/proc/self/net/{name}"):
                self.network.append(os.open(f"/proc/self/net/{name}", os.O_RDONLY | os.O_CLOEXEC))
        self.unused = self.counters()

    def counters(self) -> list[bytes]:
        """Return what the network namespace has counted."""
        return [os.pread(descriptor, 1 << 16, 0) for descriptor in self.network]


def marks(path: str) -> tuple[object, ...]:
    """Return what tells whether anybody has changed an empty directory."""
    status = os.stat(path)
    return (status.st_mode, status.st_mtime_ns, os.listdir(path), os.listxattr(path))


def attributes() -> tuple[object, ...]:
    """Return what a process of the same user may change of this one."""
    return (
        [resource.getrlimit(number) for number in range(RESOURCES)],
        os.sched_getaffinity(0),
        os.sched_getscheduler(0),
        os.getpriority(os.PRIO_PROCESS, 0),
    )


Streams = tuple[tuple[int, int], ...]
"""Descriptors here, and what they are to be in the command."""


def spawn(request: dict[str, Any], streams: Streams) -> int:
    """Start the command of a request and return its id. Raises OSError where it cannot be run."""
    argv, env = request["command"], request["env"]
    name = argv[0]
    places = [""] if "/" in name else [f"{at or '.'}/" for at in env.get("PATH", "").split(":")]
    actions = [(os.POSIX_SPAWN_DUP2, *stream) for stream in streams]
    denied: OSError | None = None
    for place in places:
        try:
            return os.posix_spawn(place + name, argv, env, file_actions=actions, setsid=True)
        except (FileNotFoundError, NotADirectoryError):
            continue
        except PermissionError as error:
            denied = error
    raise denied or OSError(errno.ENOENT, os.strerror(errno.ENOENT))


def fork(request: dict[str, Any], streams: Streams) -> int:
    """Start the command of a request with resource limits of its own and return its id."""
    pid = os.fork()
    if pid:
        return pid
    try:
        os.setsid()
        for here, there in streams:
            os.dup2(here, there)
        for limit, soft, hard in request["rlimits"]:
            resource.setrlimit(getattr(resource, limit), (soft, hard))
        os.execvpe(request["command"][0], request["command"], request["env"])
    except OSError as error:
        os.write(2, cannot_run(request["command"][0], error))
    finally:
        os._exit(CANNOT_RUN)


def cannot_run(name: str, error: OSError) -> bytes:
    """Return what the log says of a command that could not be started."""
    return f"bn: cannot run {name}: {error.strerror}\n".encode()


def renounce() -> None:
    """See to it that a command has no capability and gets none: none passes an exec from here, as
    the user is not the root of this user namespace, and the bounding set is empty."""
    check(library.prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0), "ambient capabilities")
    header = struct.pack("Ii", CAPABILITY_VERSION_3, 0)
    sets = ctypes.create_string_buffer(24)
    check(library.capget(header, sets), "capget")
    low, high = struct.unpack_from("2I", sets, 0), struct.unpack_from("2I", sets, 12)
    kept = struct.pack("6I", *low, 0, *high, 0)
    check(library.capset(header, kept), "capset")
    check(library.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "no_new_privs")


def forbid(program: bytes) -> None:
    """Install a seccomp filter (an array of `struct sock_filter`) for good.

    By seccomp(2), as prctl(2) would make older kernels slow everything down (speculative stores).
    """
    number = {"x86_64": 317, "aarch64": 277}.get(os.uname().machine)
    code = ctypes.create_string_buffer(program)
    given = struct.pack("H6xP", len(program) // 8, ctypes.addressof(code))
    if number is not None:
        made = library.syscall(
            number, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_SPEC_ALLOW, given
        )
    else:
        made = library.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, given, 0, 0)
    check(made, "seccomp")


def usage(*used: resource.struct_rusage) -> dict[str, float]:
    """Return the processor time (seconds) and the largest memory (bytes) of processes."""
    return {
        "cpu_seconds": sum(one.ru_utime + one.ru_stime for one in used),
        "peak_memory": 1024 * max((one.ru_maxrss for one in used), default=0),
    }


def send(channel: _socket.socket, message: dict[str, Any]) -> None:
    """Send one message."""
    data = marshal.dumps(message)
    channel.sendall(struct.pack("=I", len(data)) + data)


def receive(channel: _socket.socket) -> dict[str, Any] | None:
    """Wait for one message; None where there will be no more."""
    data = channel.recv(65536)
    while len(data) < 4 or len(data) < 4 + struct.unpack_from("=I", data)[0]:
        more = channel.recv(1 << 20)
        if not more:
            return None
        data += more
    message: dict[str, Any] = marshal.loads(data[4:])
    return message


def bind(source: str, target: str, flags: int = 0) -> None:
    """Show `source` at `target` as well, writable or not as it is."""
    mount(source, target, None, MS_BIND | flags)


def mount(source: str, target: str, kind: str | None, flags: int, options: str = "") -> None:
    """mount(2); raises OSError with the target's name."""
    encoded = kind.encode() if kind else None
    done = library.mount(
        os.fsencode(source), os.fsencode(target), encoded, flags, options.encode() or None
    )
    check(done, f"mount on {target.removeprefix(NEW_ROOT)}")


def check(result: int, what: str) -> None:
    """Raise OSError for a system call that gave -1."""
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


if __name__ == "__main__":
    main()
