"""The fork server: the one program inside the wall, giving each action namespaces of its own.

Run by `wall.py` as a script of its own (`python -I -S`), in one bubblewrap for many actions, so
that it imports little and stays small: a fork costs what its parent weighs. What it sees of the
host is /w and /r (the store's work directory, writable and read-only), /t (the roots), and what
Python needs. An action sees none of that: its root is pivoted to one of the roots before it starts.

::

    bn ──control socket──▶ server ──fork, new pid namespace──▶ init ──fork, exec──▶ the command
       ◀─report socket───  (waits)                             (mounts, pivots, drops, reaps)

A request is the path of a JSON file, sent with descriptors: the log, the report socket, and the
files of control groups to join. When its report socket is shut down by bn, the action is killed.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import json
import os
import resource
import select
import signal
import socket
import struct
import sys
from typing import Any, NoReturn

MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_BIND, MS_REC = 1, 2, 4, 8, 4096, 16384
CLONE_NEWNS, CLONE_NEWIPC, CLONE_NEWPID, CLONE_NEWNET = 0x20000, 0x8000000, 0x20000000, 0x40000000
MNT_DETACH = 2
PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_CAPBSET_DROP, PR_SET_NO_NEW_PRIVS = 1, 4, 24, 38
CAPABILITY_VERSION_3 = 0x20080522
LAST_CAPABILITY = 63
SIOCSIFFLAGS, IFF_UP = 0x8914, 1

NEW_ROOT = "/n"
CANNOT_RUN = 127

library = ctypes.CDLL(None, use_errno=True)


def main() -> NoReturn:
    """Serve requests from the control socket (descriptor: first argument) until it is closed."""
    control = socket.socket(fileno=int(sys.argv[1]))
    # A pid namespace that belongs to this user namespace: only then can new ones be entered from
    # it again and again. bubblewrap's own may belong to the one above.
    check(library.unshare(CLONE_NEWPID | CLONE_NEWNS), "unshare")
    server = os.fork()
    if server:
        control.close()
        os._exit(os.waitstatus_to_exitcode(os.waitpid(server, 0)[1]) & 0xFF)
    library.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    mount("proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC)
    with open("/proc/sys/user/max_user_namespaces", "w") as limit:
        limit.write("0")
    for capability in range(LAST_CAPABILITY + 1):
        library.prctl(PR_CAPBSET_DROP, capability, 0, 0, 0)
    control.sendall(b"ready\n")
    Server(control).serve()


class Server:
    """The loop: takes requests, starts actions, reports those that ended."""

    def __init__(self, control: socket.socket) -> None:
        self.control = control
        self.own_pids = os.open("/proc/self/ns/pid", os.O_RDONLY | os.O_CLOEXEC)
        self.actions: dict[int, socket.socket] = {}
        self.poll = select.poll()
        wake, self.woken = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self.wake = wake
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(self.woken, warn_on_full_buffer=False)
        self.poll.register(wake, select.POLLIN)
        self.poll.register(control, select.POLLIN)

    def serve(self) -> NoReturn:
        """Serve for ever; the end of the control connection ends the process and all actions."""
        while True:
            for descriptor, _ in self.poll.poll():
                if descriptor == self.control.fileno():
                    self.take()
                elif descriptor == self.wake:
                    os.read(self.wake, 4096)
                    self.reap()
                else:
                    self.kill(descriptor)

    def take(self) -> None:
        """Take one request and start its action."""
        data, handed, _, _ = socket.recv_fds(self.control, 4096, 16)
        if not data:
            os._exit(0)
        for descriptor in handed:
            os.set_inheritable(descriptor, False)
        log, report_fd, *entrances = handed
        report = socket.socket(fileno=report_fd)
        check(library.setns(self.own_pids, CLONE_NEWPID), "setns")
        check(library.unshare(CLONE_NEWPID), "unshare")
        pid = os.fork()
        if pid == 0:
            act_as_init(data.decode(), log, entrances)
        for descriptor in (log, *entrances):
            os.close(descriptor)
        self.actions[pid] = report
        self.poll.register(report, select.POLLIN)
        report.sendall(json.dumps({"pid": pid}).encode() + b"\n")

    def kill(self, descriptor: int) -> None:
        """Kill the action whose report socket bn has shut down."""
        for pid, report in self.actions.items():
            if report.fileno() == descriptor:
                os.kill(pid, signal.SIGKILL)
                self.poll.unregister(descriptor)

    def reap(self) -> None:
        """Report every action whose init is gone: with it, all of its namespace is."""
        while True:
            try:
                pid, status, used = os.wait4(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            report = self.actions.pop(pid, None)
            if report is None:
                continue
            code = os.waitstatus_to_exitcode(status)
            ended = {
                "exit_code": code if code >= 0 else 128 - code,
                "cpu_seconds": used.ru_utime + used.ru_stime,
                "peak_memory": used.ru_maxrss * 1024,
            }
            with contextlib.suppress(KeyError):  # it was killed: see `kill`
                self.poll.unregister(report)
            with contextlib.suppress(OSError):
                report.sendall(json.dumps(ended).encode() + b"\n")
            report.close()


def act_as_init(path: str, log: int, entrances: list[int]) -> NoReturn:
    """Make the sandbox around this process, start the command in it, and reap until it ends."""
    code = 1
    try:
        with open(path, "rb") as file:
            request = json.load(file)
        status = os.open(request["status"], os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            for entrance in entrances:
                os.write(entrance, b"0")
            make_sandbox(request)
        except OSError as error:
            os.write(status, str(error).encode())
            os._exit(1)
        os.dup2(log, 1)
        os.dup2(log, 2)
        os.dup2(os.open("/dev/null", os.O_RDONLY), 0)
        os.closerange(3, 1 << 20)
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        library.prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)
        command = os.fork()
        if command == 0:
            become(request)
        drop_capabilities()
        while True:
            pid, ended = os.wait()
            if pid == command:
                code = os.waitstatus_to_exitcode(ended)
                break
    finally:
        os._exit(code if code >= 0 else 128 - code)


def make_sandbox(request: dict[str, Any]) -> None:
    """Give this process the namespaces, the root and the mounts of an action."""
    check(library.unshare(CLONE_NEWNS | CLONE_NEWIPC | CLONE_NEWNET), "unshare")
    raise_loopback()
    bind(request["root"], NEW_ROOT)
    mount("proc", f"{NEW_ROOT}/proc", "proc", MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC)
    bind("/dev", f"{NEW_ROOT}/dev", MS_REC)
    mount("tmpfs", f"{NEW_ROOT}/dev/shm", "tmpfs", MS_NOSUID | MS_NODEV, "mode=1777")
    options = "newinstance,ptmxmode=0666,mode=620"
    mount("devpts", f"{NEW_ROOT}/dev/pts", "devpts", MS_NOSUID | MS_NOEXEC, options)
    size = f",size={request['tmp_bytes']}" if request["tmp_bytes"] else ""
    mount("tmpfs", f"{NEW_ROOT}/tmp", "tmpfs", MS_NOSUID | MS_NODEV, f"mode=1777{size}")
    name = request["workspace"]
    bind(f"/w/{name}/io", f"{NEW_ROOT}/bn")
    bind(f"/w/{name}/build", f"{NEW_ROOT}/build")
    for mounted in request["mounts"]:
        bind(f"/r/{name}/in/{mounted}", f"{NEW_ROOT}/build/{mounted}")
    os.chdir(NEW_ROOT)
    check(library.pivot_root(b".", b"."), "pivot_root")
    check(library.umount2(b".", MNT_DETACH), "umount of the wall")
    os.chdir("/build")


def become(request: dict[str, Any]) -> NoReturn:
    """Turn this process into the action's command."""
    env, command = request["env"], request["command"]
    try:
        os.setsid()
        os.umask(0o022)
        for name, soft, hard in request["rlimits"]:
            resource.setrlimit(getattr(resource, name), (soft, hard))
        drop_capabilities()
        library.prctl(PR_SET_DUMPABLE, 1, 0, 0, 0)
        for number in range(1, signal.NSIG):
            if signal.getsignal(number) in (signal.SIG_IGN, signal.default_int_handler):
                signal.signal(number, signal.SIG_DFL)
        os.execvpe(command[0], command, env)
    except OSError as error:
        os.write(2, f"bn: cannot run {command[0]}: {error.strerror}\n".encode())
    finally:
        os._exit(CANNOT_RUN)


def drop_capabilities() -> None:
    """Give up all capabilities; the bounding set is empty already."""
    header = struct.pack("Ii", CAPABILITY_VERSION_3, 0)
    check(library.capset(header, bytes(24)), "capset")
    check(library.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "no_new_privs")


def raise_loopback() -> None:
    """Bring the loopback interface of this network namespace up."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        fcntl.ioctl(any_socket, SIOCSIFFLAGS, struct.pack("16sH14x", b"lo", IFF_UP))


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
