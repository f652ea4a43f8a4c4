"""The CAS: blobs in and out, and blobs that somebody changed or took away."""

from __future__ import annotations

import contextlib
import os
import stat
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from store.cas import EPOCH, Cas, MissingBlob
from store.digest import MMAP_FROM, Digest, digest_bytes, digest_file
from store.errors import IntegrityError
from store.objects import Directory, Entry, File, Link, Tree
from store.tiers import Form
from store.trees import build_tree

if TYPE_CHECKING:
    from store.store import Store

NONE = Digest("0" * 64)
DATA = b"some bytes\n"
LARGE = b"0123456789abcdef" * (MMAP_FROM // 16 + 1)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Cas:
    """A CAS that many examples share."""
    made = Cas(tmp_path_factory.mktemp("cas"))
    made.create()
    return made


@pytest.fixture
def cas(store: Store) -> Cas:
    return store.cas


def stored(cas: Cas, data: bytes = DATA, executable: bool = False) -> File:
    """Put a blob and return the file that it is."""
    return File(cas.put_bytes(data, executable), len(data), executable)


def change(path: str | Path, data: bytes, *, forged: bool = False) -> None:
    """Write to a read-only file in place; with `forged`, set its old times again."""
    status = os.stat(path)
    os.chmod(path, 0o644)
    Path(path).write_bytes(data)
    os.chmod(path, status.st_mode)
    if forged:
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def quarantined(cas: Cas) -> list[bytes]:
    """Return what the files in quarantine hold."""
    return [path.read_bytes() for path in sorted((cas.root / "quarantine").glob("*"))]


def test_directories_are_made_when_something_belongs_there(tmp_path: Path) -> None:
    cas = Cas(tmp_path)
    cas.create()
    assert os.listdir(tmp_path / "blobs") == ["ff"]
    other = Cas(tmp_path)
    other.create()
    first = cas.put_bytes(b"first")
    second = other.put_bytes(b"second")
    assert sorted(os.listdir(tmp_path / "blobs")) == sorted({"ff", first[:2], second[:2]})
    assert {cas.get_bytes(second), other.get_bytes(first)} == {b"first", b"second"}
    assert cas.unfinished() == []
    left = [Path(other.primary.temporary()) for _ in range(64 * 64)][-1]
    left.touch()
    assert cas.unfinished() == [str(left)]
    assert len(os.listdir(tmp_path / "tmp")) == 64


def test_nothing_is_made_where_a_tier_was_unmounted(tmp_path: Path) -> None:
    cas = Cas(tmp_path / "tier")
    cas.create()
    temporary = Path(cas.primary.temporary())
    temporary.write_bytes(DATA)
    os.rename(tmp_path / "tier", tmp_path / "elsewhere")
    (tmp_path / "tier").mkdir()
    with pytest.raises(FileNotFoundError):
        cas.primary.adopt(digest_bytes(DATA), str(temporary), len(DATA), Form.PLAIN)
    assert os.listdir(tmp_path / "tier") == []


@given(st.binary(max_size=100), st.booleans())
def test_what_was_put_is_got(shared: Cas, data: bytes, executable: bool) -> None:
    digest = shared.put_bytes(data, executable)
    assert digest == digest_bytes(data)
    assert shared.get_bytes(digest) == data
    assert shared.has(digest)


@pytest.mark.parametrize(("executable", "mode"), [(False, 0o444), (True, 0o555)])
def test_a_blob_is_a_read_only_file_with_a_fixed_time(
    cas: Cas, executable: bool, mode: int
) -> None:
    status = os.stat(cas.path(cas.put_bytes(DATA, executable), executable))
    assert (stat.S_IMODE(status.st_mode), status.st_mtime) == (mode, EPOCH)


def test_a_blob_that_was_never_put_is_missing(cas: Cas) -> None:
    assert not cas.has(NONE)
    with pytest.raises(MissingBlob) as caught:
        cas.get_bytes(NONE)
    assert caught.value.digest == NONE
    assert isinstance(caught.value, IntegrityError)


def test_putting_twice_leaves_the_first_file(cas: Cas) -> None:
    path = cas.path(cas.put_bytes(DATA))
    inode = os.stat(path).st_ino
    cas.put_bytes(DATA)
    assert os.stat(path).st_ino == inode


def test_no_temporary_is_left(cas: Cas, tmp_path: Path) -> None:
    source = tmp_path / "file"
    source.write_bytes(LARGE)
    cas.copy_in(str(source), len(LARGE), False)
    stored(cas)
    assert cas.unfinished() == []


@pytest.mark.parametrize("executable", [False, True])
@pytest.mark.parametrize("data", [b"", DATA, LARGE])
def test_a_file_is_copied_in(cas: Cas, tmp_path: Path, data: bytes, executable: bool) -> None:
    source = tmp_path / "file"
    source.write_bytes(data)
    file = cas.copy_in(str(source), 5 if not data else len(data), executable)
    assert file == File(digest_bytes(data), len(data), executable)
    assert cas.get_bytes(file.digest) == source.read_bytes() == data
    assert digest_file(source, len(data)) == file.digest


@pytest.mark.parametrize("more", [-1, 0, 1, 5000])
@pytest.mark.parametrize("size", [1 << 16, 1 << 18, 16 << 18, 3 << 20])
def test_large_files_are_hashed_part_by_part(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int, more: int
) -> None:
    monkeypatch.setattr("store.digest._WINDOW", 1 << 16)
    monkeypatch.setattr("store.digest._LARGE_WINDOW", 1 << 18)
    data = os.urandom(size + more)
    path = tmp_path / "file"
    path.write_bytes(data)
    assert digest_file(path, MMAP_FROM + len(data)) == digest_bytes(data)


def test_hashing_a_large_file_takes_little_memory(tmp_path: Path) -> None:
    path = tmp_path / "file"
    with path.open("wb") as file:
        for _ in range(128):
            file.write(os.urandom(1 << 20))
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); from store.digest import digest_file\n"
        "def peak(): return int(next(line for line in open('/proc/self/status')"
        " if line.startswith('VmHWM')).split()[1])\n"
        "before = peak(); digest_file(sys.argv[2], 128 << 20); print(peak() - before)"
    )
    command = [sys.executable, "-I", "-c", code, str(Path(__file__).parents[2]), str(path)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    assert int(done.stdout) < 24 << 10


@pytest.mark.parametrize("executable", [False, True])
@pytest.mark.parametrize("before", [False, True])
@pytest.mark.parametrize("data", [DATA, LARGE])
def test_a_file_is_adopted(cas: Cas, data: bytes, executable: bool, before: bool) -> None:
    if before:
        stored(cas, data, executable)
    path = Path(cas.temporary())
    path.write_bytes(data)
    file = cas.adopt(str(path), executable)
    assert file == File(digest_bytes(data), len(data), executable)
    assert not path.exists()
    assert cas.get_bytes(file.digest) == data
    status = os.stat(cas.path(file.digest, executable))
    assert (status.st_mode & 0o222, status.st_mtime) == (0, EPOCH)


def test_a_file_that_is_not_there_cannot_be_copied_in(cas: Cas, tmp_path: Path) -> None:
    for size in (0, MMAP_FROM):
        with pytest.raises(FileNotFoundError):
            cas.copy_in(str(tmp_path / "none"), size, False)


@pytest.mark.parametrize("wanted", [False, True])
@pytest.mark.parametrize("there", [False, True])
def test_a_file_is_linked_out(cas: Cas, tmp_path: Path, there: bool, wanted: bool) -> None:
    file = File(stored(cas, DATA, there).digest, len(DATA), wanted)
    cas.link_out(file, str(tmp_path / "out"))
    status = os.stat(tmp_path / "out")
    assert (tmp_path / "out").read_bytes() == DATA
    assert stat.S_IMODE(status.st_mode) == (0o555 if wanted else 0o444)
    assert status.st_ino == os.stat(cas.path(file.digest, wanted)).st_ino


@pytest.mark.parametrize("wanted", [False, True])
@pytest.mark.parametrize("there", [False, True])
def test_a_copy_is_private(cas: Cas, tmp_path: Path, there: bool, wanted: bool) -> None:
    file = File(stored(cas, DATA, there).digest, len(DATA), wanted)
    out = tmp_path / "out"
    cas.link_out(file, str(out), copy=True)
    status = out.stat()
    assert stat.S_IMODE(status.st_mode) == (0o755 if wanted else 0o644)
    assert (status.st_nlink, status.st_mtime) == (1, EPOCH)
    out.write_bytes(b"changed")
    assert cas.get_bytes(file.digest) == DATA


def test_nothing_is_written_over(cas: Cas, tmp_path: Path) -> None:
    (tmp_path / "out").write_bytes(b"mine")
    with pytest.raises(FileExistsError):
        cas.link_out(stored(cas), str(tmp_path / "out"))
    assert (tmp_path / "out").read_bytes() == b"mine"


def test_a_missing_blob_is_not_linked_out(cas: Cas, tmp_path: Path) -> None:
    with pytest.raises(MissingBlob):
        cas.link_out(File(NONE, 1), str(tmp_path / "out"))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("data", [b"changed", b"SOME BYTES\n"])
@pytest.mark.parametrize("use", ["has", "get", "link", "complete"])
def test_a_blob_that_was_changed_in_place_is_put_aside(
    cas: Cas, tmp_path: Path, data: bytes, use: str
) -> None:
    file = stored(cas)
    cas.link_out(file, str(tmp_path / "shown"))
    change(tmp_path / "shown", data)
    match use:
        case "has":
            assert not cas.has(file.digest)
        case "complete":
            assert not cas.complete(file)
        case "get":
            with pytest.raises(MissingBlob):
                cas.get_bytes(file.digest)
        case "link":
            with pytest.raises(MissingBlob):
                cas.link_out(file, str(tmp_path / "again"))
    assert quarantined(cas) == [data]
    assert stored(cas) == file
    assert cas.get_bytes(file.digest) == DATA


def test_a_forged_blob_is_never_read(cas: Cas) -> None:
    file = stored(cas)
    change(cas.path(file.digest), b"SOME BYTES\n", forged=True)
    with pytest.raises(MissingBlob):
        cas.get_bytes(file.digest)
    assert quarantined(cas) == [b"SOME BYTES\n"]
    assert not cas.has(file.digest)


def test_no_variant_is_made_of_a_forged_blob(cas: Cas, tmp_path: Path) -> None:
    file = stored(cas)
    change(cas.path(file.digest), b"SOME BYTES\n", forged=True)
    with pytest.raises(MissingBlob):
        cas.link_out(File(file.digest, file.size, True), str(tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_completeness_of_a_tree(store: Store) -> None:
    files: dict[str, Entry] = {f"d/e/{n}": stored(store.cas, n.encode()) for n in "abc"}
    tree = Directory(build_tree(store.cas, {**files, "link": Link("nowhere")}))

    def is_complete_to_another() -> bool:
        store.cas.commit_objects()
        store.cas.close()
        with contextlib.closing(Cas(store.root)) as fresh:
            return fresh.complete(tree)

    assert is_complete_to_another()
    assert store.cas.complete(tree)
    inner = store.cas.get_tree(tree.digest).entries["d"]
    assert isinstance(inner, Directory)
    lost = [inner.digest, tree.digest, digest_bytes(b"b")]
    for digest in lost:
        data = store.cas.get_bytes(digest)
        store.cas.quarantine(digest, False)
        assert not is_complete_to_another()
        assert not store.cas.complete(tree)
        store.cas.put_bytes(data)
        assert store.cas.complete(tree)


def test_a_tree_that_is_none_is_told(cas: Cas) -> None:
    digest = cas.put_bytes(b"no tree")
    with pytest.raises(IntegrityError):
        cas.get_tree(digest)
    assert not cas.complete(Directory(digest))
    assert cas.get_tree(cas.put_tree(Tree())) == Tree()
