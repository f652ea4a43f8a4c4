"""Directories whose entries are spread over the disk."""

from __future__ import annotations

import os
import subprocess
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from store.digest import Digest
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


def test_directories_of_blobs_are_made_by_many_at_once(tmp_path: Path) -> None:
    with Store(tmp_path / "store") as store:
        gate = threading.Barrier(4)

        def put(start: int) -> list[Digest]:
            gate.wait()
            return [store.cas.put_bytes(b"%d" % n) for n in range(start, start + 600)]

        with ThreadPoolExecutor(4) as pool:
            made = [digest for some in pool.map(put, range(0, 2400, 600)) for digest in some]
        assert [store.cas.get_bytes(digest) for digest in made] == [b"%d" % n for n in range(2400)]
        assert store.cas.unfinished() == []
        assert {digest[:2] for digest in made} <= {*os.listdir(tmp_path / "store/blobs")}
