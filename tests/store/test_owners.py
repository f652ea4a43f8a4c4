"""Whose unfinished things are: also where a process has the id of one that is gone."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

from store.owners import is_abandoned, mark
from store.store import Store


def test_what_is_ours_is_not_abandoned() -> None:
    assert not is_abandoned(f"{mark()}-7")
    assert not is_abandoned(f"{os.getpid()}-7")
    assert not is_abandoned("t0123abcd")
    assert not is_abandoned("")


def test_who_is_gone_or_has_but_our_number_left_it() -> None:
    pid, start = mark().split("-")
    assert is_abandoned(f"{pid}-{int(start) - 1}-7")
    assert is_abandoned("999999999-7")
    assert is_abandoned(f"999999999-{start}-7")


def test_a_forked_process_has_a_mark_of_its_own() -> None:
    reading, writing = os.pipe()
    mine = mark()
    child = os.fork()
    if child == 0:
        os.write(writing, mark().encode())
        signal.pause()
    os.close(writing)
    theirs = os.read(reading, 100).decode()
    os.close(reading)
    assert theirs.startswith(f"{child}-")
    assert mark() == mine
    assert not is_abandoned(f"{theirs}-1")
    os.kill(child, signal.SIGKILL)
    while Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()[0] != "Z":
        time.sleep(0.01)
    assert is_abandoned(f"{theirs}-1"), "nobody has waited for it, and still it is gone"
    os.waitpid(child, 0)


def test_opening_a_store_removes_what_a_process_of_our_number_left(tmp_path: Path) -> None:
    pid, start = mark().split("-")
    with Store(tmp_path / "store") as store:
        place = Path(store.cas.primary.temporaries.directories()[1])
        mine = Path(store.cas.temporary())
    mine.write_bytes(b"mine")
    left = place / f"{pid}-{int(start) - 1}-0"
    left.write_bytes(b"left")
    with Store(tmp_path / "store"):
        assert not left.exists()
        assert mine.exists()
