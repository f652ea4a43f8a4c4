"""The inputs of a cell's actions: put where the cell has them mounted, what is there changed.

A cell binds `in/NAME` to `build/NAME` for each name at the top of an input tree, and keeps that for
its next action: to unmount and mount takes longer than all else that has to be done. Where names
differ, directories are renamed, on both sides; what is mounted goes along.
"""

from __future__ import annotations

import itertools
import os
from typing import TypeAlias

from executors.kernel import replaces_in_place
from executors.restage import Grown, Stage
from executors.stage import usual_umask
from store.alike import same_names
from store.cas import EPOCH_NS, Cas
from store.digest import Digest, digest_bytes
from store.errors import host_error
from store.objects import Action, Directory, Entry, Link
from store.shelf import Shelf
from store.store import remove_tree

Shown: TypeAlias = dict[str, Digest | None]
"""What is mounted, sorted by name: None for a directory, a file's digest."""


class Inputs:
    """The inputs in the workspace at `path`, which has empty directories `in`, `build`, `aside`."""

    def __init__(self, path: str, cas: Cas) -> None:
        """Nothing is there yet. Raises OSError."""
        self._path = path
        self._cas = cas
        self._aside = f"{path}/aside"
        size = os.stat(self._aside).st_size
        self._stage = Stage(cas, self._aside, size, replaces_in_place(self._aside))
        self._shelf = Shelf(cas, self._aside)
        self._shown: Shown = {}
        self._trees: dict[str, Digest] = {}
        self._keys: dict[str, str] = {}
        """Where the large ones among the inputs lie on the shelf later."""
        self._doubtful: dict[str, Digest] = {}
        """Those that came from the shelf, whose files nobody has looked at since."""

    def names(self) -> set[str]:
        """Return the names in `build` that are inputs."""
        return {*self._shown}

    def lay_aside(self) -> None:
        """Lay large inputs aside for the next build; the cell is at rest and is to go."""
        for name, key in self._keys.items():
            self._shelf.put(key, f"{self._path}/in/{name}", self._trees[name])

    def put(self, action: Action) -> list[str]:
        """Put the inputs of an action in their places; return the names to be mounted anew. Nothing
        is to be believed that comes of them before it is known whether they `are_as_left`.

        Raises HostError and MissingBlob; then what is there is undefined.
        """
        entries = list(self._cas.get_tree(action.input_root).sorted())
        shown = {
            name: None if isinstance(entry, Directory) else entry.digest
            for name, entry in entries
            if not isinstance(entry, Link)
        }
        path, mounts = self._path, []
        try:
            with usual_umask():
                try:
                    if len(shown) < len(entries) or not self._shows(shown):
                        raise Grown
                    for name, entry in entries:
                        if isinstance(entry, Directory):
                            self._put_tree(action, name, entry.digest)
                except Grown:
                    self._put_anew(action, entries)
                    self._shown = shown
                    mounts = [*shown]
                _make_parents(f"{path}/io/out", action.outputs)
                for name in ("build", "io/out", "io"):
                    os.utime(f"{path}/{name}", ns=EPOCH_NS)
        except OSError as error:
            raise host_error(error, "cannot stage an action") from error
        return mounts

    def are_as_left(self) -> bool:
        """Say whether nobody wrote to those inputs that lay aside; to be asked once after they were
        put in their places."""
        doubtful, self._doubtful = self._doubtful, {}
        return all(self._shelf.is_as_left(path, tree) for path, tree in doubtful.items())

    def _shows(self, wanted: Shown) -> bool:
        """Say whether inputs of these names are mounted, if need be after directories were renamed.

        They are listed in `build` as if they had been made in sorted order: some file systems list
        names in the order in which they came.
        """
        shown = self._shown
        if shown == wanted:
            return True
        if len(shown) != len(wanted):
            return False
        gone = [name for name in shown if name not in wanted]
        new = [name for name in wanted if name not in shown]
        if any(wanted[name] != shown[name] for name in wanted if name in shown) or any(
            digest is not None for digest in (*map(shown.get, gone), *map(wanted.get, new))
        ):
            return False
        came = dict(zip(new, gone, strict=True))
        for name, before in came.items():
            os.rename(f"{self._path}/in/{before}", f"{self._path}/in/{name}")
            self._trees[name] = self._trees.pop(before)
            self._keys.pop(before, None)
        build = {name: f"{self._path}/build/{name}" for name in (*shown, *new)}
        if len(shown) > 1 and not self._stage.by_name:
            for number, name in enumerate(shown):
                aside = f"{self._aside}/shown.{number}"
                os.rename(build[name], aside)
                build[name] = aside
        for name in came if self._stage.by_name else wanted:
            os.rename(build[came.get(name, name)], f"{self._path}/build/{name}")
        self._shown = wanted
        return True

    def _put_anew(self, action: Action, entries: list[tuple[str, Entry]]) -> None:
        """Put inputs in their places after removing all that were there."""
        self._take_inputs_away()
        for name, entry in entries:
            point = f"{self._path}/build/{name}"
            if isinstance(entry, Link):
                os.symlink(entry.target, point)
                os.utime(point, ns=EPOCH_NS, follow_symlinks=False)
            elif isinstance(entry, Directory):
                self._put_tree(action, name, entry.digest)
                os.mkdir(point)
            else:
                self._cas.link_out(entry, f"{self._path}/in/{name}")
                os.close(os.open(point, os.O_WRONLY | os.O_CREAT, 0o644))

    def _put_tree(self, action: Action, name: str, digest: Digest) -> None:
        """Make an input directory hold a tree. Raises Grown where it cannot remain the same
        directory, or need not because one that is nearly right lies aside."""
        place, held = f"{self._path}/in/{name}", self._trees.get(name)
        aside = None
        if held != digest:
            self._keys.pop(name, None)
        if held != digest and self._shelf.is_large(digest):
            key = self._keys[name] = _key_of(action, name)
            if held is None:
                aside = self._shelf.take(key, digest, place)
            elif self._shelf.has(key) and not same_names(self._cas, held, digest):
                raise Grown
        try:
            self._stage.restage(place, held or aside, digest)
        except Grown:
            if aside is None:
                raise
            remove_tree(place)
            self._stage.restage(place, None, digest)
            aside = None
        self._trees[name] = digest
        if aside is not None:
            self._doubtful[place] = digest

    def _take_inputs_away(self) -> None:
        """Remove all inputs and their mount points; that unmounts them in the cell, too."""
        for name, digest in self._shown.items():
            point = f"{self._path}/build/{name}"
            if digest is None:
                os.rmdir(point)
            else:
                os.unlink(point)
            remove_tree(f"{self._path}/in/{name}")
        self._trees.clear()
        self._keys.clear()
        self._doubtful.clear()
        self._shown = {}


def _key_of(action: Action, name: str) -> str:
    """Return where inputs of this name lie aside for the next action that is the same but for the
    contents of its inputs."""
    return digest_bytes(repr((name, action.command, action.outputs)).encode())


def _make_parents(out: str, outputs: tuple[str, ...]) -> None:
    """Make the directories above the declared outputs, sorted, at EPOCH."""
    parents = {
        parent
        for output in outputs
        if "/" in output
        for parent in itertools.accumulate(output.split("/")[:-1], lambda a, b: f"{a}/{b}")
    }
    for parent in sorted(parents):
        os.mkdir(f"{out}/{parent}")
    for parent in sorted(parents, reverse=True):
        os.utime(f"{out}/{parent}", ns=EPOCH_NS)
