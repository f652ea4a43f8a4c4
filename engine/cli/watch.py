"""`bn watch`: a process in the background that makes an up-to-date build independent of size."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Final

import click

from engine.cli import start
from engine.watch.ask import talk
from store.errors import OK, HostError, InputError, host_error
from store.where import default_store

READY_SECONDS: Final = 10
"""The time that a watcher has to get ready, to tell its status, or to end."""


@click.command()
@click.option("--foreground", is_flag=True, help="Watch until interrupted.")
@click.option("--stop", is_flag=True, help="End the watcher.")
@click.option("--status", is_flag=True, help="Say what is watched.")
@click.option(
    "--idle",
    type=click.FloatRange(0, min_open=True),
    default=12.0,
    show_default=True,
    metavar="HOURS",
    help="End when nobody has asked for so long.",
)
@click.option("--no-warm", "cold", is_flag=True, help="Keep no process ready for builds.")
@click.option("--json", "as_json", is_flag=True, help="Machine-readable on stdout.")
def command(
    foreground: bool, stop: bool, status: bool, idle: float, cold: bool, as_json: bool
) -> int:
    """Watch the files of the store's recent builds, so that bn build need not look at them, and
    keep a process ready for builds that have something to do.

    To end it, however, costs only time.
    """
    if foreground + stop + status > 1:
        raise click.UsageError("--foreground, --stop and --status exclude each other")
    store = default_store()
    if stop:
        return _stop(store)
    if status:
        return _show(store, as_json)
    if foreground:
        _serve(store, idle, not cold)
        return OK
    if running := _status(store):
        _say(as_json, {"process": running["process"]}, "a watcher runs already")
        return OK
    process = _start(store, idle, cold)
    _say(as_json, {"process": process}, f"watching (process {process}); bn watch --stop ends it")
    return OK


def _serve(store: Path, idle: float, warm: bool) -> None:
    from engine.watch.service import Service

    if not (store / "format").exists():
        raise InputError(f"{store}: there is no store yet", "build something first")

    def ready() -> None:
        sys.stderr.write("watching\n")
        sys.stderr.flush()

    try:
        Service(store, idle * 3600, warm).run(ready)
    except OSError as error:
        raise host_error(error, "cannot watch") from error


def _start(store: Path, idle: float, cold: bool) -> int:
    """Start a watcher in the background and return its process once it answers."""
    program = [sys.executable, "-I", "-S", start.__file__, "watch", "--foreground"]
    server = subprocess.Popen(
        [*program, "--idle", str(idle), *(["--no-warm"] if cold else [])],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env={**os.environ, "BN_STORE": str(store)},
        cwd="/",
        start_new_session=True,
    )
    assert server.stderr
    with server.stderr:
        said = server.stderr.readline().decode(errors="replace").strip()
        if said == "watching":
            return server.pid
        hint = server.stderr.readline().decode(errors="replace").strip()
    server.wait(READY_SECONDS)
    if running := _status(store):  # another one was faster
        return int(running["process"])
    raise HostError(said.removeprefix("error: ") or "the watcher ended", hint[len("hint: ") :])


def _stop(store: Path) -> int:
    running = _status(store)
    if running is None:
        _note("no watcher runs")
        return OK
    with contextlib.suppress(OSError):
        talk(str(store), b"q", READY_SECONDS)
    deadline = time.monotonic() + READY_SECONDS
    while _status(store) is not None:
        if time.monotonic() > deadline:
            process = running["process"]
            raise HostError(f"the watcher, process {process}, does not end", f"kill {process}")
        time.sleep(0.01)
    _note("the watcher has ended")
    return OK


def _show(store: Path, as_json: bool) -> int:
    status = _status(store)
    if as_json:
        sys.stdout.write(json.dumps({"running": status is not None, **(status or {})}, indent=2))
        sys.stdout.write("\n")
        return OK
    if status is None:
        _note("no watcher runs; bn watch starts one")
        return OK
    memory = status["memory"] / 2**20
    used = f"{status['watches']} of {status['most_watches']} watches"
    lines = [f"process {status['process']}, {memory:.0f} MiB, {used}"]
    if warm := status["warm"]:
        lines.append(_ready(warm))
    if (measuring := status["benchmark"])["running"]:
        lines.append("measuring what is due (bn benchmark --due)")
    elif measuring["looks"] or measuring["broken_off"]:
        counts = f"{measuring['looks']} times, {measuring['broken_off']} broken off for builds"
        lines.append(f"looked after what is due to be measured {counts}")
    for one in status["records"]:
        why = f" ({one['why']})" if one["why"] else ""
        lines.append(f"{one['directory']}: {one['state']}{why}")
        counts = f"{one['files']} files, {one['events']} events, {one['overflows']} overflows"
        lines.append(f"    {counts}, asked {one['questions']} times")
    sys.stdout.write("".join(f"{line}\n" for line in lines))
    return OK


def _ready(warm: dict[str, Any]) -> str:
    """Return the line on the process that is ready for builds."""
    if warm["process"] is None:
        where = "none is ready for builds"
    else:
        where = f"process {warm['process']} ready for builds, {warm['memory'] / 2**20:.0f} MiB"
    early = f" ({warm['early']} of them worked out before)" if warm["early"] else ""
    counts = f"{warm['handed']} handed over{early}, {warm['refused']} refused"
    return f"{where}, {counts}" + (f" ({warm['why']})" if warm["why"] else "")


def _status(store: Path) -> dict[str, Any] | None:
    """Return what the store's watcher tells of itself, None where none answers."""
    try:
        said = json.loads(talk(str(store), b"s", READY_SECONDS))
    except (OSError, ValueError):
        return None
    return said if isinstance(said, dict) else None


def _say(as_json: bool, document: dict[str, Any], text: str) -> None:
    if as_json:
        sys.stdout.write(json.dumps(document, indent=2) + "\n")
    else:
        _note(text)


def _note(text: str) -> None:
    sys.stderr.write(f"{text}\n")
