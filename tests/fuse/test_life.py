"""The life of a mount: how it begins, ends, dies, comes back, and what a collection does to it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from fuse.points import mounted_at
from store.digest import Digest
from store.objects import Directory, File
from store.roots import artifact_root
from store.store import Store
from store.trees import build_tree, find
from tests.fuse.conftest import SECONDS, View, eventually, running, unmount_whatever
from tests.store.results import lose


def test_mount_and_unmount(view: View) -> None:
    server = view.start()
    point = mounted_at(view.mount)
    assert point is not None
    assert point.server == server
    assert running(server)
    assert "read-only" not in view.bn("unmount", str(view.mount)).stderr
    assert mounted_at(view.mount) is None
    assert not running(server)
    assert os.listdir(view.mount) == []


def test_foreground_ends_when_unmounted(view: View) -> None:
    server = subprocess.Popen(
        [sys.executable, "-I", "-m", "engine.cli.main", "mount", "--foreground", str(view.mount)],
        env={**os.environ, "BN_STORE": str(view.root)},
    )
    eventually(lambda: mounted_at(view.mount) is not None, "mounted")
    assert (view.mount / "artifacts/sample/README").read_text() == "needle in the README\n"
    view.stop()
    assert server.wait(SECONDS) == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signals_unmount(view: View, number: signal.Signals) -> None:
    server = view.start()
    assert view.artifact.is_dir()
    os.kill(server, number)
    eventually(lambda: not running(server), "server ended")
    assert mounted_at(view.mount) is None


def test_a_killed_server_leaves_a_mount_that_is_recovered(view: View) -> None:
    server = view.start()
    handle = os.open(view.artifact / "README", os.O_RDONLY)
    os.kill(server, signal.SIGKILL)
    eventually(lambda: not running(server), "server killed")
    with pytest.raises(OSError, match=r"not connected|connection abort"):
        os.listdir(view.mount)
    os.close(handle)
    again = view.start()
    assert again != server
    assert (view.artifact / "README").read_text() == "needle in the README\n"
    view.stop()


def test_a_dead_mount_can_be_unmounted(view: View) -> None:
    os.kill(view.start(), signal.SIGKILL)
    view.stop()
    assert mounted_at(view.mount) is None


def test_busy_mounts_stay_unless_lazy(mounted: View) -> None:
    point = mounted_at(mounted.mount)
    assert point is not None
    assert point.server is not None
    with open(mounted.artifact / "data/big", "rb") as file:
        said = mounted.bn("unmount", str(mounted.mount), code=4).stderr
        assert f"in use by {os.getpid()} (" in said
        assert "--lazy" in said
        assert mounted_at(mounted.mount) is not None
        mounted.bn("unmount", "--lazy", str(mounted.mount))
        assert mounted_at(mounted.mount) is None
        assert len(file.read()) == 256 * 14_000
        assert running(point.server)
    eventually(lambda: not running(point.server or 0), "server ended after the last user")


def test_what_is_collected_is_a_clean_error_and_what_is_open_stays(mounted: View) -> None:
    with Store(mounted.root) as store:
        tree = mounted.tree
        big = find(store.cas, tree, "data/big")
        readme = find(store.cas, tree, "README")
        deep = find(store.cas, tree, "data/deep")
        assert isinstance(big, File)
        assert isinstance(readme, File)
        assert isinstance(deep, Directory)
        expected = store.cas.get_bytes(big.digest)
        with open(mounted.artifact / "data/big", "rb") as file:
            assert file.read(10) == expected[:10]
            for digest in (big.digest, readme.digest, deep.digest):
                lose(store, digest)
            assert file.read() == expected[10:]
    os.stat(mounted.artifact / "README")
    with pytest.raises(OSError, match="Input/output error"):
        (mounted.artifact / "README").read_bytes()
    with pytest.raises(OSError, match="Input/output error"):
        os.listdir(mounted.artifact / "data/deep")
    with pytest.raises(OSError, match="Input/output error"):
        os.stat(mounted.artifact / "data/deep/er")
    with pytest.raises(FileNotFoundError):
        os.stat(mounted.mount / "blobs" / readme.digest)
    with pytest.raises(FileNotFoundError):
        os.stat(mounted.mount / "trees" / deep.digest)
    assert (mounted.artifact / "bin/hello").read_text().startswith("#!")
    with Store(mounted.root) as store:
        store.cas.put_bytes(b"needle in the README\n")
    assert (mounted.artifact / "README").read_text() == "needle in the README\n"


def lose_by_name(root: Path, digest: Digest) -> None:
    """Remove a blob from the store at `root`."""
    with Store(root) as store:
        lose(store, digest)


def test_a_blob_changed_in_place_is_not_shown(mounted: View) -> None:
    with Store(mounted.root) as store:
        readme = find(store.cas, mounted.tree, "README")
        assert isinstance(readme, File)
        path = Path(store.cas.path(readme.digest))
    path.chmod(0o644)
    path.write_text("poison in the README\n")
    with pytest.raises(OSError, match="Input/output error"):
        (mounted.artifact / "README").read_bytes()


def test_new_results_show_up(mounted: View) -> None:
    names = mounted.mount / "artifacts"
    assert os.listdir(names) == ["sample"]
    with Store(mounted.root) as store:
        tree = build_tree(store.cas, {"new": File(store.cas.put_bytes(b"new\n"), 4)})
        store.index.write([artifact_root("sample", "sample", tree)])
        store.index.write([artifact_root("other", "other", tree)])
    eventually(lambda: sorted(os.listdir(names)) == ["other", "sample"], "listed", 3)
    eventually((names / "sample/new").exists, "the newer sample", 3)
    assert (mounted.mount / "trees" / mounted.tree / "README").exists()


def test_places_that_are_refused(view: View, tmp_path: Path) -> None:
    full = tmp_path / "full"
    full.mkdir()
    (full / "file").touch()
    assert "is not empty" in view.bn("mount", str(full), code=3).stderr
    assert "is not a directory" in view.bn("mount", str(full / "file"), code=3).stderr
    assert "nothing there" in view.bn("unmount", str(full), code=3).stderr
    view.bn("mount", str(tmp_path / "made" / "for" / "it"))
    assert "mounted already" in view.bn("mount", str(tmp_path / "made/for/it"), code=3).stderr
    view.bn("unmount", str(tmp_path / "made/for/it"))


def test_a_server_that_fails_is_reported(view: View) -> None:
    (view.root / "format").write_text("99\n")
    error = json.loads(view.bn("mount", "--json", str(view.mount), code=4).stdout)["error"]
    assert "format '99'" in error["message"]
    assert mounted_at(view.mount) is None


SLOW_SERVER = """
import sys, time
from pathlib import Path
from engine.catalogue import StoreCatalogue
from fuse import mount
from fuse.tree_view import view
from store.store import Store

