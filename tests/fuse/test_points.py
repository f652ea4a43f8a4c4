"""What mounting needs of the machine, and mount points as the kernel lists them."""

from __future__ import annotations

import importlib.util
import os
import shutil
from pathlib import Path

import pytest

from engine.cli.mount import check_host
from fuse import points
from fuse.points import MountPoint, mount_points, mounted_at, users_of
from store.errors import HostError


def test_what_is_missing_is_named_with_its_cure(monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.open

    def no_device(path: str, flags: int) -> int:
        if path == "/dev/fuse":
            raise FileNotFoundError(2, "No such file or directory", path)
        return real(path, flags)

    with monkeypatch.context() as patch:
        patch.setattr(importlib.util, "find_spec", lambda name: None)
        with pytest.raises(HostError, match="pyfuse3 is not installed") as caught:
            check_host()
        assert "buildnet[fuse]" in caught.value.hint
    with monkeypatch.context() as patch:
        patch.setattr(os, "open", no_device)
        with pytest.raises(HostError, match="/dev/fuse cannot be opened: no such file") as caught:
            check_host()
        assert "modprobe fuse" in caught.value.hint
    with monkeypatch.context() as patch:
        patch.setattr(os, "open", lambda path, flags: real(os.devnull, flags))
        patch.setattr(os, "geteuid", lambda: 1000)
        patch.setattr(shutil, "which", lambda name: None)
        with pytest.raises(HostError, match="fusermount3 is not installed") as caught:
            check_host()
        assert "fuse3" in caught.value.hint
        patch.setattr(os, "geteuid", lambda: 0)
        check_host()


def test_lines_of_mountinfo(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    lines = (
        "22 1 254:0 / / rw shared:1 - ext4 /dev/root rw\n"
        r"40 22 0:30 / /a\040b\134c ro,nosuid - fuse.bn bn-77 ro,user_id=0" + "\n"
        "41 22 0:31 / /other ro - fuse.sshfs bn-78 ro\n"
        r"42 40 0:32 / /a\040b\134c rw master:3 - tmpfs tmpfs rw" + "\n"
    )
    (tmp_path / "mountinfo").write_text(lines)
    monkeypatch.setattr(points, "Path", lambda path: tmp_path / "mountinfo")
    found = mount_points()
    assert found[1] == MountPoint("/a b\\c", "0:30", "fuse.bn", "bn-77")
    assert [point.server for point in found] == [None, 77, None, None]
    assert mounted_at(Path("/a b\\c")) == found[3], "the upper one counts"
    assert mounted_at(Path("/a")) is None


def test_users_of_a_directory(tmp_path: Path) -> None:
    assert users_of(tmp_path) == []
    with open(tmp_path / "file", "w"):
        assert [user.split()[0] for user in users_of(tmp_path)] == [str(os.getpid())]
