"""What a process has from the one that started it, taken from a client by a worker.

Each thing is compared, and the worker refuses where it differs (`differs`), or taken over
(`adopt`). What belongs to neither is in engine/README.md. Most of it the kernel tells of the
client; so little is left that the client has to say (`Asked`).
"""

from __future__ import annotations

import contextlib
import fcntl
import io
import os
import resource
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import psutil
from attrs import frozen

from engine.watch.warm import OWN_FILES, interpreter

STATUS: Final = (
    *("Uid", "Gid", "Groups", "CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs"),
    *("Seccomp", "Seccomp_filters", "Speculation_Store_Bypass", "SpeculationIndirectBranch"),
    *("Mems_allowed_list", "THP_enabled", "untag_mask", "x86_Thread_features"),
)
"""What has to be the same in /proc/PID/status (proc(5))."""

FILES: Final = (
    *("cgroup", "attr/current", "loginuid", "sessionid", "coredump_filter", "oom_score_adj"),
)
"""What has to be the same in /proc/PID."""

LOADED: Final = (
    *("LD_", "GLIBC_TUNABLES", "MALLOC_", "GCONV_PATH", "OPENSSL_", "LANG", "LC_"),
    *("LMDB_", "PSUTIL_", "SETUPTOOLS_"),
)
"""How variables begin that are read while a program or a module is loaded; they have to be the
same."""

UNSETTABLE: Final = (signal.SIGKILL, signal.SIGSTOP)
NODES: Final = Path("/sys/devices/system/node/node1")
_LIMITS: Final = sorted(
    {value for name, value in vars(resource).items() if name.startswith("RLIMIT_")}
)


class Refused(Exception):
    """The worker cannot become as the client is; the argument says why not."""


@frozen
class Asked:
    """A request: what the client says of itself. Descriptors are by the client's numbers."""

    interpreter: bytes
    own: tuple[bytes, ...]
    numbers: tuple[int, ...]
    paths: tuple[str, ...]
    arguments: tuple[str, ...]
    environment: dict[bytes, bytes]


def parsed(packet: bytes) -> Asked:
    """Take a request apart. Raises Refused where it is none."""
    fields = packet.split(b"\0")
    try:
        first = 1 + len(OWN_FILES)
        last = first + 3 + int(fields[first + 2])
        words = [word.decode("utf-8", "surrogateescape") for word in fields[first + 1 : last]]
        pairs = (field.partition(b"=") for field in fields[last:])
        return Asked(
            interpreter=fields[0],
            own=tuple(fields[1:first]),
            numbers=tuple(map(int, fields[first].split(b","))),
            paths=tuple(words[0].split(":")) if words[0] else (),
            arguments=tuple(words[2:]),
            environment={name: value for name, _, value in pairs},
        )
    except (ValueError, IndexError) as error:
        raise Refused("no request") from error


def differs(asked: Asked, client: int) -> str | None:
    """Return what of the client, a process, is not as here and cannot be made so; None where
    nothing is. Raises OSError where the kernel does not tell."""
    return (
        _other_python(asked)
        or _other_rights(client)
        or _other_files(asked, client)
        or _other_places(client)
        or _scheduled(client)
        or _loaded(asked.environment)
    )


def adopt(
    asked: Asked, client: int, received: Sequence[int], own: Sequence[int]
) -> tuple[int, ...]:
    """Become as the client is. `received` are descriptors: the current directory, and one for each
    of `asked.numbers`; `own` are those that this process keeps, whose new numbers are returned. All
    others are closed.

    Raises Refused and OSError where that cannot be.
    """
    found = _status(f"/proc/{client}/status")
    os.fchdir(received[0])
    numbers = _place(asked.numbers, received[1:], own)
    os.umask(int(found["Umask"], 8))
    os.sched_setaffinity(0, os.sched_getaffinity(client))
    nice = os.getpriority(os.PRIO_PROCESS, client)
    if nice != os.getpriority(os.PRIO_PROCESS, 0):
        os.setpriority(os.PRIO_PROCESS, 0, nice)
    _limit(client)
    _adopt_environment(asked.environment)
    _adopt_signals(int(found["SigIgn"], 16), int(found["SigBlk"], 16))
    sys.argv = list(asked.arguments)
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        stream = _stream(number, name, getattr(sys, name))
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)
    return numbers


def _status(path: str) -> dict[str, str]:
    lines = Path(path).read_text(errors="replace").splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


def _other_python(asked: Asked) -> str | None:
    if asked.interpreter != interpreter():
        return "interpreter"
    further = set(asked.paths) - {os.path.dirname(asked.arguments[0])} - set(sys.path)
    return "sys.path" if further else None


