"""Directories whose entries are spread over the disk."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from store.digest import digest_bytes
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


PUT = """
import sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from store.store import Store
with Store(Path(sys.argv[2])) as store:
    print("ready", flush=True)
    sys.stdin.readline()
    for number in range(300):
        store.cas.put_bytes(b"%d" % (number if number % 2 else 10 * number + int(sys.argv[3])))
"""


def test_directories_of_blobs_are_made_by_many_at_once(tmp_path: Path) -> None:
    here = str(Path(__file__).parents[2])
    for turn in range(3):
        place = tmp_path / f"store{turn}"
        Store(place).close()
        command = [sys.executable, "-c", PUT, here, str(place)]
        pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        putting = [subprocess.Popen([*command, str(number)], **pipes) for number in range(5)]
        for one in putting:
            assert one.stdout is not None
            assert one.stdout.readline() == "ready\n"
        for one in putting:
            assert one.stdin is not None
            one.stdin.write("go\n")
            one.stdin.flush()
        assert [(one.communicate(timeout=60), one.returncode)[1] for one in putting] == [0] * 5
        with Store(place) as store:
            assert all(store.cas.has(digest_bytes(b"%d" % number)) for number in range(1, 300, 2))
            assert store.cas.unfinished() == []
