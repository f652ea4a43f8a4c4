"""A disk that is full: uploads are refused with 507, reads go on, and later all works again."""

from __future__ import annotations

import errno
import hashlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.engine.http.abuse.live import Live, living

SIZE = 96
"""MiB of the disk."""


@pytest.fixture
def disk(place: Path) -> Iterator[Path]:
    """A small disk, on which the store is to be."""
    root = place / "store"
    root.mkdir(parents=True)
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={SIZE}m,nr_inodes=20000", "bn-test", root],
        capture_output=True,
        check=False,
    )
    if mounted.returncode:
        pytest.skip(f"no disk can be mounted: {mounted.stderr.decode()}")
    yield root
    subprocess.run(["umount", "-l", root], check=True)


def cas(data: bytes) -> str:
    return f"/cas/{hashlib.sha256(data).hexdigest()}"


def fill(disk: Path, leave: int) -> Path:
    """Let others take all but so many bytes."""
    path = disk / "others"
    with path.open("wb") as file:
        for _ in range(20):
            status = os.statvfs(disk)
            take = status.f_bavail * status.f_frsize - leave
            try:
                os.posix_fallocate(file.fileno(), 0, take)
            except OSError as error:  # The server has written since the disk was asked.
                if error.errno != errno.ENOSPC:
                    raise
                os.ftruncate(file.fileno(), 0)
            else:
                return path
    raise AssertionError("the disk does not come to rest")


def put_until_refused(live: Live, size: int) -> tuple[list[bytes], int]:
    """Upload until it is refused; return what was taken, and the refusal's status."""
    taken: list[bytes] = []
    for _ in range(200):
        data = os.urandom(size)
        answer = live.ask("PUT", cas(data), data)
        if answer.status != 200:
            assert live.ask("GET", cas(data)).status == 404
            return taken, answer.status
        taken.append(data)
    raise AssertionError("the disk takes everything")


@pytest.mark.parametrize("size", [1000, 100_000, 3_000_000])
def test_a_full_disk(disk: Path, place: Path, size: int) -> None:
    """Without a reserve: the disk is really full."""
    with living(place, reserve="0B") as live:
        kept = os.urandom(2_000_000)
        assert live.ask("PUT", cas(kept), kept).status == 200
        others = fill(disk, max(4 * size, 600_000))
        taken, status = put_until_refused(live, size)
        assert status == 507
        for data in [*taken, kept]:
            assert live.ask("GET", cas(data)).body == data, "reads go on"
        live.settles("something unfinished is left", lambda: not live.temporaries())
        assert live.ask("GET", "/health").status == 200
        others.unlink()
        live.settles("it stays refused", lambda: works(live, size))
        for data in [*taken, kept]:
            assert live.ask("GET", cas(data)).body == data


def works(live: Live, size: int) -> bool:
    """Say whether an upload is taken."""
    data = os.urandom(size)
    return live.ask("PUT", cas(data), data).status == 200


def test_the_reserve_is_not_touched(disk: Path, place: Path) -> None:
    with living(place, reserve="10MB") as live:
        kept = os.urandom(2_000_000)
        assert live.ask("PUT", cas(kept), kept).status == 200
        others = fill(disk, 5_000_000)
        live.settles("it does not notice", lambda: live.metric("bn_refusing_uploads") == 1)
        data = os.urandom(5_000_000)
        answer = live.ask("PUT", cas(data), data)
        assert answer.status == 507
        assert "kept back" in answer.text
        assert int(answer.headers["retry-after"]) > 0
        others.unlink()
        live.settles("it stays refused", lambda: works(live, 1000))


def test_it_says_that_it_is_full(disk: Path, place: Path) -> None:
    with living(place, reserve="10MB") as live:
        others = fill(disk, 5_000_000)
        live.settles("it does not notice", lambda: live.metric("bn_refusing_uploads") == 1)
        live.settles("it does not notice", lambda: '"full"' in live.ask("GET", "/health").text)
        assert live.ask("GET", "/health").status == 200, "it still reads"
        assert live.ask("PUT", "/x/a", b"data").status == 507
        (line,) = live.logged("/x/a")
        assert line["status"] == 507
        assert "kept back" in line["why"]
        others.unlink()
        live.settles("it does not notice", lambda: '"ok"' in live.ask("GET", "/health").text)


def test_the_oldest_entries_make_room(disk: Path, place: Path) -> None:
    """Others fill the disk: the janitor lets entries go, and uploads are taken again."""
    with living(place, reserve="10MB") as live:
        taken = []
        for _ in range(50):
            data = os.urandom(1_000_000)
            assert live.ask("PUT", cas(data), data).status == 200
            taken.append(data)
        fill(disk, 4_000_000)
        live.settles("it does not notice", lambda: live.metric("bn_refusing_uploads") == 1)
        live.settles("no room is made", lambda: works(live, 1000))
        assert live.ask("GET", cas(taken[0])).status == 404
        assert live.ask("GET", cas(taken[-1])).body == taken[-1]
        evicted = 'bn_evicted_entries_total{name_space="default"}'
        live.settles("nobody is told of it", lambda: live.metric(evicted) > 0)


def test_a_quota_holds(place: Path) -> None:
    with living(place, quotas={"small": "5MB"}) as live:
        for _ in range(40):
            data = os.urandom(500_000)
            assert live.ask("PUT", f"/ns/small{cas(data)}", data).status == 200
            assert live.ask("GET", f"/ns/small{cas(data)}").body == data
        assert live.metric('bn_entries_bytes{name_space="small"}') <= 5_000_000
        assert live.metric('bn_quota_bytes{name_space="small"}') == 5_000_000
        live.settles("the disk keeps it", lambda: held(live) < 8_000_000)
        too_large = os.urandom(5_000_001)
        assert live.ask("PUT", f"/ns/small{cas(too_large)}", too_large).status == 413


def held(live: Live) -> int:
    """Return the bytes of the blobs' files."""
    return sum(path.stat().st_size for path in (live.root / "blobs").rglob("*") if path.is_file())
