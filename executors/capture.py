"""Capture: what an action left in `$out` → the store, checked and normalised."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from typing import Final

from store.cas import Cas, empty_tree
from store.digest import Digest
from store.errors import IntegrityError, host_error
from store.objects import Directory, Entry, Link
from store.records import frozen
from store.trees import build_tree, stays_inside

_DEEPEST: Final = 100
_FAULTS_SHOWN: Final = 5
_SET_ID: Final = stat.S_ISUID | stat.S_ISGID
_KINDS: Final = {
    stat.S_IFIFO: "a fifo",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device node",
    stat.S_IFBLK: "a device node",
}


class BadOutputs(Exception):
    """What an action left may not be kept; says why, in words."""


@frozen
class _Found:
    """Something in `$out`: its path there, and what lstat(2) says of it."""

    path: str
    status: os.stat_result

    @property
    def mode(self) -> int:
        return self.status.st_mode


def capture(cas: Cas, out: str, declared: Sequence[str]) -> Digest:
    """Move what is in `out` into the store and return its tree's digest.

    Nothing may write to `out` any more. Raises BadOutputs where it is not just what `declared`
    names or holds what no tree can (then nothing was moved), HostError where the disk is full.
    """
    try:
        status = os.lstat(out)
        if not stat.S_ISDIR(status.st_mode):
            raise BadOutputs("$out is not a directory any more")
        found = list(_walk(out, "", status))
        only = found[0] if len(found) == 1 and declared == (found[0].path,) else None
        if only is None or not stat.S_ISREG(only.mode) or only.mode & _SET_ID:
            faults = [*_undeclared_or_missing(found, set(declared)), *_unkeepable(out, found)]
            if faults:
                raise BadOutputs(_in_words(faults))
        kept = {item.path: _keep(cas, out, item) for item in _leaves(found)}
        return build_tree(cas, kept, new=True)
    except FileNotFoundError:
        raise BadOutputs("$out is gone") from None
    except OSError as error:
        raise host_error(error, "cannot capture outputs") from error
    except IntegrityError as error:
        raise BadOutputs(error.message) from None


def _walk(root: str, relative: str, status: os.stat_result) -> Iterator[_Found]:
    """Yield everything below a directory under `root`, sorted, a directory before what is in it."""
    directory = f"{root}/{relative}" if relative else root
    if stat.S_IMODE(status.st_mode) != 0o755:
        # an action may lock its own directories; entries are moved out of them
        os.chmod(directory, 0o755)
    if relative.count("/") >= _DEEPEST:
        raise BadOutputs(f"outputs are nested deeper than {_DEEPEST} directories")
    with os.scandir(directory) as listing:
        entries = sorted(listing, key=lambda entry: entry.name)
    for entry in entries:
        path = f"{relative}/{entry.name}" if relative else entry.name
        found = _Found(path, entry.stat(follow_symlinks=False))
        yield found
        if stat.S_ISDIR(found.mode):
            yield from _walk(root, path, found.status)


def _undeclared_or_missing(found: list[_Found], declared: set[str]) -> Iterator[str]:
    there = {item.path for item in found}
    for path in sorted(declared - there):
        yield f"declared output {path!r} is missing"
    expected = {parent for path in declared for parent in _parents(path)}
    for item in found:
        inside = any(parent in declared for parent in (item.path, *_parents(item.path)))
        is_parent = item.path in expected and stat.S_ISDIR(item.mode)
        if (
            not inside
            and not is_parent
            and not any(p in there - expected for p in _parents(item.path))
        ):
            yield f"output {_shown(item.path)} was not declared"


def _unkeepable(out: str, found: list[_Found]) -> Iterator[str]:
    for item in found:
        name = _shown(item.path)
        try:
            item.path.encode()
        except UnicodeEncodeError:
            yield f"output {name} has a name that is not UTF-8"
            continue
        if stat.S_ISLNK(item.mode):
            yield from _unkeepable_link(item.path, out)
        elif stat.S_ISREG(item.mode):
            if item.mode & _SET_ID:
                yield f"output {name} has a set-id bit"
        elif not stat.S_ISDIR(item.mode):
            yield f"output {name} is {_KINDS.get(stat.S_IFMT(item.mode), 'no file')}"


def _unkeepable_link(path: str, out: str) -> Iterator[str]:
    target = os.readlink(f"{out}/{path}")
    try:
        target.encode()
    except UnicodeEncodeError:
        yield f"output {path!r} links to a name that is not UTF-8"
        return
    # the text alone does not tell for links through other links: `deep/../..`
    reached, inside = os.path.realpath(f"{out}/{path}"), os.path.realpath(out)
    if not stays_inside(path, target) or not f"{reached}/".startswith(f"{inside}/"):
        yield f"output {path!r} is a link that leaves $out: {target}"


def _leaves(found: list[_Found]) -> Iterator[_Found]:
    """Yield all but directories that hold something."""
    filled = {os.path.dirname(item.path) for item in found}
    return (item for item in found if item.path not in filled)


def _keep(cas: Cas, out: str, item: _Found) -> Entry:
    path = f"{out}/{item.path}"
    if stat.S_ISDIR(item.mode):
        return Directory(empty_tree(cas))
    if stat.S_ISLNK(item.mode):
        return Link(os.readlink(path))
    executable = bool(item.mode & stat.S_IXUSR)
    if not item.mode & stat.S_IRUSR:
        os.chmod(path, 0o600)
    if item.status.st_nlink > 1:
        # some other name leads to the same bytes and may outlive this action
        return cas.copy_in(path, item.status.st_size, executable)
    return cas.adopt(path, executable, item.status)


def _parents(path: str) -> list[str]:
    parts = path.split("/")
    return ["/".join(parts[:end]) for end in range(1, len(parts))]


def _shown(path: str) -> str:
    return repr(os.fsencode(path).decode(errors="backslashreplace"))


def _in_words(faults: list[str]) -> str:
    more = len(faults) - _FAULTS_SHOWN
    words = "; ".join(faults[:_FAULTS_SHOWN])
    return f"{words}; and {more} more" if more > 0 else words
