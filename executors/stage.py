"""Staging: input root → the directories that a sandbox shows."""

from __future__ import annotations

import contextlib
import itertools
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from executors.syscalls import keyring_filter
from store.cas import EPOCH_NS
from store.digest import Digest
from store.errors import host_error
from store.materialise import materialise, materialised
from store.objects import EMPTY_TREE, Action, Directory, Link, Tree
from store.owners import mark
from store.records import frozen
from store.store import Store, remove_tree
from store.trees import merge

MOUNT_POINTS: Final = ("bn", "build", "dev", "proc", "tmp")
"""What the sandbox's root has in any case; a toolchain cannot put anything there."""

_counter = itertools.count()


@frozen
class Workspace:
    """One action's directory on the store's file system::

        in/NAME      inputs, read-only in the sandbox (hard links)
        build/       the work directory: /build, with a mount point for each input
        io/out/      $out: /bn/out, with the parents of the declared outputs
        io/depfile   /bn/depfile
        log          standard output and error
        status       what bubblewrap reports
        seccomp      the filter of system calls that bubblewrap installs

    `mounts` are the names of the inputs to mount.
    """

    path: Path
    mounts: tuple[str, ...] = ()

    @property
    def build(self) -> Path:
        """The work directory."""
        return self.path / "build"

    @property
    def io(self) -> Path:
        """What the sandbox shows as /bn."""
        return self.path / "io"

    @property
    def out(self) -> Path:
        """Where outputs are written."""
        return self.path / "io" / "out"

    @property
    def depfile(self) -> Path:
        """Where the action says what it read."""
        return self.path / "io" / "depfile"

    @property
    def log(self) -> Path:
        """Standard output and error."""
        return self.path / "log"

    @property
    def status(self) -> Path:
        """What bubblewrap reports."""
        return self.path / "status"

    @property
    def seccomp(self) -> Path:
        """The filter of system calls that bubblewrap installs."""
        return self.path / "seccomp"

    def remove(self) -> None:
        """Remove all of it."""
        remove_tree(self.path)

    def keep(self, label: str) -> Path:
        """Give it a name that says whose it is and that no sweep removes; return that."""
        kept = self.path.parent / f"kept-{re.sub(r'[^A-Za-z0-9._-]+', '-', label)}-{self.path.name}"
        os.rename(self.path, kept)
        return kept


def new_workspace(work: Path) -> Workspace:
    """Return a workspace in the directory `work` that nobody else uses, empty. Raises HostError."""
    workspace = Workspace(work / f"{mark()}-{next(_counter)}")
    try:
        with usual_umask():
            workspace.path.mkdir()
    except OSError as error:
        raise host_error(error, "cannot make a workspace") from error
    return workspace


def stage(store: Store, action: Action, private: bool = False) -> Workspace:
    """Make the workspace of `action`.

    With `private`, inputs are writable copies right in the work directory, else hard links to blobs
    that must only be shown read-only. Raises HostError and MissingBlob; then nothing is left.
    """
    if store.cas.upstream is not None:
        store.cas.upstream.bring([Directory(action.input_root)])
    workspace = new_workspace(store.work())
    try:
        with usual_umask():
            for path in (workspace.build, workspace.io, workspace.path / "in"):
                path.mkdir()
            if private:
                workspace.build.rmdir()
                materialise(store.cas, action.input_root, str(workspace.build), copy=True)
                mounts: tuple[str, ...] = ()
            else:
                mounts = tuple(_stage_inputs(store, action.input_root, workspace))
                workspace.seccomp.write_bytes(keyring_filter())
            make_parents(workspace.out, action.outputs)
            for path in (workspace.build, workspace.io):
                os.utime(path, ns=EPOCH_NS)
    except BaseException as error:
        workspace.remove()
        if isinstance(error, OSError):
            raise host_error(error, "cannot stage an action") from error
        raise
    return Workspace(workspace.path, mounts)


def sandbox_root(store: Store, toolchains: Iterable[Digest]) -> Path:
    """Return the shared read-only directory that is the root file system of `toolchains`.

    Raises HostError and MissingBlob.
    """
    cas = store.cas
    empty = Directory(cas.put_tree(EMPTY_TREE))
    entries = dict(cas.get_tree(merge(cas, toolchains)).entries)
    entries |= dict.fromkeys(MOUNT_POINTS, empty)
    with usual_umask():
        return materialised(cas, cas.put_tree(Tree(entries)))


@contextlib.contextmanager
def usual_umask() -> Iterator[None]:
    """Make what is created in here have the usual modes, whatever the user's umask: an action can
    see them."""
    before = os.umask(0o022)
    try:
        yield
    finally:
        os.umask(before)


def _stage_inputs(store: Store, root: Digest, workspace: Workspace) -> Iterator[str]:
    """Put every top-level input at `in/NAME` and its mount point at `build/NAME`; yield the names.

    A link at the top needs no mount: it is made in the work directory itself.
    """
    for name, entry in store.cas.get_tree(root).sorted():
        source, point = str(workspace.path / "in" / name), workspace.build / name
        if isinstance(entry, Link):
            os.symlink(entry.target, point)
            os.utime(point, ns=EPOCH_NS, follow_symlinks=False)
            continue
        if isinstance(entry, Directory):
            materialise(store.cas, entry.digest, source)
            point.mkdir()
        else:
            store.cas.link_out(entry, source)
            point.touch()
        yield name


def make_parents(out: Path, outputs: Iterable[str]) -> None:
    """Make `out` with the directories above the declared outputs, at EPOCH."""
    out.mkdir()
    for output in sorted(outputs):
        (out / output).parent.mkdir(parents=True, exist_ok=True)
    for directory, _, _ in os.walk(out, topdown=False):
        os.utime(directory, ns=EPOCH_NS)
