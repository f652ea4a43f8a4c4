"""Counts of several processes: what one tells is what all counted, also those that are gone."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from engine.http.adapters.operations import only
from engine.http.hooks import Ended
from engine.http.metrics import COUNTERS, NameSpace, Now, TierNow, exposition
from engine.http.observing import BOUNDS, MOST_ROWS, Observer, make_run

ORDER = ("adapter", "name_space", "tier", "level", "method", "status", "le", "version", "what")


def hit(observer: Observer, name_space: str = "default", seconds: float = 0.0003) -> None:
    observer.request(Ended("bazel", name_space, "GET", 200, 0, 4096, seconds, "hit"))


def samples(observer: Observer, **now: object) -> dict[str, dict[tuple[str, ...], float]]:
    """Return what the text says: by the sample's name, by the values of its labels."""
    told = Now(version="1", started=1.0, **now)  # type: ignore[arg-type]
    found: dict[str, dict[tuple[str, ...], float]] = {}
    for family in text_string_to_metric_families(exposition(observer.all(), told).decode()):
        for sample in family.samples:
            labels = tuple(sample.labels[name] for name in ORDER if name in sample.labels)
            assert len(labels) == len(sample.labels)
            found.setdefault(sample.name, {})[labels] = sample.value
    return found


class Worker:
    """A process that counts until it is killed or let end."""

    def __init__(self, run: Path, work: Callable[[Observer], None]) -> None:
        ready, tell = os.pipe()
        wait, self._held = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            try:
                os.close(self._held)
                observer = Observer(run)
                work(observer)
                if threading.active_count() == 1:
                    observer.flush(now=True)
                os.write(tell, b"!")
                os.read(wait, 1)  # the test is gone, however it ended
            finally:
                os._exit(1)
        os.close(tell)
        os.close(wait)
        said = os.read(ready, 1)
        os.close(ready)
        assert said == b"!"

    def kill(self) -> None:
        """Kill it, and wait until it is gone."""
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        os.close(self._held)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return make_run(tmp_path)


def test_a_request_is_counted_by_what_it_was(tmp_path: Path) -> None:
    observer = Observer()
    hit(observer)
    hit(observer, seconds=0.3)
    observer.request(Ended("bazel", "default", "PUT", 200, 70, 2, 120.0, "stored"))
    observer.request(Ended("nx", "team", "GET", 404, 0, 10, 0.001, "miss"))
    observer.connections, observer.uploads = 3, 1
    found = samples(observer)
    assert found["bn_requests_total"]["bazel", "default", "GET", "200"] == 2
    assert found["bn_hits_total"] == {("bazel", "default"): 2}
    assert found["bn_misses_total"] == {("nx", "team"): 1}
    assert found["bn_stored_total"] == {("bazel", "default"): 1}
    assert found["bn_received_bytes_total"]["bazel", "default"] == 70
    assert found["bn_sent_bytes_total"]["bazel", "default"] == 2 * 4096 + 2
    assert found["bn_connections"] == {(): 3}
    assert found["bn_uploads"] == {(): 1}
    buckets = found["bn_request_seconds_bucket"]
    assert buckets["bazel", "GET", "0.0005"] == 1
    assert buckets["bazel", "GET", "0.25"] == 1
    assert buckets["bazel", "GET", "0.5"] == 2
    assert buckets["bazel", "PUT", str(BOUNDS[-1])] == 0
    assert buckets["bazel", "PUT", "+Inf"] == 1
    assert found["bn_request_seconds_count"]["bazel", "GET"] == 2
    assert found["bn_request_seconds_sum"]["bazel", "PUT"] == 120.0


def test_a_bucket_takes_its_upper_bound() -> None:
    observer = Observer()
    hit(observer, seconds=BOUNDS[3])
    assert samples(observer)["bn_request_seconds_bucket"]["bazel", "GET", str(BOUNDS[3])] == 1


def test_one_tells_what_all_counted(run: Path) -> None:
    def work(observer: Observer) -> None:
        for _ in range(10):
            hit(observer)
        observer.count("evicted_entries", "team", 7)
        observer.connections = 5

    workers = [Worker(run, work) for _ in range(3)]
    mine = Observer(run)
    hit(mine)
    mine.connections = 1
    found = samples(mine)
    assert found["bn_hits_total"] == {("bazel", "default"): 31}
    assert found["bn_evicted_entries_total"] == {("team",): 21}
    assert found["bn_connections"] == {(): 16}
    for worker in workers:
        worker.kill()


