"""A cell: the namespaces, the root and the mounts in which actions run, one after another."""

from __future__ import annotations

import _socket
import ctypes
import errno
import fcntl
import os
import resource
import struct
import sys

from executors.behind.calls import (
    CAPABILITY_VERSION_3,
    CLONE_NEWIPC,
    CLONE_NEWNET,
    CLONE_NEWNS,
    IFF_UP,
    MNT_DETACH,
    MS_NOATIME,
    MS_NODEV,
    MS_NOEXEC,
    MS_NOSUID,
    MS_RDONLY,
    MS_REC,
    NEW_ROOT,
    PR_CAP_AMBIENT,
    PR_CAP_AMBIENT_CLEAR_ALL,
    PR_SET_DUMPABLE,
    PR_SET_NO_NEW_PRIVS,
    PR_SET_SECCOMP,
    RESOURCES,
    SECCOMP_FILTER_FLAG_SPEC_ALLOW,
    SECCOMP_MODE_FILTER,
    SECCOMP_SET_MODE_FILTER,
    SIGKILL,
    SIOCSIFFLAGS,
    bind,
    check,
    library,
    mount,
    receive,
    send,
    usage,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, NoReturn

CANNOT_RUN = 127

WALL = 0x40000000  # children of whatever kind

COUNTERS = ("dev", "netstat", "snmp", "snmp6")
"""Files of /proc/self/net that differ once anything was sent, received or refused."""


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
            if request["cpus"]:
                start = pinned(start)
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
            # who has no parent left in here is this process's child: without children there is
            # nobody to kill, and to look for them takes as long as the host has processes
            os.wait4(-1, os.WNOHANG | WALL)
            os.kill(-1, SIGKILL)
            while True:
                used.append(os.wait4(-1, WALL)[2])
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


def pinned(start: Callable[[dict[str, Any], Streams], int]) -> Callable[..., int]:
    """Return what starts the command of a request on its processors only; here nothing changes."""

    def started(request: dict[str, Any], streams: Streams) -> int:
        before = os.sched_getaffinity(0)
        os.sched_setaffinity(0, request["cpus"])
        try:
            return start(request, streams)
        finally:
            os.sched_setaffinity(0, before)

    return started


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
