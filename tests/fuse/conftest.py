"""Stores with a sample tree, and real mounts of them that are always taken away again."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from attrs import define

from fuse.points import mounted_at
from store.digest import Digest
from store.materialise import materialise
from store.objects import Directory, Entry, File, Link
from store.roots import artifact_root
from store.store import Store
from store.trees import build_tree

SECONDS = 60
"""The bound on one command."""


@define
class View:
    """A store with one artifact, and the commands that mount it."""

    root: Path
    mount: Path
    tree: Digest
    native: Path

    @property
    def artifact(self) -> Path:
        """The artifact in the mount."""
        return self.mount / "artifacts" / "sample"

    def bn(self, *arguments: str, code: int = 0, **env: str) -> subprocess.CompletedProcess[str]:
        """Run bn and check its exit code."""
        done = subprocess.run(
            [sys.executable, "-I", "-m", "engine.cli.main", *arguments],
            env={**os.environ, "BN_STORE": str(self.root), **env},
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )
        assert done.returncode == code, f"exit {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done

    def start(self, *options: str) -> int:
        """Mount and return the server's process."""
        said: dict[str, Any] = json.loads(
            self.bn("mount", "--json", *options, str(self.mount)).stdout
        )
        server: int = said["server"]
        return server

    def stop(self) -> None:
        """Unmount."""
        self.bn("unmount", str(self.mount))

    @contextlib.contextmanager
    def remounted(self) -> Iterator[None]:
        """Be mounted for a while."""
        self.start()
        try:
            yield
        finally:
            self.stop()


def sample(store: Store) -> Digest:
    """Store a tree of everything that a tree can hold."""

    def file(data: bytes, executable: bool = False) -> File:
        return File(store.cas.put_bytes(data, executable), len(data), executable)

    program = Path(shutil.which("cat") or "").read_bytes()
    entries: dict[str, Entry] = {
        "README": file(b"needle in the README\n"),
        "copy-of-README": file(b"needle in the README\n"),
        "bin/cat": file(program, True),
        "bin/hello": file(b"#!/bin/sh\necho hello from the store\n", True),
        "data/big": file(bytes(range(256)) * 14_000),
        "data/empty": file(b""),
        "data/äöü und \n Zeile": file("grün\n".encode()),
        "data/deep/er/and/deeper": file(b"down here\n"),
        "data/link": Link("../README"),
        "data/dangling": Link("nowhere/at/all"),
        "data/bin": Link("../bin"),
        "twin/a/same": file(b"same\n"),
        "twin/b/same": file(b"same\n"),
        "nothing": Directory(build_tree(store.cas, {})),
        **{f"many/{number:04}": file(b"%d\n" % number) for number in range(1500)},
    }
    return build_tree(store.cas, entries)


def can_mount() -> str:
    """Return why nothing can be mounted here, or nothing."""
    try:
        os.close(os.open("/dev/fuse", os.O_RDWR))
    except OSError as error:
        return f"/dev/fuse cannot be opened: {error.strerror}"
    return ""


def unmount_whatever(directory: Path) -> None:
    """Take a mount away, dead or alive."""
    while mounted_at(directory) is not None:
        subprocess.run(["umount", "-l", str(directory)], check=True, timeout=SECONDS)


def eventually(condition: Callable[[], bool], what: str, seconds: float = 10) -> None:
    """Wait for a condition."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        time.sleep(0.01)


def running(process: int) -> bool:
    """Say whether a process runs; one that nobody waited for does not."""
    try:
        text = Path(f"/proc/{process}/stat").read_text()
    except OSError:
        return False
    return text.rpartition(")")[2].split()[0] != "Z"


@pytest.fixture
def view(tmp_path: Path) -> Iterator[View]:
    """A store with the sample as its artifact `sample`, not mounted yet."""
    if reason := can_mount():
        pytest.skip(reason)
    native = tmp_path / "native"
    with Store(tmp_path / "store") as store:
        tree = sample(store)
        store.index.write([artifact_root("sample", "sample", tree)])
        materialise(store.cas, tree, str(native), copy=False)
    made = View(tmp_path / "store", tmp_path / "mount", tree, native)
    try:
        yield made
    finally:
        unmount_whatever(made.mount)


@pytest.fixture
def mounted(view: View) -> View:
    """The same, mounted."""
    view.start()
    return view
