"""The executor protocol: an `ExecutionRequest` goes in, an `Outcome` comes out.

Whatever goes wrong with the action itself (it fails, it runs too long, its outputs are not what was
declared) is in the `Outcome`. Only what is wrong with the machine or with bn is raised.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Final, Protocol

from executors.names import HOST_NAME as HOST_NAME
from executors.names import NAMESPACES as NAMESPACES
from executors.names import UID as UID
from store.cas import EPOCH
from store.digest import Digest
from store.objects import Action
from store.records import field, frozen

WORK: Final = "/build"
"""The working directory in the sandbox, with the inputs in it."""

OUT: Final = "/bn/out"
"""`$out`: where outputs are written, in the sandbox."""

DEPFILE: Final = "/bn/depfile"
"""Where an action with `depfile` writes what it read, in the sandbox."""

SHELL: Final = "/bin/sh"
"""The shell that scripts run with; it comes from a toolchain tree."""

HERMETIC: Final = "hermetic.1"
NATIVE: Final = "native.1"

BASE_ENV: Final[Mapping[str, str]] = {
    "HOME": "/tmp",
    "LANG": "C.UTF-8",
    "LC_ALL": "C.UTF-8",
    "PATH": "/usr/bin:/bin:/usr/sbin:/sbin",
    "PYTHONHASHSEED": "0",
    "SOURCE_DATE_EPOCH": str(EPOCH),
    "TERM": "dumb",
    "TMPDIR": "/tmp",
    "TZ": "UTC",
    "ZERO_AR_DATE": "1",
    "out": OUT,
}
"""The whole environment of an action, before the variables that its spec sets, but for PWD, which
is always the work directory. A change here is a change of `HERMETIC`'s version."""


@frozen
class Limits:
    """What an action may use: bytes of memory, seconds of wall and CPU time, processes, log bytes.

    None means no limit.
    """

    memory: int | None = None
    wall_seconds: float | None = 3600.0
    cpu_seconds: int | None = None
    processes: int | None = 4096
    log_bytes: int = 64 * 1024 * 1024


@frozen(kw_only=True)
class ExecutionRequest:
    """An action to run, and what does not change its outputs: limits, whether to keep its sandbox
    when it fails, the processors that it is pinned to (by number; none: not pinned), the node that
    it is placed on, and how many of that node's processors it holds. Where executions are begun
    before there are processors for them, `room` is how many there are; 0: there are enough."""

    action: Action
    label: str
    limits: Limits = field(factory=Limits)
    keep_failed: bool = False
    cpus: tuple[int, ...] = ()
    node: str = ""
    share: int = 1
    room: int = 0


class Status(StrEnum):
    """How an execution ended."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    """The command exited with another code than 0."""
    KILLED = "killed"
    """It was ended because of a limit (wall time, memory, log) or by a signal."""
    BAD_OUTPUTS = "bad outputs"
    """It exited with 0, but what it left is not what it declared or may not be kept."""
    LOST = "lost"
    """Its node dropped out with it or failed it, for no reason of the action: it may run again."""


@frozen(kw_only=True)
class Outcome:
    """What an execution gave.

    `outputs` (a tree) is there only on success; `log` is standard output and error together;
    `observed` are the input paths, relative to the work directory, that its depfile names;
    `reason` says in words why it did not succeed; `kept` is the directory of a failed sandbox that
    was kept. `wall_seconds` and `cpu_seconds` are durations, `peak_memory` is in bytes.
    """

    status: Status
    exit_code: int
    log: Digest
    outputs: Digest | None = None
    observed: tuple[str, ...] | None = None
    reason: str = ""
    kept: Path | None = None
    wall_seconds: float = 0.0
    cpu_seconds: float = 0.0
    peak_memory: int = 0


class Executor(Protocol):
    """Something that runs actions."""

    isolation: str
    """The value of `Action.isolation` that this executor gives."""

    async def execute(self, request: ExecutionRequest) -> Outcome:
        """Run one action to its end. On cancellation everything that it started is killed.

        Raises HostError where the machine cannot run it and MissingBlob where an input is gone.
        """
        ...

    def close(self) -> None:
        """End what it keeps running between actions."""
        ...
