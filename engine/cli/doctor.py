"""`bn doctor`: what this machine has and lacks, and how to mend it."""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator

import click
import trio
from attrs import asdict, frozen

from engine.cli.options import json_option, open_store, out, print_json
from engine.units import show_size
from executors.base import ExecutionRequest, Status
from store.cas import empty_tree
from store.errors import OK, BnError, HostError
from store.objects import Action
from store.where import default_store

LITTLE_SPACE = 2 * 10**9
"""Bytes: a C toolchain and one project need about that."""

WRITTEN = 1_790_000_000
"""A clock before this time (2026-09-21, seconds since 1970) is wrong: bn is younger."""


@frozen
class Finding:
    """What one check found: `state` is ok, warn or fail; `mend` says what to do about it."""

    check: str
    state: str
    message: str
    mend: str = ""


@click.command()
@json_option
def command(as_json: bool) -> int:
    """Check sandbox, limits, FUSE, store, toolchains, disk and clock; say how to mend each."""
    findings = [finding for check in CHECKS for finding in check()]
    failed = any(finding.state == "fail" for finding in findings)
    if as_json:
        print_json([asdict(finding) for finding in findings])
    else:
        for finding in findings:
            out(f"{finding.state:4}  {finding.check}: {finding.message}")
            if finding.mend:
                out(f"      {finding.mend}")
    return HostError.exit_code if failed else OK


def check_python() -> Iterator[Finding]:
    """Check the interpreter."""
    version = ".".join(map(str, sys.version_info[:3]))
    yield Finding("python", "ok", version)


def check_sandbox() -> Iterator[Finding]:
    """Check that an action really runs in the sandbox, up to the point of finding its program."""
    if not shutil.which("bwrap"):
        mend = "apt-get install bubblewrap"
        yield Finding("sandbox", "fail", "bubblewrap is not installed", mend)
        return
    try:
        with open_store() as store:
            from executors.sandbox import Sandbox

            root = empty_tree(store.cas)
            action = Action(command=("/bin/true",), input_root=root, toolchains=(root,))
            request = ExecutionRequest(action=action, label="doctor")
            outcome = trio.run(Sandbox(store).execute, request)
            # The root is empty: a sandbox that works says that there is no such program.
            if outcome.status is Status.SUCCEEDED:
                yield Finding("sandbox", "fail", "the host's files can be seen inside")
            else:
                yield Finding("sandbox", "ok", "bubblewrap runs actions, without the host's files")
    except BnError as error:
        yield Finding("sandbox", "fail", error.message, error.hint)


def check_limits() -> Iterator[Finding]:
    """Check which limits on actions can be enforced here."""
    from executors.limits import enforcement

    for name, how in enforcement():
        state = "ok" if how else "warn"
        mend = "" if how else "run bn where cgroups can be written, or as an ordinary user"
        yield Finding(f"limit on {name}", state, how or "not enforced", mend)


def check_fuse() -> Iterator[Finding]:
    """Check what mounting the store needs."""
    lacking = []
    if not os.access("/dev/fuse", os.R_OK | os.W_OK):
        lacking.append("/dev/fuse cannot be opened")
    if not shutil.which("fusermount3"):
        lacking.append("fusermount3 is not installed")
    if importlib.util.find_spec("pyfuse3") is None:
        lacking.append("pyfuse3 is not installed")
    if lacking:
        packages = "fuse3 libfuse3-dev pkg-config gcc python3-dev"
        mend = f"apt-get install {packages}; then pip install 'buildnet[fuse]'"
        yield Finding("fuse", "warn", "; ".join(lacking), mend)
    else:
        yield Finding("fuse", "ok", "the store could be mounted")


def check_store() -> Iterator[Finding]:
    """Check that the store can be opened and written, and the room on its disk."""
    try:
        root = default_store()
        with open_store() as store:
            store.cas.put_bytes(b"doctor\n")
    except BnError as error:
        yield Finding("store", "fail", error.message, error.hint)
        return
    yield Finding("store", "ok", str(root))
    free = shutil.disk_usage(root).free
    state = "ok" if free > LITTLE_SPACE else "warn"
    mend = "" if state == "ok" else "free some space, or move the store with BN_STORE"
    yield Finding("disk", state, f"{show_size(free)} free for the store", mend)


def check_toolchains() -> Iterator[Finding]:
    """Check that the machine's own packages can be imported as toolchains."""
    if not shutil.which("dpkg-query"):
        mend = 'name the programs themselves: [toolchain] paths = ["…"]'
        yield Finding("toolchains", "warn", "this is no Debian: debian = […] cannot work", mend)
        return
    lacking = [name for name in ("gcc", "make") if not shutil.which(name)]
    if lacking:
        names = " ".join(lacking)
        mend = f"apt-get install {names} libc6-dev"
        yield Finding("toolchains", "warn", f"not installed: {names}", mend)
    else:
        yield Finding("toolchains", "ok", "dpkg's packages can be imported; gcc and make are there")


def check_clock() -> Iterator[Finding]:
    """Check the clock, and that the store's file system agrees with it."""
    now = time.time()
    if now < WRITTEN:
        yield Finding("clock", "warn", f"{time.ctime(now)} cannot be", "set the clock")
        return
    try:
        probe = default_store() / "tmp" / f"{os.getpid()}-clock"
        probe.write_bytes(b"")
        difference = abs(probe.stat().st_mtime - now)
        probe.unlink()
    except (OSError, HostError):
        yield Finding("clock", "warn", "cannot be compared with the store's: there is none")
        return
    if difference > 2:
        mend = "bring both machines' clocks together (NTP)"
        yield Finding("clock", "warn", f"the store's is {difference:.0f} s off", mend)
    else:
        yield Finding("clock", "ok", "the store's file system agrees with it")


def check_benchmarks() -> Iterator[Finding]:
    """Check whether what was measured of this machine is as young as it is meant to be."""
    from engine.cli.benchmark import due_here

    try:
        lines = due_here()
    except BnError as error:
        yield Finding("benchmarks", "warn", error.message, error.hint)
        return
    if lines:
        mend = "bn benchmark --due, when the machine is idle; bn watch does it by itself"
        yield Finding("benchmarks", "ok", f"due: {'; '.join(lines)}", mend)
    else:
        yield Finding("benchmarks", "ok", "none is due")


CHECKS: tuple[Callable[[], Iterator[Finding]], ...] = (
    check_python,
    check_sandbox,
    check_limits,
    check_fuse,
    check_store,
    check_toolchains,
    check_clock,
    check_benchmarks,
)
