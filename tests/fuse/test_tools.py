"""Ordinary tools at work on a mounted store."""

from __future__ import annotations

import mmap
import os
import stat
import subprocess
import threading
from pathlib import Path

import pytest

from store.cas import EPOCH
from tests.fuse.conftest import SECONDS, View


def said_by(*command: str | Path, cwd: Path | None = None) -> str:
    """Return what a command prints; it must succeed."""
    words = [str(word) for word in command]
    return subprocess.run(
        words, capture_output=True, text=True, check=True, timeout=SECONDS, cwd=cwd
    ).stdout


def test_find_sees_what_is_on_disk(mounted: View) -> None:
    for test in ([], ["-type", "f"], ["-type", "d", "-empty"], ["-type", "l"], ["-perm", "-u+x"]):
        native = said_by("find", ".", *test, cwd=mounted.native).splitlines()
        found = said_by("find", ".", *test, cwd=mounted.artifact).splitlines()
        assert sorted(found) == sorted(native)


def test_cp_a_gives_an_equal_tree(mounted: View, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    said_by("cp", "-a", mounted.artifact, copy)
    said_by("diff", "-r", "--no-dereference", mounted.native, copy)
    for directory, names, files in os.walk(mounted.native):
        for name in [*names, *files]:
            path = Path(directory, name)
            native, copied = path.lstat(), (copy / path.relative_to(mounted.native)).lstat()
            if not stat.S_ISDIR(native.st_mode):
                assert copied.st_mode == native.st_mode, path
            assert copied.st_mtime == native.st_mtime, path


def test_tar_packs_the_same_bytes(mounted: View) -> None:
    options = ("tar", "--sort=name", "--mode=a=rX", "--hard-dereference", "-cf", "-", ".")
    archives = [
        subprocess.run(options, cwd=top, capture_output=True, check=True, timeout=SECONDS).stdout
        for top in (mounted.native, mounted.artifact)
    ]
    assert archives[0] == archives[1]


def test_grep_r(mounted: View) -> None:
    found = said_by("grep", "-rl", "needle", ".", cwd=mounted.artifact).split()
    assert sorted(found) == ["./README", "./copy-of-README"]


def test_mmap(mounted: View) -> None:
    with open(mounted.artifact / "data/big", "rb") as file:
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    assert mapped[:] == (mounted.native / "data/big").read_bytes()
    mapped.close()


def test_programs_run_from_it(mounted: View) -> None:
    assert said_by(mounted.artifact / "bin/hello") == "hello from the store\n"
    program, readme = mounted.artifact / "bin/cat", mounted.artifact / "data/link"
    assert said_by(program, readme) == "needle in the README\n"
    with pytest.raises(PermissionError):
        said_by(mounted.artifact / "README")


def test_git_status_of_a_copied_tree_is_clean(mounted: View, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    said_by("cp", "-a", mounted.artifact, copy)
    said_by("chmod", "-R", "u+w", copy)
    git = ("git", "-c", "user.name=t", "-c", "user.email=t@example.org")
    for command in (["init", "-q"], ["add", "-A"], ["commit", "-qm", "all"]):
        said_by(*git, *command, cwd=copy)
    said_by("cp", "-a", "--remove-destination", f"{mounted.artifact}/.", copy)
    assert said_by("git", "status", "--porcelain", cwd=copy) == ""


def test_stat_fields(mounted: View) -> None:
    top = mounted.artifact
    for path, mode, size in (
        ("README", stat.S_IFREG | 0o444, 21),
        ("bin/hello", stat.S_IFREG | 0o555, 36),
        ("data/big", stat.S_IFREG | 0o444, 256 * 14_000),
        ("data", stat.S_IFDIR | 0o555, 0),
        ("data/link", stat.S_IFLNK | 0o777, 9),
    ):
        found = (top / path).lstat()
        assert (found.st_mode, found.st_size) == (mode, size), path
        assert (found.st_nlink, found.st_uid) == (1, os.getuid())
        assert found.st_blocks == -(-size // 512)
        assert {found.st_atime, found.st_mtime, found.st_ctime} == {EPOCH}
    assert os.readlink(top / "data/dangling") == "nowhere/at/all"
    assert not (top / "data/dangling").exists()
    assert os.statvfs(top).f_flag & os.ST_RDONLY
    assert os.statvfs(top).f_namemax == 255
    assert not (top / "absent").exists()
    with pytest.raises(OSError, match="not supported"):
        os.getxattr(top, "user.anything")


def numbers(view: View) -> dict[str, int]:
    """Return the inode of everything in the artifact."""
    return {
        str(path.relative_to(view.mount)): path.lstat().st_ino for path in view.artifact.rglob("*")
    }


def test_inodes_are_the_same_in_every_mount(view: View) -> None:
    with view.remounted():
        first = numbers(view)
    with view.remounted():
        assert numbers(view) == first
    here = "artifacts/sample"
    assert first[f"{here}/README"] == first[f"{here}/copy-of-README"]
    directories = [first[f"{here}/{name}"] for name in ("twin/a", "twin/b", "data", "nothing")]
    assert len(set(directories)) == 4
    listed = {f"{here}/{entry.name}": entry.inode() for entry in os.scandir(view.native)}
    assert set(listed) <= set(first)


def test_listing_agrees_with_stat(mounted: View) -> None:
    for entry in os.scandir(mounted.artifact / "data"):
        assert entry.inode() == entry.stat(follow_symlinks=False).st_ino
        assert entry.is_dir(follow_symlinks=False) == (entry.name == "deep")
    assert {".", ".."} <= set(said_by("ls", "-a", mounted.artifact).split())


@pytest.mark.parametrize("place", ["", "artifacts", "artifacts/sample", "artifacts/sample/data"])
def test_nothing_can_be_written(mounted: View, place: str) -> None:
    top = mounted.mount / place
    existing = mounted.artifact / "README"
    attempts = (
        lambda: (top / "new").write_bytes(b""),
        lambda: (top / "new").mkdir(),
        lambda: (top / "new").symlink_to("x"),
        lambda: os.mkfifo(top / "new"),
        lambda: os.link(existing, top / "new"),
        lambda: os.open(existing, os.O_WRONLY),
        lambda: os.open(existing, os.O_RDWR | os.O_TRUNC),
        lambda: os.truncate(existing, 0),
        lambda: os.chmod(existing, 0o777),
        lambda: os.chown(existing, 1, 1),
        lambda: os.utime(existing),
        lambda: existing.unlink(),
        lambda: existing.rename(top / "new"),
        lambda: (mounted.artifact / "nothing").rmdir(),
    )
    for attempt in attempts:
        with pytest.raises(OSError, match="Read-only file system"):
            attempt()
    assert not os.access(existing, os.W_OK)


def test_many_read_at_once(mounted: View) -> None:
    expected = (mounted.native / "data/big").read_bytes()
    names = sorted(os.listdir(mounted.native / "many"))
    wrong: list[str] = []

    def read_all(offset: int) -> None:
        order = names[offset:] + names[:offset]
        many = mounted.artifact / "many"
        wrong.extend(name for name in order if (many / name).read_text() != f"{int(name)}\n")
        if (mounted.artifact / "data/big").read_bytes() != expected:
            wrong.append("big")

    threads = [threading.Thread(target=read_all, args=(150 * number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(SECONDS)
        assert not thread.is_alive()
    assert wrong == []


def test_parallel_finds(mounted: View) -> None:
    command = ["find", str(mounted.mount / "artifacts"), "-type", "f", "-size", "+0"]
    finds = [subprocess.Popen(command, stdout=subprocess.PIPE) for _ in range(4)]
    found = {find.communicate(timeout=SECONDS)[0] for find in finds}
    assert len(found) == 1
    assert all(find.returncode == 0 for find in finds)
