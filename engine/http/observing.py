"""What the server's processes count, request by request, and how each sees what all counted.

A request costs some additions to plain integers. Once a second a process writes its numbers into a
file of its own in the directory of the server's run, which it keeps locked::

    RUN/worker-PID      two slots, written in turns: length, sequence, CRC-32, JSON
    RUN/ended           the counters of processes that are gone: they never go down
    RUN/lock            who reads, and who adds an ended process to `ended`

The room of the files is taken at the start, so that a full disk does not end the counting. Gauges
(connections, uploads) are those of living processes: who holds its file locked lives.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import struct
import time
import zlib
from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import trio
from attrs import define, field

if TYPE_CHECKING:
    from engine.http.access_log import AccessLog
    from engine.http.hooks import Ended

BOUNDS: Final = (
    *(0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5),
    *(1.0, 2.5, 5.0, 10.0, 30.0, 60.0),
)
"""Upper bounds in seconds of the latency histogram's buckets; one more takes what is longer."""

FLUSH_SECONDS: Final = 1.0
LOG_SECONDS: Final = 0.25
MOST_ROWS: Final = 1024
"""Combinations of labels that a process tells apart; those that come later are counted as `other`,
so that nobody fills the memory with names."""

_METHODS: Final = frozenset(
    (*("GET", "HEAD", "PUT", "POST", "DELETE", "OPTIONS"), "PROPFIND", "MKCOL", "MOVE", "COPY")
)
_OTHER: Final = "other"
_HEAD: Final = struct.Struct("<QII")
_SLOT: Final = 512 * 1024
_SIZES: Final = 4
"""Count, bytes received, bytes sent, seconds; the buckets come after them."""

RequestKey = tuple[str, str, str, int, str]
"""Adapter, name space, method, status, outcome."""
CountKey = tuple[str, str]
"""What is counted, and of what (a name space, a reason), or an empty text."""


@define
class Counts:
    """What was counted: by one process since it began, or by all."""

    requests: dict[RequestKey, list[float]] = field(factory=dict)
    """Count, bytes received, bytes sent, seconds, then the count of each bucket (not summed up)."""
    counts: dict[CountKey, float] = field(factory=dict)
    gauges: dict[CountKey, float] = field(factory=dict)

    def add(self, other: Counts, *, alive: bool) -> None:
        """Add what another process counted; its gauges only while it is alive."""
        for key, row in other.requests.items():
            mine = self.requests.get(key)
            self.requests[key] = [a + b for a, b in zip(mine, row, strict=True)] if mine else row
        for name, value in other.counts.items():
            self.counts[name] = self.counts.get(name, 0) + value
        for name, value in other.gauges.items() if alive else ():
            self.gauges[name] = self.gauges.get(name, 0) + value

    def encode(self) -> bytes:
        """Return the JSON form."""
        return json.dumps(
            {
                "requests": [[*key, row] for key, row in self.requests.items()],
                "counts": [[*key, value] for key, value in self.counts.items()],
                "gauges": [[*key, value] for key, value in self.gauges.items()],
            },
            separators=(",", ":"),
        ).encode()

    @classmethod
    def decode(cls, data: bytes) -> Counts:
        """Return what `encode` wrote; nothing where it is something else."""
        try:
            document: dict[str, Any] = json.loads(data)
            return cls(
                {(a, n, m, s, o): row for a, n, m, s, o, row in document["requests"]},
                {(what, of): value for what, of, value in document["counts"]},
                {(what, of): value for what, of, value in document["gauges"]},
            )
        except (ValueError, TypeError, KeyError):
            return cls()


