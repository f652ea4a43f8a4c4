"""Helpers: what they do is the same as without them, whatever becomes of them."""

from __future__ import annotations

import errno
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from store.digest import MMAP_FROM, digest_bytes
from store.errors import BnError, HostError
from store.helpers import MOST, TOGETHER, Helpers
from store.objects import File
from store.store import Store
from store.tiers import NVME, TierSpec


@pytest.fixture
def helpers(store: Store, monkeypatch: pytest.MonkeyPatch) -> Iterator[Helpers]:
    """Two helpers, whatever the machine has."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2})
    with Helpers(store.cas) as made:
        yield made


def written(directory: Path, number: int) -> list[tuple[str, int, bool]]:
    """Write files, some of them empty, alike, executable or large; return them as wanted."""
    directory.mkdir()
    wanted = []
    for index in range(number):
        data = f"{index // 2}".encode() * (index % 5)
        if index % 97 == 7:
            data = data * MMAP_FROM
        file = directory / f"f{index}"
        file.write_bytes(data)
        wanted.append((str(file), len(data), index % 3 == 0))
    return wanted


def same(store: Store, wanted: list[tuple[str, int, bool]], files: list[File]) -> None:
    """Look whether these are the files that were wanted, and whether they are in the store."""
    for (path, _, executable), file in zip(wanted, files, strict=True):
        data = Path(path).read_bytes()
        assert file == File(digest_bytes(data), len(data), executable)
        assert Path(store.cas.path(file.digest, executable)).read_bytes() == data


def processes(helpers: Helpers) -> list[int]:
    """Return the helpers' processes."""
    return [helper._process for helper in helpers._all]


@pytest.mark.parametrize("alone", [False, True])
@pytest.mark.parametrize("number", [0, 1, TOGETHER, 12 * TOGETHER + 5])
def test_files_are_copied(
    store: Store, helpers: Helpers, tmp_path: Path, number: int, alone: bool
) -> None:
    wanted = written(tmp_path / "files", number)
    files = store.cas.copy_all(wanted, lambda: not alone)
    same(store, wanted, files)
    assert store.cas.copy_all(wanted, lambda: not alone) == files
    assert not store.cas.unfinished()


def test_what_helpers_copy_is_counted_and_made_durable(
    store: Store, helpers: Helpers, tmp_path: Path
) -> None:
    store.cas.sync()
    store.cas.take_added()
    wanted = [one for one in written(tmp_path / "files", 90) if one[1] < MMAP_FROM]
    files = store.cas.copy_all(wanted, lambda: False)
    assert store.cas.primary.is_dirty
    distinct = {(file.digest, file.executable): file.size for file in files}
    assert sum(store.cas.take_added().values()) == sum(distinct.values())


