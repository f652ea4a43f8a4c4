"""The question to a watcher, where there is none or something else answers."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from engine.record import read_record, write_record
from engine.watch.ask import ask
from store.ingest import signature


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """The place of a store; longer than a socket's address."""
    path = tmp_path / ("long" * 30)
    (path / "watch").mkdir(parents=True)
    return path


@contextlib.contextmanager
def answering(store: Path, answer: Callable[[bytes], bytes | None]) -> Iterator[list[bytes]]:
    """Answer on the store's socket (None: not at all); yield the packets that came."""
    handle = os.open(store / "watch", os.O_PATH)
    came: list[bytes] = []
    done = threading.Event()

    def serve() -> None:
        connection, _ = listening.accept()
        with connection:
            came.append(connection.recv(4096))
            reply = answer(came[-1])
            if reply is None:
                done.wait()
            else:
                connection.send(reply)

    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listening:
        listening.bind(f"/proc/self/fd/{handle}/socket")
        listening.listen()
        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        try:
            yield came
        finally:
            done.set()
            thread.join()
            os.close(handle)


@pytest.mark.parametrize(
    ("reply", "known"),
    [(b"=", True), (b"!", False), (b"?", None), (b"", None), (b"==", None), (b"\xff", None)],
)
def test_answers(store: Path, reply: bytes, known: bool | None) -> None:
    with answering(store, lambda packet: reply) as came:
        assert ask(str(store), "name", b"i" * 16) is known
    assert came[0].startswith(b"?" + b"i" * 16 + b"name\0mnt:[")


def test_silence_is_no_answer(store: Path) -> None:
    with answering(store, lambda packet: None):
        assert ask(str(store), "name", b"i" * 16) is None


def test_nobody_there(store: Path, tmp_path: Path) -> None:
    assert ask(str(store), "name", b"i" * 16) is None
    (store / "watch" / "socket").write_text("no socket")
    assert ask(str(store), "name", b"i" * 16) is None
    assert ask(str(tmp_path / "no store"), "name", b"i" * 16) is None


@pytest.mark.parametrize(("reply", "holds"), [(b"=", True), (b"!", False), (b"?", False)])
def test_a_record_believes_its_watcher(store: Path, reply: bytes, holds: bool) -> None:
    """It is asked instead of looking; where it does not know, the files are looked at."""
    file = store / "file"
    file.touch()
    write_record(store / "records" / "r", {str(file): signature(os.lstat(file))}, {}, "", "")
    file.unlink()
    with answering(store, lambda packet: reply):
        assert (read_record(store / "records" / "r") is not None) is holds
