"""A server in processes of its own, and a client that says exactly what it is told to say."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final, Self

from attrs import define

from store.store import Store
from store.verify import verify

PATIENCE: Final = 30.0
"""Seconds after which a test gives up."""


@define
class Answer:
    """A response, read strictly."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def text(self) -> str:
        """The body as text."""
        return self.body.decode(errors="replace")


class Client:
    """A connection to the server."""

    def __init__(self, port: int, *, receive: int = 0) -> None:
        """`receive` makes the receive buffer so small, in bytes."""
        self.sock = socket.socket()
        self.sock.settimeout(PATIENCE)
        if receive:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive)
        try:
            self.sock.connect(("127.0.0.1", port))
        except OSError:
            self.sock.close()
            raise
        self.rest = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection."""
        self.sock.close()

    def reset(self) -> None:
        """End the connection with a reset."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        self.sock.close()

    def send(self, data: bytes) -> bool:
        """Send it all; say whether the server took it."""
        try:
            self.sock.sendall(data)
        except (BrokenPipeError, ConnectionResetError):
            return False
        return True

    def answers(self) -> list[Answer]:
        """Return all answers until the server closes; what it still says is to be none but them."""
        found = []
        while (answer := self.answer()) is not None:
            found.append(answer)
        assert not self.rest, f"half an answer: {self.rest!r}"
        return found

    def raw_answers(self) -> list[Answer]:
        """Return all answers to requests of which nobody knows which they were: one that has no
        body where its length says so was to HEAD."""
        while self._more():
            pass
        found = []
        while self.rest:
            rest = self.rest
            try:
                answer = self.answer()
            except AssertionError:
                self.rest = rest
                answer = self.answer("HEAD")
            if answer is not None and self.rest and not self.rest.startswith(b"HTTP/1.1 "):
                self.rest = rest
                answer = self.answer("HEAD")
            assert answer is not None, f"half an answer: {rest!r}"
            found.append(answer)
        return found

    def answer(self, method: str = "GET") -> Answer | None:
        """Return the next final answer; None where the server closed."""
        while True:
            head = self._until(b"\r\n\r\n")
            if head is None:
                return None
            first, *lines = head.decode("latin-1").split("\r\n")
            version, status, *_ = first.split(" ", 2)
            assert version == "HTTP/1.1", f"no answer: {first!r}"
            if status != "100":
                break
        headers = {}
        for line in lines:
            name, colon, value = line.partition(":")
            assert colon, line
            assert name.lower() not in headers, f"{name} is there twice"
            headers[name.lower()] = value.strip()
        return Answer(int(status), headers, self._body(method, int(status), headers))

    def closed(self) -> bool:
        """Wait until the server closes the connection; say whether it did so without a word."""
        try:
            return self.sock.recv(1) == b""
        except ConnectionResetError:
            return True

    def _body(self, method: str, status: int, headers: Mapping[str, str]) -> bytes:
        if method == "HEAD" or status in (204, 304):
            return b""
        if headers.get("transfer-encoding") == "chunked":
            whole = b""
            while True:
                line = self._until(b"\r\n")
                assert line is not None, "it stops within a body in chunks"
                part = self._exactly(int(line, 16) + 2)
                assert part.endswith(b"\r\n")
                if part == b"\r\n":
                    return whole
                whole += part[:-2]
        return self._exactly(int(headers["content-length"]))

    def _until(self, end: bytes) -> bytes | None:
        while end not in self.rest:
            if not self._more():
                return None
        found, _, self.rest = self.rest.partition(end)
        return found

    def _exactly(self, size: int) -> bytes:
        while len(self.rest) < size:
            assert self._more(), f"{len(self.rest)} of {size} bytes came"
        found, self.rest = self.rest[:size], self.rest[size:]
        return found

    def _more(self) -> bool:
        try:
            data = self.sock.recv(1 << 16)
        except ConnectionResetError:
            return False
        self.rest += data
        return bool(data)