def test_two_threads_share_helpers(store: Store, helpers: Helpers, tmp_path: Path) -> None:
    wanted = [written(tmp_path / name, 600) for name in ("one", "other")]
    found: dict[int, list[File]] = {}

    def copy(number: int) -> None:
        found[number] = store.cas.copy_all(wanted[number], lambda: number == 0)

    threads = [threading.Thread(target=copy, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    for number in range(2):
        same(store, wanted[number], found[number])
    assert len(helpers._free) == 2


@pytest.mark.parametrize("when", ["before", "meanwhile"])
def test_a_helper_that_is_killed_is_done_without(
    store: Store, helpers: Helpers, tmp_path: Path, when: str
) -> None:
    wanted = written(tmp_path / "files", 3000)
    victims = processes(helpers)

    def kill() -> None:
        for number, victim in enumerate(victims):
            time.sleep(0.02 * number if when == "before" else 0.02 + 0.02 * number)
            os.kill(victim, signal.SIGKILL)

    thread = threading.Thread(target=kill)
    thread.start()
    if when == "before":
        thread.join()
    files = store.cas.copy_all(wanted)
    thread.join()
    same(store, wanted, files)
    assert helpers.call(_doubled, 4) == 8
    assert store.cas.primary.is_dirty


def test_one_that_hangs_is_waited_for_and_others_work(
    store: Store, helpers: Helpers, tmp_path: Path
) -> None:
    stopped = processes(helpers)[0]
    os.kill(stopped, signal.SIGSTOP)
    timer = threading.Timer(0.3, os.kill, (stopped, signal.SIGCONT))
    timer.start()
    try:
        wanted = written(tmp_path / "files", 400)
        same(store, wanted, store.cas.copy_all(wanted))
    finally:
        timer.join()


@pytest.mark.parametrize("alone", [False, True])
def test_a_file_that_is_gone_is_told(
    store: Store, helpers: Helpers, tmp_path: Path, alone: bool
) -> None:
    wanted = written(tmp_path / "files", 300)
    os.unlink(wanted[150][0])
    with pytest.raises(FileNotFoundError) as raised:
        store.cas.copy_all(wanted, lambda: not alone)
    assert raised.value.filename == wanted[150][0]


def test_a_file_that_cannot_be_read_is_told_by_its_name(
    store: Store, helpers: Helpers, tmp_path: Path
) -> None:
    wanted = [*written(tmp_path / "files", 40), (str(tmp_path), 10, False)]
    with pytest.raises(IsADirectoryError) as raised:
        store.cas.copy_all(wanted)
    assert raised.value.filename == str(tmp_path)


def test_a_store_that_cannot_be_written_is_told(
    store: Store, helpers: Helpers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for victim in processes(helpers):
        os.kill(victim, signal.SIGKILL)

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(type(store.cas.primary), "write", full)
    with pytest.raises(HostError, match="space"):
        store.cas.copy_all(written(tmp_path / "files", 90))


def test_a_tier_that_was_unmounted_is_not_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1})
    specs = [TierSpec(name=name, path=tmp_path / name, level=NVME) for name in ("fast", "slow")]
    wanted = written(tmp_path / "files", 90)
    with Store(tmp_path / "store", specs) as store:
        os.rename(tmp_path / "fast", tmp_path / "unmounted")
        (tmp_path / "fast").mkdir()
        store.cas.put_bytes(b"x")  # it is noticed
        assert store.cas.primary.name == "slow"
        with Helpers(store.cas):
            files = store.cas.copy_all(wanted, lambda: False)
        same(store, wanted, files)
    assert not any((tmp_path / "fast").iterdir())


def test_functions_are_called_elsewhere(helpers: Helpers) -> None:
    assert helpers.call(_doubled, 21) == 42
    assert helpers.call(_process) in processes(helpers)


@pytest.mark.parametrize("error", [BnError, KeyError, OSError])
def test_what_a_function_raises_is_raised(helpers: Helpers, error: type[Exception]) -> None:
    with pytest.raises(error):
        helpers.call(_failing, error.__name__)
    assert helpers.call(_doubled, 1) == 2


def test_one_begins_with_what_it_is_to_know(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2})
    with Helpers(store.cas, lambda: _known.append(os.getpid())) as helpers:
        one, two = (helpers._take() for _ in range(2))
        assert one is not None
        assert two is not None
        for helper in (one, two):
            helper.ask(_knows)
        knows = sorted((helper.answer() for helper in (one, two)), key=repr, reverse=True)
        assert knows == [([],), ([helpers._all[-1]._process],)]
        for helper in (two, one):
            helpers._give_back(helper)
        assert helpers.call(_knows) == [helpers._all[-1]._process]
    assert not _known


@pytest.mark.parametrize("error", [BnError("no"), KeyError("no")])
def test_what_fails_at_first_is_done_without(
    store: Store, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1})

    def failing() -> None:
        raise error

    with Helpers(store.cas, failing) as helpers:
        assert helpers.call(_process) in processes(helpers)


def test_they_import_nothing_through_what_is_closed_there(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Finder:
        """One with a file open."""

    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1})
    monkeypatch.setattr(sys, "meta_path", [Finder(), *sys.meta_path])
    with Helpers(store.cas) as helpers:
        assert "Finder" not in helpers.call(_finders)
        assert "PathFinder" in helpers.call(_finders)


def test_they_end_with_the_context(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(64)))
    with Helpers(store.cas) as made:
        running = processes(made)
        assert len(running) == MOST
        assert store.cas.helpers is made
    assert store.cas.copy_all([]) == []
    for process in running:
        assert not Path(f"/proc/{process}").exists()


def test_with_one_processor_there_are_none(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0})
    with Helpers(store.cas) as made:
        assert not processes(made)
        wanted = written(tmp_path / "files", 70)
        same(store, wanted, store.cas.copy_all(wanted, lambda: False))
        assert made.call(_process) == os.getpid()


def test_a_helper_keeps_nothing_open(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1})
    reads, writes = os.pipe()
    with open(tmp_path / "locked", "w") as file, Helpers(store.cas) as made:
        os.close(writes)
        assert made.call(_doubled, 1) == 2
        assert os.read(reads, 1) == b""  # nobody else has the other end
        kept = {
            os.readlink(f"/proc/{process}/fd/{number}")
            for process in processes(made)
            for number in os.listdir(f"/proc/{process}/fd")
        }
        assert file.name not in kept
    os.close(reads)


def _doubled(number: int) -> int:
    return 2 * number


_known: list[int] = []


def _knows() -> list[int]:
    return _known


def _finders() -> list[str]:
    return [getattr(one, "__name__", type(one).__name__) for one in sys.meta_path]


def _process() -> int:
    return os.getpid()


def _failing(name: str) -> None:
    raise {"BnError": BnError("no"), "KeyError": KeyError("no"), "OSError": OSError("no")}[name]
