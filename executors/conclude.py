"""The end of an execution: an ended process and its workspace → an `Outcome`."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Final

from executors.base import DEPFILE, ExecutionRequest, Limits, Outcome, Status
from executors.capture import BadOutputs, capture
from executors.depfile import Observer
from executors.limits import require_space
from executors.process import Ended
from executors.stage import Workspace
from store.digest import Digest
from store.store import Store

CANNOT_RUN: Final = 127
"""The exit code of a command that could not be started, as shells have it."""


def conclude(
    store: Store, request: ExecutionRequest, workspace: Workspace, ended: Ended, observer: Observer
) -> Outcome:
    """Take the log, the outputs and the observed inputs into the store and say how it ended.

    Where it failed and that was asked for, the workspace is kept under another name. Raises
    HostError where the disk is full.
    """
    place = str(workspace.path)
    log = store.cas.put_object(_log(f"{place}/log", request.limits))
    status, reason = _status(ended, request.limits)
    outputs: Digest | None = None
    observed: tuple[str, ...] | None = None
    if status is Status.SUCCEEDED:
        try:
            if request.action.depfile:
                observed = _observed(observer, workspace.depfile)
            outputs = capture(store.cas, f"{place}/io/out", request.action.outputs)
        except BadOutputs as error:
            status, reason, observed = Status.BAD_OUTPUTS, str(error), None
    if status is not Status.SUCCEEDED:
        require_space(workspace.path)
    keep = request.keep_failed and status is not Status.SUCCEEDED
    return Outcome(
        status=status,
        exit_code=ended.exit_code,
        log=log,
        outputs=outputs,
        observed=observed,
        reason=reason,
        kept=workspace.keep(request.label) if keep else None,
        wall_seconds=ended.wall_seconds,
        cpu_seconds=ended.cpu_seconds,
        peak_memory=ended.peak_memory,
    )


def _status(ended: Ended, limits: Limits) -> tuple[Status, str]:
    if ended.exceeded:
        return Status.KILLED, ended.exceeded
    if ended.exit_code == 0:
        return Status.SUCCEEDED, ""
    name = _signal_name(ended.exit_code - 128)
    if name == "SIGXCPU":
        return Status.KILLED, f"used more than its {limits.cpu_seconds} s of CPU time"
    if name:
        return Status.KILLED, f"was killed by {name}"
    if ended.exit_code == CANNOT_RUN:
        return Status.FAILED, "exited with 127: the command, or one that it runs, was not found"
    return Status.FAILED, f"exited with {ended.exit_code}"


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return ""


def _log(path: str, limits: Limits) -> bytes:
    if not (size := os.stat(path).st_size):
        return b""
    with open(path, "rb") as file:
        return file.read(min(size, limits.log_bytes))


def _observed(observer: Observer, depfile: Path) -> tuple[str, ...] | None:
    try:
        return observer.observed(depfile)
    except FileNotFoundError:
        raise BadOutputs(f"it was to say what it read, but wrote no depfile ({DEPFILE})") from None
