"""The cache server, killed with SIGKILL while eight clients upload, over and over: what it had
acknowledged is there afterwards, and nothing is served that is not whole.

`BN_KILLS=50` says how often.
"""

from __future__ import annotations

import hashlib
import os
import random
import signal
import threading
import time
from pathlib import Path
from typing import Final

import pytest
from attrs import define, field

from tests.engine.http.abuse.live import Client, Live, living

KILLS: Final = int(os.environ.get("BN_KILLS", "8"))
UPLOADERS: Final = 8
SIZES: Final = (0, 1, 300, 4096, 130_000, 140_000, 1_000_000, 3_000_000)
SAMPLE: Final = 100
"""Uploads of earlier turns that are looked at again after each kill; in the end all are."""


@define
class Uploads:
    """What was sent, by path: the data's SHA-256; and what of it was acknowledged."""

    sent: dict[str, str] = field(factory=dict)
    acknowledged: set[str] = field(factory=set)
    lock: threading.Lock = field(factory=threading.Lock)

    def upload(self, live: Live, seed: int) -> None:
        """Upload until the server is gone."""
        rng = random.Random(seed)
        try:
            client = live.client()
        except OSError:
            return
        with client:
            for number in range(1_000_000):
                data = rng.randbytes(rng.choice(SIZES))
                digest = hashlib.sha256(data).hexdigest()
                path = f"/cas/{digest}" if number % 2 else f"/x/{seed}-{number}"
                with self.lock:
                    self.sent[path] = digest
                if not self._put(client, path, data, chunked=number % 3 == 2):
                    return
                with self.lock:
                    self.acknowledged.add(path)

    def _put(self, client: Client, path: str, data: bytes, *, chunked: bool) -> bool:
        """Say whether an upload was acknowledged."""
        head = f"PUT {path} HTTP/1.1\r\nhost: x\r\n"
        body = data
        if chunked:
            head += "transfer-encoding: chunked\r\n"
            body = b"%x\r\n" % len(data) + data + b"\r\n" if data else b""
            body += b"0\r\n\r\n"
        else:
            head += f"content-length: {len(data)}\r\n"
        try:
            if not client.send(f"{head}\r\n".encode() + body):
                return False
            answer = client.answer()
        except (AssertionError, OSError):
            return False  # it was killed while it answered
        if answer is not None:
            assert answer.status == 200, answer
        return answer is not None

    def check(self, live: Live, paths: list[str]) -> None:
        """Check that what was acknowledged of `paths` is there, and that all that is there is
        whole."""
        with live.client() as client:
            for path in paths:
                client.send(f"GET {path} HTTP/1.1\r\nhost: x\r\n\r\n".encode())
                answer = client.answer()
                assert answer is not None, f"{path}: no answer"
                if answer.status == 404:
                    assert path not in self.acknowledged, f"{path}: lost"
                    continue
                assert answer.status == 200, answer
                found = hashlib.sha256(answer.body).hexdigest()
                assert found == self.sent[path], f"{path}: other bytes"


def kill_all(live: Live) -> None:
    """Kill all of the server's processes."""
    pids = live.pids()
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)  # so that none is started again meanwhile
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    live.stop(signal.SIGKILL)
    live.settles("some still live", lambda: not any(map(running, pids)))


def running(pid: int) -> bool:
    """Say whether a process is there, and no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def uploading(uploads: Uploads, live: Live, turn: int) -> list[threading.Thread]:
    """Start a turn's uploads; they do not outlive a test that fails."""
    seeds = range(turn * UPLOADERS, (turn + 1) * UPLOADERS)
    threads = [
        threading.Thread(target=uploads.upload, args=(live, seed), daemon=True) for seed in seeds
    ]
    for thread in threads:
        thread.start()
    return threads


@pytest.mark.parametrize("durability", ["process", "disk"])
def test_kills_lose_nothing_that_was_acknowledged(tmp_path: Path, durability: str) -> None:
    rng = random.Random(int.from_bytes(tmp_path.name.encode()[-4:]))
    uploads = Uploads()
    known: list[str] = []
    with living(tmp_path / "live", workers=2, durability=durability) as live:
        for turn in range(KILLS):
            threads = uploading(uploads, live, turn)
            time.sleep(rng.uniform(0.02, 0.6))
            kill_all(live)
            for thread in threads:
                thread.join()
            live.start()
            new = [path for path in uploads.sent if path not in set(known)]
            uploads.check(live, new)
            uploads.check(live, rng.sample(known, min(SAMPLE, len(known))))
            known += new
            live.stop()
            live.start()
        assert uploads.acknowledged, "nothing was acknowledged at all"
        uploads.check(live, known)
    print(f"{KILLS} kills: {len(known)} uploads, {len(uploads.acknowledged)} acknowledged")  # noqa: T201


def test_a_worker_that_is_killed_is_replaced(tmp_path: Path) -> None:
    uploads = Uploads()
    with living(tmp_path / "live", workers=2) as live:
        for turn in range(3):
            threads = uploading(uploads, live, turn)
            time.sleep(0.2)
            workers = live.pids()[1:]
            os.kill(workers[turn % len(workers)], signal.SIGKILL)
            live.settles("it is not replaced", lambda: len(live.pids()) == 4)
            live.works()
            live.stop()
            for thread in threads:
                thread.join()
            live.start()
        uploads.check(live, list(uploads.sent))
        assert uploads.acknowledged