class Observer:
    """Counts in one process; with the directory of a run it also tells what all processes counted.

    `connections` and `uploads` are to be set by whoever knows them.
    """

    def __init__(self, run: Path | None = None) -> None:
        """Count for the run whose directory is `run`, as `make_run` gave it, or for this process
        alone. To be made in the process that counts. Raises OSError."""
        self.connections = 0
        self.uploads = 0
        self.totals: Callable[[], Mapping[CountKey, float]] = dict
        """What others counted in this process, to be told as if it were counted here."""
        self._mine = Counts()
        self._run = run
        self._file = -1
        self._sequence = 0
        self._written = 0.0
        self._dirty = True
        self._gauges: dict[CountKey, float] = {}
        self._counts: dict[CountKey, float] = {}
        if run is not None:
            with _locked(run, fcntl.LOCK_EX):
                _take_up_ended(run)
                self._file = _claim(run / f"worker-{os.getpid()}")

    def request(self, ended: Ended) -> None:
        """Count a request that ended."""
        key = (ended.adapter, ended.name_space, ended.method, ended.status, ended.outcome)
        row = self._mine.requests.get(key)
        if row is None:
            row = self._row(key)
        seconds = ended.seconds
        row[0] += 1
        row[1] += ended.received
        row[2] += ended.sent
        row[3] += seconds
        row[_SIZES + bisect_left(BOUNDS, seconds)] += 1
        self._dirty = True

    def _row(self, key: RequestKey) -> list[float]:
        adapter, name_space, method, status, outcome = key
        rows = self._mine.requests
        if len(rows) >= MOST_ROWS:
            name_space = _OTHER
        if method not in _METHODS:
            method = _OTHER
        empty = [0.0] * (_SIZES + len(BOUNDS) + 1)
        return rows.setdefault((adapter, name_space, method, status, outcome), empty)

    def count(self, what: str, of: str = "", amount: float = 1) -> None:
        """Add to a counter of `COUNTERS` in `metrics.py`; `of` is the value of its label."""
        counts = self._mine.counts
        key = (what, of)
        if key not in counts and len(counts) >= MOST_ROWS:
            key = (what, _OTHER)
        counts[key] = counts.get(key, 0) + amount
        self._dirty = True

    def flush(self, *, now: bool = False) -> None:
        """Let the other processes see what was counted: once a second, or `now`."""
        clock = time.monotonic()
        if self._file < 0 or not (now or clock - self._written >= FLUSH_SECONDS):
            return
        told = self._told()
        if not self._dirty and told.gauges == self._gauges and told.counts == self._counts:
            return
        self._gauges, self._counts = told.gauges, told.counts
        self._dirty = False
        if not now:
            self._written = clock
        data = told.encode()
        if len(data) > _SLOT - _HEAD.size:
            return
        self._sequence += 1
        head = _HEAD.pack(len(data), self._sequence & 0xFFFFFFFF, zlib.crc32(data))
        with contextlib.suppress(OSError):
            os.pwrite(self._file, head + data, self._sequence % 2 * _SLOT)

    def all(self) -> Counts:
        """Return what all processes of the run counted until now, ended ones included."""
        self.flush(now=True)
        return self.seen()

    def seen(self) -> Counts:
        """Return what all processes of the run counted until they last flushed; for any thread."""
        if self._run is None:
            return self._told()
        with _locked(self._run, fcntl.LOCK_SH):
            whole = Counts.decode(_content(self._run / "ended"))
            for path, alive in _files(self._run):
                whole.add(_last(path), alive=alive)
        return whole

    def _told(self) -> Counts:
        """Return what is to be told of this process."""
        counts = dict(self._mine.counts)
        for key, value in self.totals().items():
            counts[key] = counts.get(key, 0) + value
        gauges = {("connections", ""): float(self.connections), ("uploads", ""): self.uploads}
        return Counts(dict(self._mine.requests), counts, gauges)

    def close(self) -> None:
        """Write what was counted for the last time."""
        self.connections = self.uploads = 0
        self.flush(now=True)
        if self._file >= 0:
            os.close(self._file)
            self._file = -1


async def keep_writing(observer: Observer, log: AccessLog | None) -> None:
    """Let others see what this process counts, and write its log, until cancelled."""
    while True:
        await trio.sleep(LOG_SECONDS)
        observer.flush()
        if log is not None and log.waits:
            await trio.to_thread.run_sync(log.flush)


def make_run(store: Path) -> Path:
    """Return a new directory for a run of the server over the store; those of runs whose process
    is gone are removed. Raises OSError."""
    place = store / "serve" / "runs"
    place.mkdir(parents=True, exist_ok=True)
    for entry in place.iterdir():
        if int(entry.name) == os.getpid() or not os.path.exists(f"/proc/{entry.name}"):
            shutil.rmtree(entry, ignore_errors=True)
    run = place / str(os.getpid())
    run.mkdir()
    return run


def _claim(path: Path) -> int:
    """Open a worker's file, with all its room taken, and lock it for as long as it is open."""
    path.unlink(missing_ok=True)
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        with contextlib.suppress(OSError):
            os.posix_fallocate(handle, 0, 2 * _SLOT)
        fcntl.flock(handle, fcntl.LOCK_EX)
    except BaseException:
        os.close(handle)
        raise
    return handle


def _take_up_ended(run: Path) -> None:
    """Add what processes counted that are gone to `ended`, and remove their files."""
    gone = [path for path, alive in _files(run) if not alive]
    if not gone:
        return
    whole = Counts.decode(_content(run / "ended"))
    for path in gone:
        whole.add(_last(path), alive=False)
    with contextlib.suppress(OSError):
        (run / "ended.new").write_bytes(whole.encode())
        os.replace(run / "ended.new", run / "ended")
        for path in gone:
            path.unlink()


@contextlib.contextmanager
def _locked(run: Path, how: int) -> Iterator[None]:
    handle = os.open(run / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(handle, how)
        yield
    finally:
        os.close(handle)


def _files(run: Path) -> Iterator[tuple[Path, bool]]:
    """Yield the workers' files, and whether the process lives."""
    for path in sorted(run.glob("worker-*")):
        try:
            handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            continue
        try:
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
            yield path, False
        except BlockingIOError:
            yield path, True
        finally:
            os.close(handle)


def _last(path: Path) -> Counts:
    """Return what the newer of the whole slots of a worker's file holds."""
    whole = _content(path)
    best, found = -1, b""
    for start in (0, _SLOT):
        if len(whole) < start + _HEAD.size:
            continue
        length, sequence, check = _HEAD.unpack_from(whole, start)
        data = whole[start + _HEAD.size : start + _HEAD.size + length]
        if sequence > best and len(data) == length and zlib.crc32(data) == check:
            best, found = sequence, data
    return Counts.decode(found)


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""
