"""Files and directories of this machine, named one by one, as a toolchain."""

from __future__ import annotations

import os
import posixpath
import stat
from collections.abc import Iterable
from pathlib import Path

from engine.toolchains.layout import Layout, Move
from store.errors import InputError, host_error


def take_paths(layout: Layout, paths: Iterable[str], base: Path) -> list[str]:
    """Put `FROM` or `FROM=TO` of each of `paths` into `layout`; return all that was looked at.

    FROM is absolute or relative to `base`; a link that it names is followed. TO is absolute in the
    tree and where FROM is absolute it may be left out. Directories are taken with all that is in
    them; links in them are kept where they lead to something in the tree. Shared libraries that a
    program needs are not found by themselves: they have to be named too. Raises InputError.
    """
    seen: list[str] = []
    for text in paths:
        source, place = _parse(text, base)
        real = layout.host.real(source)
        seen.append(source)
        status = layout.host.lstat(real)
        if status is None:
            raise InputError(f"no such file or directory: {source}", "paths may be FROM=TO")
        move = Move(real, place or layout.host.canonical(source))
        if stat.S_ISDIR(status.st_mode):
            seen += _take_directory(layout, real, move)
        elif stat.S_ISREG(status.st_mode):
            layout.take(real, move=move)
            seen.append(real)
        else:
            raise InputError(f"{source}: not a file or a directory")
    return seen


def _parse(text: str, base: Path) -> tuple[str, str | None]:
    source, equals, place = text.rpartition("=")
    if not equals or not place.startswith("/"):
        source, place = text, ""
    if not source or (equals and posixpath.normpath(place or "/x") == "/"):
        raise InputError(f"{text!r} is not of the form FROM or FROM=TO")
    if not place and not os.path.isabs(source):
        raise InputError(
            f"{text!r}: a relative path needs a place in the tree",
            f'as "{text}=/usr/bin/{posixpath.basename(source)}"',
        )
    absolute = os.path.normpath(os.path.join(base.absolute(), source))
    return absolute, posixpath.normpath(place) if place else None


def _take_directory(layout: Layout, directory: str, move: Move) -> list[str]:
    seen = [directory]
    try:
        with os.scandir(layout.host.at(directory)) as listing:
            found = sorted(listing, key=lambda item: item.name)
    except OSError as error:
        raise host_error(error, "cannot read the directory") from error
    for item in found:
        path = posixpath.join(directory, item.name)
        if item.is_dir(follow_symlinks=False):
            seen += _take_directory(layout, path, move)
        else:
            layout.take(path, move=move)
            seen.append(path)
    return seen