class Live:
    """A server over a store of its own."""

    def __init__(
        self,
        place: Path,
        *,
        workers: int = 1,
        limits: Mapping[str, int | str] | None = None,
        quotas: Mapping[str, str] | None = None,
        reserve: str = "",
        durability: str = "",
    ) -> None:
        """`limits` and the others stand in `[serve]`; `place` gets the configuration, the log, and
        the store, unless there is one."""
        self.place = place
        self.root = place / "store"
        self.log = place / "access.log"
        self.workers = workers
        self._config = ["[serve]", f"log = {json.dumps(str(self.log))}"]
        if reserve:
            self._config.append(f'reserve = "{reserve}"')
        if durability:
            self._config.append(f'durability = "{durability}"')
        for name, quota in (quotas or {}).items():
            self._config += [f"[serve.name_spaces.{name}]", f'quota = "{quota}"']
        self._config.append("[serve.limits]")
        self._config += [f"{name} = {json.dumps(value)}" for name, value in (limits or {}).items()]
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port: int = free.getsockname()[1]
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> Self:
        """Start it, and wait until it answers."""
        self.place.mkdir(exist_ok=True)
        config = self.place / "bn.toml"
        config.write_text("\n".join([*self._config, ""]))
        command = [sys.executable, "-I", "-m", "engine.cli.main", "serve"]
        command += ["--bind", f"127.0.0.1:{self.port}", "--config", str(config)]
        command += ["--store", str(self.root), "--workers", str(self.workers)]
        with (self.place / "stderr").open("ab") as said:
            self.process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=said, stderr=said, cwd=self.place
            )
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end and self.process.poll() is None:
            with contextlib.suppress(ConnectionError):
                self.ask("GET", "/health")
                return self
            time.sleep(0.05)
        raise AssertionError(f"the server did not start: {self.said()}")

    def client(self, *, receive: int = 0) -> Client:
        """Return a new connection."""
        return Client(self.port, receive=receive)

    def said(self) -> str:
        """Return what it wrote to its standard error."""
        return (self.place / "stderr").read_text()

    def ask(self, method: str, path: str, body: bytes = b"", **headers: str) -> Answer:
        """Return the answer to one proper request."""
        lines = [f"{method} {path} HTTP/1.1", "host: x", f"content-length: {len(body)}"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        with self.client() as client:
            client.send("\r\n".join([*lines, "", ""]).encode() + body)
            answer = client.answer(method)
            assert answer is not None, f"{method} {path}: no answer"
            return answer

    def works(self) -> None:
        """Check that it takes, and gives back, something new."""
        data = os.urandom(300)
        path = f"/cas/{hashlib.sha256(data).hexdigest()}"
        assert self.ask("PUT", path, data).status == 200
        answer = self.ask("GET", path)
        assert (answer.status, answer.body) == (200, data)
        assert self.process is not None
        assert self.process.poll() is None, "the server ended"
        assert "Traceback" not in self.said(), self.said()

    def pids(self) -> list[int]:
        """Return its processes; some may end while they are counted."""
        assert self.process is not None
        found = [self.process.pid]
        for pid in found:
            with contextlib.suppress(OSError):
                for task in os.listdir(f"/proc/{pid}/task"):
                    with contextlib.suppress(OSError):  # a thread that has just ended
                        children = Path(f"/proc/{pid}/task/{task}/children").read_text()
                        found += map(int, children.split())
        return found

    def memory(self) -> int:
        """Return the bytes of memory that its processes have, without those of files."""
        whole = 0
        for pid in self.pids():
            for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
                if line.startswith("Anonymous:"):
                    whole += int(line.split()[1]) * 1024
        return whole

    def logged(self, path: str) -> list[dict[str, Any]]:
        """Return the lines of the log about a path, once there are some."""
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            lines = self.log.read_text().splitlines() if self.log.exists() else []
            found = [line for line in map(json.loads, lines) if line["path"] == path]
            if found:
                return found
            time.sleep(0.05)
        raise AssertionError(f"the log says nothing of {path}")

    def metric(self, sample: str) -> float:
        """Return a sample of `/metrics`, 0 where it is not there."""
        for line in self.ask("GET", "/metrics").text.splitlines():
            if line.startswith(f"{sample} "):
                return float(line.rpartition(" ")[2])
        return 0.0

    def temporaries(self) -> list[str]:
        """Return the unfinished uploads."""
        return [str(path) for path in (self.root / "tmp").glob("*/*")]

    def settles(self, what: str, looks: Any) -> None:
        """Wait until `looks` gives something true."""
        end = time.monotonic() + PATIENCE
        while not looks():
            assert time.monotonic() < end, what
            time.sleep(0.02)

    def stop(self, how: int = signal.SIGTERM) -> None:
        """End it."""
        process, self.process = self.process, None
        if process is not None:
            process.send_signal(how)
            try:
                process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                raise

    def check(self) -> None:
        """End it, and check that all that it stored is right, and nothing unfinished is left."""
        self.stop()
        assert self.temporaries() == []
        with Store(self.root) as store:
            report = verify(store)
            assert not report.problems, report.problems


@contextlib.contextmanager
def living(place: Path, **settings: Any) -> Iterator[Live]:
    """Give a server while the context lasts; in the end it works, and its store is right."""
    live = Live(place, **settings).start()
    try:
        yield live
        live.works()
        live.check()
    finally:
        live.stop(signal.SIGKILL)
