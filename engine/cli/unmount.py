"""`bn unmount`: end a mount of the store."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Final

import click

from engine.cli.options import json_option, note, print_json
from fuse.points import mounted_at, unmount
from store.errors import OK, HostError, InputError

END_SECONDS: Final = 10
"""The time that a server has to end once its mount is gone."""


@click.command()
@click.argument("directory", type=click.Path(path_type=Path), metavar="DIR")
@click.option("--lazy", is_flag=True, help="Also if it is in use: it goes when that ends.")
@json_option
def command(directory: Path, lazy: bool, as_json: bool) -> int:
    """Unmount the store from DIR; its server ends."""
    directory = _absolute(directory)
    point = mounted_at(directory)
    if point is None or point.server is None:
        raise InputError(f"{directory}: bn has mounted nothing there")
    unmount(directory, lazy=lazy)
    if not lazy:
        _wait_for(point.server)
    if as_json:
        print_json({"directory": str(directory), "server": point.server})
    else:
        note(f"unmounted {directory}")
    return OK


def _absolute(directory: Path) -> Path:
    """Return the absolute path; the mount itself, which may be dead, is not looked into."""
    if directory.name in ("", ".."):
        return Path(os.path.realpath(directory))
    return Path(os.path.realpath(directory.parent)) / directory.name


def _wait_for(server: int) -> None:
    """Wait until the server has ended. Raises HostError where it does not."""
    deadline = time.monotonic() + END_SECONDS
    while _runs(server):
        if time.monotonic() > deadline:
            raise HostError(f"the server, process {server}, does not end", f"kill {server}")
        time.sleep(0.01)


def _runs(server: int) -> bool:
    """Say whether the process is there and still is a server of ours, not a zombie."""
    try:
        status = Path(f"/proc/{server}/stat").read_text().rpartition(")")[2].split()[0]
        words = Path(f"/proc/{server}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return False
    return status != "Z" and b"mount" in words
