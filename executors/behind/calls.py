"""Kernel calls for which Python has no names, and messages between processes."""

from __future__ import annotations

import _socket  # `socket` and `signal` load what takes longer than all the rest
import ctypes
import marshal
import os
import resource
import struct

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

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

library = ctypes.CDLL(None, use_errno=True)


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