def test_of_the_dead_their_counters_stay_and_their_gauges_go(run: Path) -> None:
    def work(observer: Observer) -> None:
        hit(observer)
        observer.connections = 5

    mine = Observer(run)
    for turn in range(1, 4):
        worker = Worker(run, work)
        assert samples(mine)["bn_connections"] == {(): 5}
        worker.kill()
        found = samples(mine)
        assert found["bn_hits_total"] == {("bazel", "default"): turn}
        assert found["bn_connections"] == {(): 0}
    last = Worker(run, work)
    assert len(list(run.glob("worker-*"))) == 2, "who begins takes up what the dead counted"
    last.kill()
    assert samples(mine)["bn_hits_total"] == {("bazel", "default"): 4}


def test_a_torn_write_leaves_the_numbers_before_it(run: Path) -> None:
    observer = Observer(run)
    hit(observer)
    observer.flush(now=True)
    hit(observer)
    observer.flush(now=True)
    path = next(run.glob("worker-*"))
    other = Observer.__new__(Observer)
    whole = path.read_bytes()
    place = whole.index(b'"requests":[["bazel","default","GET",200,"hit",[2.0')
    with path.open("r+b") as file:
        file.seek(place + 20)
        file.write(b"\0\0\0")
    other = Observer()
    other._run = run
    assert samples(other)["bn_hits_total"] == {("bazel", "default"): 1}


def test_names_do_not_fill_the_memory() -> None:
    observer = Observer()
    for number in range(2 * MOST_ROWS):
        hit(observer, f"space-{number}")
        observer.count("evicted_entries", f"space-{number}")
        observer.request(Ended("generic", "default", f"BREW{number}", 405, 0, 0, 0.1, ""))
    found = samples(observer)
    assert sum(map(len, (found["bn_hits_total"], found["bn_evicted_entries_total"]))) < (
        2 * MOST_ROWS + 10
    )
    assert sum(found["bn_hits_total"].values()) == 2 * MOST_ROWS
    assert sum(found["bn_evicted_entries_total"].values()) == 2 * MOST_ROWS
    methods = {key[2] for key in found["bn_requests_total"]}
    assert methods == {"GET", "other"}


def test_what_is_told_of_the_store() -> None:
    now = {
        "name_spaces": {"team": NameSpace(entries=3, bytes=10, quota=20)},
        "tiers": {"main": TierNow(level="NVMe", used=5, limit=6, free=7, ok=True)},
        "refusing": True,
    }
    found = samples(Observer(), **now)
    assert found["bn_entries"] == {("team",): 3}
    assert found["bn_entries_bytes"] == {("team",): 10}
    assert found["bn_quota_bytes"] == {("team",): 20}
    assert found["bn_tier_used_bytes"] == {("main", "NVMe"): 5}
    assert found["bn_tier_free_bytes"] == {("main", "NVMe"): 7}
    assert found["bn_refusing_uploads"] == {(): 1}
    assert found["bn_build_info"] == {("1",): 1}


def test_who_may_see_one_name_space_sees_no_other() -> None:
    observer = Observer()
    hit(observer, "mine")
    hit(observer, "secret")
    observer.count("evicted_bytes", "secret", 5)
    observer.count("collections")
    counts = only(observer.all(), frozenset({"mine"}))
    text = exposition(counts, Now(version="1", started=1.0)).decode()
    assert "secret" not in text
    assert 'bn_hits_total{adapter="bazel",name_space="mine"} 1.0' in text
    assert "bn_collections_total 1.0" in text


def test_a_label_cannot_break_the_text() -> None:
    observer = Observer()
    hit(observer, 'a"\n} 1\nevil 1')
    found = samples(observer)
    assert "evil" not in found
    assert sum(found["bn_hits_total"].values()) == 1


def test_every_counter_is_there_before_it_counted() -> None:
    text = exposition(Observer().all(), Now(version="1", started=1.0)).decode()
    for name in COUNTERS:
        assert f"# TYPE bn_{name}_total counter" in text


def test_runs_of_dead_servers_are_removed(tmp_path: Path) -> None:
    tokens = tmp_path / "serve" / "tokens.json"
    tokens.parent.mkdir()
    tokens.write_text("{}")
    gone = tmp_path / "serve" / "runs" / "999999999"
    gone.mkdir(parents=True)
    running = tmp_path / "serve" / "runs" / str(os.getppid())
    running.mkdir()
    run = make_run(tmp_path)
    assert not gone.exists()
    assert running.exists()
    assert list(run.iterdir()) == []
    assert tokens.exists()


def test_reading_while_others_write_never_shows_less(run: Path) -> None:
    def work(observer: Observer) -> None:
        def busy() -> None:
            while True:
                hit(observer)
                observer.flush(now=True)

        hit(observer)
        observer.flush(now=True)  # from here on one thread does that
        threading.Thread(target=busy, daemon=True).start()

    worker = Worker(run, work)
    mine = Observer(run)
    last = 0.0
    for _ in range(50):
        now = samples(mine)["bn_hits_total"]["bazel", "default"]
        assert now >= last
        last = now
    worker.kill()
    assert last > 0