mount._backings = lambda device: None
slow = sys.argv[3]
with Store(Path(sys.argv[1])) as store:
    opened = store.cas.open
    def open_slowly(digest):
        if digest == slow:
            time.sleep(2)
        return opened(digest)
    store.cas.open = open_slowly
    store.cas.is_near = lambda digest: digest != slow
    mount.serve(view(store.cas, StoreCatalogue(store)), Path(sys.argv[2]), store.root)
"""


def test_a_slow_blob_holds_nobody_else_up_and_all_can_be_read_by_copying(view: View) -> None:
    with Store(view.root) as store:
        slow = find(store.cas, view.tree, "data/big")
        assert isinstance(slow, File)
    view.mount.mkdir()
    arguments = [str(view.root), str(view.mount), slow.digest]
    server = subprocess.Popen([sys.executable, "-I", "-c", SLOW_SERVER, *arguments])
    eventually(lambda: mounted_at(view.mount) is not None, "mounted")
    assert len(os.listdir(view.artifact / "data")) == 7
    begun = time.monotonic()
    big = view.artifact / "data/big"
    reader = subprocess.Popen(["cmp", str(big), str(view.native / "data/big")])
    time.sleep(0.3)
    for name in os.listdir(view.artifact / "many")[:200]:
        assert (view.artifact / "many" / name).read_text() == f"{int(name)}\n"
    assert reader.poll() is None, "the slow file was not slow"
    assert time.monotonic() - begun < 2
    assert reader.wait(SECONDS) == 0
    with open(big, "rb") as file, open(view.native / "data/big", "rb") as native:
        lose_by_name(view.root, slow.digest)
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        assert file.read() == native.read()
    view.stop()
    assert server.wait(SECONDS) == 0


@pytest.mark.skipif(os.getuid() != 0, reason="becoming another user needs root")
def test_others_see_it_only_where_that_was_allowed(view: View) -> None:
    with tempfile.TemporaryDirectory() as place:
        os.chmod(place, 0o755)
        view.mount = Path(place, "mount")
        try:
            for options, works in (((), False), (("--allow-other",), True)):
                view.start(*options)
                done = subprocess.run(
                    ["/bin/cat", str(view.artifact / "README")],
                    user=65534,
                    capture_output=True,
                    text=True,
                    timeout=SECONDS,
                    check=False,
                )
                assert (done.stdout == "needle in the README\n") == works
                view.stop()
        finally:
            unmount_whatever(view.mount)
