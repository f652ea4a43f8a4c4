"""Tests of the memo of an import: it is believed while nothing that was looked at changed."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from engine.spec.model import ToolchainSpec
from engine.toolchains import importer
from engine.toolchains.importer import Toolchain, import_toolchain
from store.objects import File
from store.store import Store
from store.trees import find, walk

OLD = (1_000_000_000, 1_000_000_000)


@pytest.fixture
def sdk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory with a tool, a link to it, and a data file, at rest as far as bn can tell."""
    monkeypatch.setattr("engine.toolchains.memory.RACY_NS", -(10**15))
    monkeypatch.setattr(importer, "RACY_NS", -(10**15))
    directory = tmp_path / "sdk"
    (directory / "bin").mkdir(parents=True)
    (directory / "bin" / "tool").write_text("one")
    (directory / "bin" / "alias").symlink_to("tool")
    (directory / "data").write_text("data")
    return directory


def taken(store: Store, sdk: Path) -> Toolchain:
    """Import it."""
    spec = ToolchainSpec(paths=(f"{sdk}=/usr", f"{sdk}/data=/data"), env={"A": "b"})
    return import_toolchain(store, spec, sdk.parent)


def test_nothing_is_taken_again_while_nothing_changed(
    store: Store, sdk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = taken(store, sdk)
    monkeypatch.setattr(importer, "take_paths", None)
    (sdk.parent / "beside").write_text("not looked at")
    assert taken(store, sdk) == first


def grow(sdk: Path) -> None:
    (sdk / "bin" / "tool").write_text("another one")


def same_size(sdk: Path) -> None:
    (sdk / "bin" / "tool").write_text("two")
    os.utime(sdk / "bin" / "tool", ns=OLD)


def add(sdk: Path) -> None:
    (sdk / "bin" / "tool2").write_text("")


def executable(sdk: Path) -> None:
    (sdk / "bin" / "tool").chmod(0o755)


def link(sdk: Path) -> None:
    (sdk / "bin" / "alias").unlink()
    (sdk / "bin" / "alias").symlink_to("../data")


def replace(sdk: Path) -> None:
    shutil.move(sdk, sdk.parent / "old")
    shutil.copytree(sdk.parent / "old", sdk, symlinks=True)
    (sdk / "data").write_text("more")


@pytest.mark.parametrize("change", [grow, same_size, add, executable, link, replace])
def test_every_change_is_seen(store: Store, sdk: Path, change: Callable[[Path], None]) -> None:
    first = taken(store, sdk)
    change(sdk)
    assert taken(store, sdk).tree != first.tree


def test_a_blob_that_is_gone_is_taken_again(store: Store, sdk: Path) -> None:
    first = taken(store, sdk)
    tool = find(store.cas, first.tree, "usr/bin/tool")
    assert isinstance(tool, File)
    os.unlink(store.cas.path(tool.digest))
    assert taken(store, sdk) == first
    assert store.cas.has(tool.digest)


def test_a_damaged_memo_is_not_believed(store: Store, sdk: Path) -> None:
    first = taken(store, sdk)
    (memo,) = (store.root / "records").iterdir()
    data = bytearray(memo.read_bytes())
    data[-1] ^= 1
    memo.write_bytes(data)
    assert taken(store, sdk) == first
    assert dict(walk(store.cas, first.tree))


def test_what_may_still_change_unseen_is_not_kept(
    store: Store, sdk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("engine.toolchains.memory.RACY_NS", 10**15)
    taken(store, sdk)
    assert not (store.root / "records").exists()
