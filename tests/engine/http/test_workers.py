"""Workers: processes that come again, share connections, and end when they are told to."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import pytest
from attrs import define

from engine.http.sharing import Board
from engine.http.workers import listen
from store.errors import HostError, InputError

PATIENCE: Final = 30.0
GET: Final = b"GET /health HTTP/1.1\r\nhost: x\r\n\r\n"


@define
class Served:
    """A running `bn serve`."""

    process: subprocess.Popen[bytes]
    said: Path

    def workers(self) -> list[int]:
        """Return the processes that have the socket for clients: not the janitor."""
        return self.children()[:2]

    def children(self) -> list[int]:
        """Return the processes that it has started and that are there."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        return list(map(int, children.read_text().split()))


@contextlib.contextmanager
def served(place: Path, *bind: str) -> Iterator[Served]:
    options = [word for one in bind for word in ("--bind", one)]
    (place / "bn.toml").write_text("[serve.limits]\ngrace_seconds = 30\n")
    said = place / "said"
    command = [sys.executable, "-I", "-m", "engine.cli.main", "serve", "--workers", "2"]
    with open(said, "wb") as err:
        process = subprocess.Popen(
            [*command, "--config", str(place / "bn.toml"), *options],
            env={**os.environ, "BN_STORE": str(place / "store")},
            stderr=err,
        )
    try:
        settles(lambda: said.read_text().count("serving") == len(bind))
        yield Served(process, said)
    finally:
        process.kill()
        process.wait()
        settles(lambda: not of_store(place / "store"))


def of_store(store: Path) -> list[int]:
    """Return the processes that were told to serve a store."""
    wanted = f"BN_STORE={store}".encode()
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if wanted in (entry / "environ").read_bytes().split(b"\0"):
                found.append(int(entry.name))
    return found


def settles(looks: Callable[[], object]) -> None:
    end = time.monotonic() + PATIENCE
    while not looks():
        assert time.monotonic() < end
        time.sleep(0.02)


def free_port(family: socket.AddressFamily = socket.AF_INET, host: str = "127.0.0.1") -> int:
    with socket.socket(family) as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])


def asks(sock: socket.socket) -> bool:
    """Ask over a connection; say whether the answer is 200."""
    sock.settimeout(PATIENCE)
    sock.sendall(GET)
    return sock.recv(4096).startswith(b"HTTP/1.1 200")


def connected(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), PATIENCE)


def test_every_kind_of_address(tmp_path: Path) -> None:
    path = tmp_path / "s"
    port = free_port()
    six = free_port(socket.AF_INET6, "::1")
    with served(tmp_path, f"127.0.0.1:{port}", f"[::1]:{six}", f"unix:{path}") as running:
        with connected(port) as sock:
            assert asks(sock)
        with socket.create_connection(("::1", six)) as sock:
            assert asks(sock)
        with socket.socket(socket.AF_UNIX) as sock:
            sock.connect(str(path))
            assert asks(sock)
        running.process.send_signal(signal.SIGTERM)
        assert running.process.wait(PATIENCE) == 0
        assert not path.exists()


def test_a_worker_that_dies_comes_again(tmp_path: Path) -> None:
    port = free_port()
    with served(tmp_path, f"127.0.0.1:{port}") as running:
        with connected(port) as sock:
            assert asks(sock)
        before = running.workers()
        for pid in before:
            os.kill(pid, signal.SIGKILL)
        settles(lambda: running.said.read_text().count("is started again") == 2)
        with connected(port) as sock:
            assert asks(sock)
        assert not set(before) & set(running.workers())


def test_the_end_is_graceful_and_a_second_signal_is_not(tmp_path: Path) -> None:
    port = free_port()
    put = b"PUT /generic/a HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\n\r\nhe"
    for signals in (1, 2):
        with served(tmp_path, f"127.0.0.1:{port}") as running, connected(port) as sock:
            assert asks(sock)
            sock.sendall(put)
            time.sleep(0.3)
            running.process.send_signal(signal.SIGTERM)
            settles(lambda: refuses(port))
            if signals == 1:
                sock.sendall(b"llo")
                assert sock.recv(4096).startswith(b"HTTP/1.1 200")
                assert sock.recv(1) == b""
            else:
                running.process.send_signal(signal.SIGTERM)
            assert running.process.wait(PATIENCE) == 0


def test_workers_end_with_their_parent(tmp_path: Path) -> None:
    port = free_port()
    with served(tmp_path, f"127.0.0.1:{port}") as running:
        workers = running.workers()
        running.process.kill()
        settles(lambda: not any(is_alive(pid) for pid in workers))


def test_processes_that_were_just_started_end_with_their_parent(tmp_path: Path) -> None:
    port = free_port()
    with served(tmp_path, f"127.0.0.1:{port}") as running:
        before = running.children()
        for pid in before:
            os.kill(pid, signal.SIGKILL)
        settles(lambda: set(running.children()) - set(before))
        running.process.kill()
        settles(lambda: not of_store(tmp_path / "store"))


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def refuses(port: int) -> bool:
    try:
        connected(port).close()
    except ConnectionRefusedError:
        return True
    return False


def test_connections_are_shared_out(tmp_path: Path) -> None:
    port = free_port()
    with served(tmp_path, f"127.0.0.1:{port}") as running, contextlib.ExitStack() as stack:
        for _ in range(40):
            sock = stack.enter_context(connected(port))
            assert asks(sock)
        found = [sockets(pid, port) for pid in running.workers()]
        assert sum(found) == 40
        assert max(found) <= 22


def sockets(pid: int, port: int) -> int:
    """Count a process's connections at a port."""
    inodes = set()
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        words = line.split()
        if words[1].endswith(f":{port:04X}") and words[3] == "01":
            inodes.add(f"socket:[{words[9]}]")
    links = []
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(OSError):
            links.append(os.readlink(entry))
    return sum(link in inodes for link in links)


def test_who_has_the_fewest_is_given_new_ones() -> None:
    board = Board(3)
    with socket.socket() as sock:
        assert not board.give(0, sock), "all have none"
        board.hold(0, 2)
        board.hold(1, 1)
        assert board.give(0, sock)
        assert board.give(0, sock), "the one that was given counts"
        assert not board.give(2, sock)
        board.hold(0, 0)
        assert not board.give(0, sock)
    board.close()


@pytest.mark.parametrize("place", ["", "here", "1.2.3.4", "127.0.0.1:http", "127.0.0.1:70000"])
def test_what_is_no_address(place: str) -> None:
    with pytest.raises(InputError, match="bind"):
        listen([place])


def test_an_address_that_is_taken() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(HostError, match="cannot listen"):
            listen([f"127.0.0.1:{port}"])


def test_a_socket_that_was_left_is_taken_over(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(path))
    for sock in listen([f"unix:{path}"]):
        with pytest.raises(HostError):
            listen([f"unix:{path}"])
        sock.close()
