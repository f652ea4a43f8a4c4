"""`bn mount`: the store as a file system."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Final

import click

from engine.cli.options import json_option, note, open_store, print_json
from fuse.points import is_stale, mounted_at, unmount
from store.digest import digest_bytes
from store.errors import OK, BnError, HostError, InputError, host_error
from store.where import default_store

READY_SECONDS: Final = 30
"""The time that a mount in the background has to get ready."""


@click.command()
@click.argument("directory", type=click.Path(path_type=Path), metavar="DIR")
@click.option("--foreground", is_flag=True, help="Serve until it is unmounted or interrupted.")
@click.option("--allow-other", is_flag=True, help="Let other users see it as well.")
@click.option("--ready-to", type=int, hidden=True, help="Descriptor to say on that all is ready.")
@json_option
def command(
    directory: Path, foreground: bool, allow_other: bool, ready_to: int | None, as_json: bool
) -> int:
    """Show the store at DIR, read-only: artifacts/NAME, trees/DIGEST, blobs/DIGEST, builds/ID.

    DIR is made where it is not there. The mount is served in the background; bn unmount ends it.
    """
    check_host(allow_other)
    directory = prepare(directory)
    if foreground:
        _serve(directory, allow_other, ready_to)
        return OK
    server, log = start(directory, allow_other)
    if as_json:
        print_json({"directory": str(directory), "server": server, "log": str(log)})
    else:
        note(f"mounted at {directory}; bn unmount {directory} ends it")
    return OK


def check_host(allow_other: bool = False) -> None:
    """Raise HostError where this machine lacks what mounting needs."""
    if importlib.util.find_spec("pyfuse3") is None:
        packages = "fuse3 libfuse3-dev pkg-config gcc python3-dev"
        mend = f"apt-get install {packages}; then pip install 'buildnet[fuse]'"
        raise HostError("pyfuse3 is not installed", mend)
    try:
        os.close(os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC))
    except OSError as error:
        hint = (
            "load it with modprobe fuse; a container needs --device /dev/fuse --cap-add SYS_ADMIN"
        )
        raise HostError(
            f"/dev/fuse cannot be opened: {(error.strerror or '').lower()}", hint
        ) from None
    if os.geteuid() != 0 and shutil.which("fusermount3") is None:
        raise HostError("fusermount3 is not installed", "apt-get install fuse3")


def prepare(directory: Path) -> Path:
    """Make the directory ready to be mounted at, and return its absolute path.

    One that a dead server left is unmounted first. Raises InputError where it cannot be used.
    """
    directory = Path(os.path.realpath(directory.parent)) / directory.name
    if directory.name in ("", ".."):
        directory = Path(os.path.realpath(directory))
    point = mounted_at(directory)
    if is_stale(directory):
        if point is None or point.server is None:
            raise HostError(f"{directory}: what is mounted there is dead, and not of bn")
        unmount(directory, lazy=True)
    elif point is not None and point.server is not None:
        raise InputError(f"{directory}: is mounted already", f"bn unmount {directory}")
    try:
        directory.mkdir(parents=True, exist_ok=True)
        if any(os.scandir(directory)):
            raise InputError(f"{directory}: is not empty", "name a new or an empty directory")
    except (FileExistsError, NotADirectoryError):
        raise InputError(f"{directory}: is not a directory", "name a new directory") from None
    except OSError as error:
        raise host_error(error, "cannot mount there") from error
    return Path(os.path.realpath(directory))


def start(directory: Path, allow_other: bool) -> tuple[int, Path]:
    """Start a server in the background; return its process and its log when it is ready.

    Raises HostError where it does not get ready.
    """
    log = _log_path(directory)
    options = ["--allow-other"] if allow_other else []
    program = [sys.executable, "-I", "-m", "engine.cli.main", "mount", "--foreground", *options]
    reading, writing = os.pipe()
    try:
        with open(log, "wb") as output, open(os.devnull, "rb") as nothing:
            server = subprocess.Popen(
                [*program, "--ready-to", str(writing), "--", str(directory)],
                stdin=nothing,
                stdout=output,
                stderr=output,
                pass_fds=[writing],
                start_new_session=True,
            )
    finally:
        os.close(writing)
    try:
        said = _said(reading)
    finally:
        os.close(reading)
    if said is None or "error" in said:
        with contextlib.suppress(ProcessLookupError):
            server.terminate()
        server.wait(READY_SECONDS)
        raise _failure(directory, log, said)
    return server.pid, log


def _said(reading: int) -> dict[str, str] | None:
    """Return what a server says when it is ready or has failed; None if it says nothing."""
    import select

    data = b""
    deadline = time.monotonic() + READY_SECONDS
    while (left := deadline - time.monotonic()) > 0:
        if select.select([reading], [], [], left)[0]:
            if not (more := os.read(reading, 65536)):
                break
            data += more
    try:
        said = json.loads(data)
    except ValueError:
        return None
    return said if isinstance(said, dict) else None


def _failure(directory: Path, log: Path, said: dict[str, str] | None) -> HostError:
    if said is not None:
        return HostError(said["error"], said["hint"])
    last = log.read_text(errors="replace").strip().rpartition("\n")[2]
    why = f"the server ended: {last}" if last else "the server did not get ready"
    return HostError(f"{directory}: cannot mount: {why}", f"see {log}")


def _serve(directory: Path, allow_other: bool, ready_to: int | None) -> None:
    """Serve the store at `directory` until it is unmounted."""

    def say(message: dict[str, str]) -> None:
        nonlocal ready_to
        if ready_to is not None:
            os.write(ready_to, json.dumps(message).encode())
            os.close(ready_to)
            ready_to = None

    try:
        from engine.catalogue import StoreCatalogue
        from fuse.mount import serve
        from fuse.tree_view import view

        with open_store() as store:
            top = view(store.cas, StoreCatalogue(store))
            os.chdir("/")  # no directory is kept busy
            serve(top, directory, store.root, allow_other=allow_other, ready=lambda: say({}))
    except BnError as error:
        say({"error": error.message, "hint": error.hint})
        raise


def _log_path(directory: Path) -> Path:
    """Return the file in the store that what a server says goes to."""
    place = default_store() / "mounts"
    try:
        place.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise host_error(error, "cannot write the mount's log") from error
    return place / f"{digest_bytes(os.fsencode(directory))[:16]}.log"