def _other_rights(client: int) -> str | None:
    found, ours = _status(f"/proc/{client}/status"), _status("/proc/self/status")
    if found["TracerPid"] != "0":
        return "traced"
    if int(found["SigBlk"], 16) & (1 << signal.SIGTERM - 1):
        return "SIGTERM is blocked"
    return next((name for name in STATUS if found.get(name) != ours.get(name)), None)


def _other_files(asked: Asked, client: int) -> str | None:
    for name, value in zip(OWN_FILES, asked.own, strict=True):
        if _said(f"/proc/self/{name}") != value:
            return name
    for name in FILES:
        if _said(f"/proc/{client}/{name}") != _said(f"/proc/self/{name}"):
            return name
    return None


def _other_places(client: int) -> str | None:
    for name in os.listdir(f"/proc/{client}/ns"):
        if os.readlink(f"/proc/{client}/ns/{name}") != os.readlink(f"/proc/self/ns/{name}"):
            return f"namespace {name}"
    for name in ("root", "exe"):
        if not os.path.samefile(f"/proc/{client}/{name}", f"/proc/self/{name}"):
            return name
    if NODES.exists() and b" default" not in _first_line(f"/proc/{client}/numa_maps"):
        return "memory policy"
    return None


def _said(path: str) -> bytes | None:
    """Return what a file of /proc holds, None where this kernel has none."""
    try:
        return Path(path).read_bytes().strip()
    except OSError:
        return None


def _first_line(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.readline()


def _scheduled(client: int) -> str | None:
    """Return what of the client's scheduling is neither as here nor taken over."""
    if os.sched_getscheduler(client) != os.sched_getscheduler(0):
        return "scheduling policy"
    if os.sched_getparam(client).sched_priority != os.sched_getparam(0).sched_priority:
        return "scheduling priority"
    if psutil.Process(client).ionice() != psutil.Process().ionice():
        return "priority of input and output"
    group, ours = _said(f"/proc/{client}/autogroup"), _said("/proc/self/autogroup")
    if group and ours and group.split()[-1] != ours.split()[-1]:
        return "niceness of the session"
    stack = resource.prlimit(client, resource.RLIMIT_STACK)  # threads' stacks are made by it
    return None if stack == resource.getrlimit(resource.RLIMIT_STACK) else "stack size"


def _loaded(environment: dict[bytes, bytes]) -> str | None:
    for name in environment.keys() | os.environb.keys():
        if os.fsdecode(name).startswith(LOADED) and environment.get(name) != os.environb.get(name):
            return os.fsdecode(name)
    return None


def _place(numbers: Sequence[int], received: Sequence[int], own: Sequence[int]) -> tuple[int, ...]:
    """Give received descriptors the client's numbers; return those that `own` ones have now. All
    others are closed."""
    if len(numbers) != len(received):
        raise Refused("descriptors are missing")
    free = max(numbers) + 1
    kept = [fcntl.fcntl(one, fcntl.F_DUPFD_CLOEXEC, free) for one in (*own, *received)]
    for name in os.listdir("/proc/self/fd"):
        if int(name) not in kept:
            with contextlib.suppress(OSError):  # the one that lists them
                os.close(int(name))
    for number, one in zip(numbers, kept[len(own) :], strict=True):
        os.dup2(one, number)
        os.close(one)
    return tuple(kept[: len(own)])


def _limit(client: int) -> None:
    for number in _LIMITS:
        limits = resource.prlimit(client, number)
        if limits != resource.getrlimit(number):
            try:
                resource.setrlimit(number, limits)
            except ValueError as error:
                raise Refused("resource limits") from error


def _adopt_environment(environment: dict[bytes, bytes]) -> None:
    os.environ.clear()
    for name, value in environment.items():
        os.environb[name] = value
    time.tzset()


def _adopt_signals(ignored: int, blocked: int) -> None:
    for number in signal.valid_signals() - set(UNSETTABLE):
        handler = signal.SIG_IGN if ignored & (1 << number - 1) else signal.SIG_DFL
        if number == signal.SIGINT and handler is signal.SIG_DFL:
            signal.signal(number, signal.default_int_handler)
        else:
            signal.signal(number, handler)
    mask = {number for number in signal.valid_signals() if blocked & (1 << number - 1)}
    signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def _stream(number: int, name: str, like: io.TextIOWrapper) -> io.TextIOWrapper:
    """Return a standard stream as Python makes it at its start."""
    raw = io.FileIO(number, "rb" if number == 0 else "wb", closefd=False)
    raw.name = f"<{name}>"
    buffered = io.BufferedReader(raw) if number == 0 else io.BufferedWriter(raw)
    by_line = number == 2 or raw.isatty()
    stream = io.TextIOWrapper(buffered, like.encoding, like.errors, "\n", line_buffering=by_line)
    stream.mode = "r" if number == 0 else "w"  # type: ignore[misc]
    return stream
