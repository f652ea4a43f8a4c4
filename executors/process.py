"""One process tree: started, watched, and ended as a whole.

::

    spawn ── ends by itself ──────────────┐
      │                                   ├─ kill what is left ─ wait for all of it ─ Ended
      └─ over a limit, or cancelled ── kill
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import signal
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from executors.base import Limits
from executors.limits import Fence
from executors.pinning import pinned
from executors.waiting import closing, pause, readable, shielded
from store.errors import host_error
from store.records import field, frozen

if TYPE_CHECKING:
    import subprocess

WATCH_SECONDS: Final = 0.1
"""How often limits are looked at that the kernel does not enforce."""


@frozen(kw_only=True)
class Command:
    """What to start. `status` is where bubblewrap writes what became of the sandbox, `given` a file
    that is open as descriptor `GIVEN`; `strays` finds processes that left the tree, where nothing
    else contains them; `cpus` are the processors that it is pinned to, none for any."""

    argv: Sequence[str]
    env: Mapping[str, str]
    cwd: Path
    log: Path
    status: Path | None = None
    given: Path | None = None
    strays: Callable[[], Iterable[int]] = field(default=lambda: ())
    cpus: tuple[int, ...] = ()


@frozen
class Ended:
    """How a process tree ended: the exit code (128 + the number of the signal that killed it), the
    limit that it was over (in words, else empty), seconds of wall and CPU time, bytes of memory at
    the peak of its largest process."""

    exit_code: int
    exceeded: str
    wall_seconds: float
    cpu_seconds: float
    peak_memory: int


async def run(command: Command, limits: Limits, fence: Fence) -> Ended:
    """Run `command` to its end; nothing that it started is left when this returns or raises.

    Must be called in the main thread: a sandbox ends with the thread that started it. Raises
    HostError where it cannot be started.
    """
    started = time.monotonic()
    usage: list[resource.struct_rusage] = []
    try:
        process = _spawn(command, fence)
        try:
            exceeded = await _watch_process(process.pid, command, limits, fence)
            exceeded = exceeded or fence.overrun()
        finally:
            with shielded():
                _kill(process, command)
                await _bury(process, command, usage)
                await _end_strays(command)
    finally:
        with shielded():
            await fence.remove()
    code = process.returncode
    return Ended(
        exit_code=code if code >= 0 else 128 - code,
        exceeded=exceeded,
        wall_seconds=time.monotonic() - started,
        cpu_seconds=sum(part.ru_utime + part.ru_stime for part in usage),
        peak_memory=1024 * usage[-1].ru_maxrss,
    )


def read_status(path: Path) -> dict[str, int]:
    """Return what bubblewrap wrote into its status file: `child-pid`, and `exit-code` if the
    command was run and ended by itself."""
    found: dict[str, int] = {}
    for line in path.read_text().splitlines():
        with contextlib.suppress(ValueError):
            found |= json.loads(line)
    return found


def _spawn(command: Command, fence: Fence) -> subprocess.Popen[bytes]:
    import subprocess

    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
    with contextlib.ExitStack() as stack:
        try:
            log = os.open(command.log, flags, 0o600)
            stack.callback(os.close, log)
            argv = list(command.argv)
            handed: tuple[int, ...] = ()
            if command.status is not None:
                status = os.open(command.status, flags, 0o600)
                stack.callback(os.close, status)
                argv[1:1] = ["--json-status-fd", str(status)]
                handed = (status,)
            stack.enter_context(pinned(command.cpus))
            stack.enter_context(_ignoring_nothing())
            return subprocess.Popen(
                fence.wrap(argv, command.given),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=command.cwd,
                env=command.env,
                pass_fds=handed,
                start_new_session=True,
            )
        except OSError as error:
            raise host_error(error, "cannot start the action") from error


@contextlib.contextmanager
def _ignoring_nothing() -> Iterator[None]:
    """Have what is started now ignore no signal, whatever this process ignores: under nohup an
    action would find other ones than elsewhere. Handlers do not outlive an exec."""
    ignored = [one for one in signal.valid_signals() if signal.getsignal(one) is signal.SIG_IGN]
    for number in ignored:
        signal.signal(number, lambda *_: None)
    try:
        yield
    finally:
        for number in ignored:
            signal.signal(number, signal.SIG_IGN)


async def watch(
    descriptor: int,
    pid: Callable[[], int],
    log: Path,
    limits: Limits,
    fence: Fence,
    since: Callable[[], float | None],
) -> str:
    """Wait until `descriptor` is readable, which tells that the process tree below `pid` has ended;
    return the limit that it went over before, or nothing. `since` gives when it started (by
    `time.monotonic`), None before that."""
    while True:
        begun = since()
        if await readable(descriptor, _pause(limits, begun)):
            return ""
        if begun is None:
            continue
        if limits.wall_seconds is not None and time.monotonic() - begun > limits.wall_seconds:
            return f"ran longer than its {limits.wall_seconds:g} s"
        if os.stat(log).st_size > limits.log_bytes:
            return f"wrote a log of more than {limits.log_bytes} bytes"
        if exceeded := fence.exceeded(pid):
            return exceeded


async def _watch_process(pid: int, command: Command, limits: Limits, fence: Fence) -> str:
    """Watch a process that this one has started."""
    descriptor, begun = os.pidfd_open(pid), time.monotonic()
    try:
        return await watch(descriptor, lambda: pid, command.log, limits, fence, lambda: begun)
    finally:
        closing(descriptor)
        os.close(descriptor)


def _pause(limits: Limits, begun: float | None) -> float:
    if limits.wall_seconds is None or begun is None:
        return WATCH_SECONDS
    left = begun + limits.wall_seconds - time.monotonic()
    return min(WATCH_SECONDS, max(0.001, left))


def _kill(process: subprocess.Popen[bytes], command: Command) -> None:
    """Kill the process group, and the init of a sandbox, which takes everything in it along."""
    _signal(process.pid, os.killpg)
    if command.status is not None and command.status.exists():
        init = read_status(command.status).get("child-pid")
        if init is not None and _is_below(init, process.pid):
            _signal(init, os.kill)


async def _bury(
    process: subprocess.Popen[bytes], command: Command, usage: list[resource.struct_rusage]
) -> None:
    """Wait for the process and, in a sandbox, for its init; collect what they used."""
    _, status, used = await _wait(process.pid)
    process.returncode = os.waitstatus_to_exitcode(status)
    usage.append(used)
    if command.status is not None:
        init = read_status(command.status).get("child-pid")
        if init is not None:
            # bubblewrap may have waited for it already: then it is no child of ours
            with contextlib.suppress(ChildProcessError):
                _, _, used = await _wait(init)
                usage.append(used)
    # the rest of the process group, and bubblewrap's child if it had no time to say its number
    with contextlib.suppress(ChildProcessError):
        while True:
            if os.waitpid(-process.pid, os.WNOHANG)[0] == 0:  # noqa: ASYNC222 does not block
                await pause(0.001)


async def _wait(pid: int) -> tuple[int, int, resource.struct_rusage]:
    """Wait for a child that is dying or dead. Raises ChildProcessError if it is no child."""
    while True:
        ended = os.wait4(pid, os.WNOHANG)  # noqa: ASYNC222 does not block
        if ended[0] == pid:
            return ended
        descriptor = os.pidfd_open(pid)
        try:
            await readable(descriptor)
        finally:
            os.close(descriptor)


async def _end_strays(command: Command) -> None:
    """Kill the strays until there are none, and take leave of them."""
    ended: set[int] = set()
    while strays := list(command.strays()):
        ended.update(strays)
        for pid in strays:
            _signal(pid, os.kill)
        await pause(0.002)
    for pid in ended:
        with contextlib.suppress(ChildProcessError):
            os.waitpid(pid, os.WNOHANG)  # noqa: ASYNC222 does not block


def _is_below(pid: int, ancestor: int) -> bool:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    parent = int(stat.rpartition(")")[2].split()[1])
    return parent in (ancestor, os.getpid())


def _signal(pid: int, send: Callable[[int, int], None]) -> None:
    with contextlib.suppress(ProcessLookupError):
        send(pid, signal.SIGKILL)
