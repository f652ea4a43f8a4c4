"""Directories whose entries are spread over the disk."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from store.spread import make_spread
from store.store import Store


def test_flag_where_the_file_system_knows_it(tmp_path: Path) -> None:
    make_spread(str(tmp_path / "spread"))
    make_spread(str(tmp_path / "spread"))
    said = subprocess.run(
        ["lsattr", "-d", tmp_path / "spread"], capture_output=True, text=True, check=False
    )
    if said.returncode == 0 and "e" in said.stdout.split()[0]:  # extents: ext4
        assert "T" in said.stdout.split()[0]
    (tmp_path / "spread" / "below").mkdir()


def test_a_store_is_spread(tmp_path: Path) -> None:
    with Store(tmp_path / "store") as store:
        store.cas.put_bytes(b"x" * 100)
        places = os.listdir(tmp_path / "store/tmp")
        assert store.cas.unfinished() == []
    with Store(tmp_path / "store"):
        assert sorted(os.listdir(tmp_path / "store/tmp")) == sorted(places)


def test_what_cannot_be_made(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        make_spread(str(tmp_path / "nowhere" / "x"))
