"""The access log: whole JSON lines, whatever is logged, whoever else writes."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.http import access_log
from engine.http.access_log import LONGEST, AccessLog
from engine.http.hooks import Ended

ONE: dict[str, Any] = {
    "peer": "192.0.2.1",
    "identity": "ci",
    "name_space": "default",
    "adapter": "bazel",
    "method": "PUT",
    "path": "/cas/00",
    "status": 200,
    "received": 10,
    "sent": 0,
    "seconds": 0.25,
    "outcome": "stored",
    "request": "1-1",
}


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_line_says_all(tmp_path: Path) -> None:
    log = AccessLog(tmp_path / "log")
    log.line(Ended(**ONE))
    log.line(Ended(**ONE | {"status": 413, "why": "too large"}))
    log.close()
    first, second = lines(tmp_path / "log")
    assert {name: first[name] for name in ONE} == ONE
    assert first["time"] > 1e9
    assert "why" not in first
    assert second["why"] == "too large"
    assert (tmp_path / "log").stat().st_mode & 0o007 == 0, "it names who asked for what"


@given(st.text(), st.text())
def test_nothing_breaks_a_line(path: str, identity: str) -> None:
    log = AccessLog.__new__(AccessLog)
    log._waiting, log._size, log.dropped = [], 0, 0
    log.line(Ended(**ONE | {"path": path, "identity": identity}))
    text = log._waiting[0]
    assert text.endswith("}\n")
    assert text.count("\n") == 1
    assert json.loads(text)["identity"] == identity
    assert json.loads(text)["path"][:LONGEST] == path[:LONGEST]


def test_a_moved_file_is_opened_anew(tmp_path: Path) -> None:
    path = tmp_path / "log"
    log = AccessLog(path)
    log.line(Ended(**ONE))
    path.rename(tmp_path / "log.1")
    log.line(Ended(**ONE))
    log.reopen()
    log.line(Ended(**ONE))
    log.close()
    assert len(lines(tmp_path / "log.1")) == 2
    assert len(lines(path)) == 1


def test_where_it_cannot_be_opened_anew_the_old_one_goes_on(tmp_path: Path) -> None:
    place = tmp_path / "logs"
    place.mkdir()
    log = AccessLog(place / "log")
    place.rename(tmp_path / "moved")
    log.reopen()
    log.line(Ended(**ONE))
    log.close()
    assert len(lines(tmp_path / "moved" / "log")) == 1


def test_a_reader_that_stopped_holds_up_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(access_log, "MOST_WAITING", 10_000)
    reading, writing = os.pipe()
    log = AccessLog()
    log._handle = writing
    for _ in range(1000):
        log.line(Ended(**ONE))
    flushing = threading.Thread(target=log.flush)
    flushing.start()
    for _ in range(1000):
        log.line(Ended(**ONE))
    assert log._size < 11_000
    assert log.dropped > 0
    os.close(reading)
    flushing.join()
    os.close(writing)


def test_a_full_disk_loses_lines_and_says_how_many() -> None:
    log = AccessLog(Path("/dev/full"))
    log.line(Ended(**ONE))
    log.flush()
    assert log.dropped == 1
    log.close()


def test_processes_that_share_a_pipe_write_whole_lines(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    children = []
    for number in range(4):
        pid = os.fork()
        if pid == 0:
            try:
                log = AccessLog()
                log._handle = writing
                for index in range(200):
                    log.line(Ended(**ONE | {"request": f"{number}-{index}"}))
                    if index % 50 == 49:
                        log.flush()
            finally:
                os._exit(0)
        children.append(pid)
    os.close(writing)
    with os.fdopen(reading) as told:
        found = [json.loads(line)["request"] for line in told]
    for pid in children:
        os.waitpid(pid, 0)
    assert sorted(found) == sorted(f"{n}-{i}" for n in range(4) for i in range(200))
