"""A wall that stands before there is a build: taken where it is as a new one, else ended."""

from __future__ import annotations

import contextlib
import os
import re
import resource
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from executors import standing
from executors.kernel import fixes_addresses
from executors.sandbox import Sandbox
from executors.wall import Wall
from store.digest import Digest
from store.store import Store
from tests.conftest import Runner
from tests.executors.test_cells import LOOK

NOW = r"\b(?!1980)\d{4}-\d\d-\d\d [\d:.]+"
"""When /dev was made, which is another time for each sandbox."""


@pytest.fixture
def places(store: Store) -> Iterator[tuple[Path, Path]]:
    """The directories of a store that was used with a wall."""
    yield store.work(), store.trees()
    standing.end()


def stand(places: tuple[Path, Path]) -> None:
    standing.stand(places[0].parent)
    assert standing.descriptors()


def gone(group: int) -> bool:
    """Say whether no process of the group is left."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return True
    return False


async def test_actions_see_what_they_see_behind_a_new_one(
    store: Store, tools: Digest, places: tuple[Path, Path]
) -> None:
    said = []
    for ahead in (False, True):
        wall = None
        if ahead:
            stand(places)
            wall = standing.take(*places)
            assert wall is not None
        with contextlib.closing(Sandbox(store, wall)) as executor:
            runner = Runner(store, executor, tools)
            texts = [await runner.says(LOOK, files={"d/a": "1"}) for _ in range(2)]
            said.append([re.sub(NOW, "now", text) for text in texts])
    assert said[0] == said[1]


def test_it_is_taken_once(places: tuple[Path, Path]) -> None:
    was = fixes_addresses()
    stand(places)
    assert fixes_addresses() == was
    wall = standing.take(*places)
    assert wall is not None
    assert standing.take(*places) is None
    wall.ready()
    wall.close()
    assert gone(wall.pid)


def test_its_descriptors_may_have_other_numbers(places: tuple[Path, Path]) -> None:
    stand(places)
    before = standing.descriptors()
    standing.moved(tuple(map(os.dup, before)))
    for number in before:
        os.close(number)
    wall = standing.take(*places)
    assert wall is not None
    wall.ready()
    wall.close()


@contextlib.contextmanager
def umask() -> Iterator[None]:
    before = os.umask(0o077)
    yield
    os.umask(before)


@contextlib.contextmanager
def limit() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft - 1, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@contextlib.contextmanager
def ignored() -> Iterator[None]:
    before = signal.signal(signal.SIGUSR2, signal.SIG_IGN)
    yield
    signal.signal(signal.SIGUSR2, before)


@contextlib.contextmanager
def blocked() -> Iterator[None]:
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR2])
    yield
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGUSR2])


@contextlib.contextmanager
def processors() -> Iterator[None]:
    before = os.sched_getaffinity(0)
    if len(before) < 2:
        pytest.skip("one processor")
    os.sched_setaffinity(0, {min(before)})
    yield
    os.sched_setaffinity(0, before)


@pytest.mark.parametrize("change", [umask, limit, ignored, blocked, processors])
def test_who_is_otherwise_gets_a_new_one(
    places: tuple[Path, Path], change: Callable[[], contextlib.AbstractContextManager[None]]
) -> None:
    stand(places)
    with change():
        assert standing.take(*places) is None


@pytest.mark.parametrize("lost", [0, 1])
def test_a_store_that_was_wiped_gets_a_new_one(places: tuple[Path, Path], lost: int) -> None:
    stand(places)
    shutil.rmtree(places[lost])
    assert standing.take(*places) is None
    stood = places[lost].parent
    places[lost].mkdir()
    standing.stand(stood)
    places[lost].rename(stood / "aside")
    places[lost].mkdir()
    assert standing.take(*places) is None


def test_another_store_gets_a_new_one(places: tuple[Path, Path], tmp_path: Path) -> None:
    stand(places)
    assert standing.take(tmp_path / "work", tmp_path / "trees") is None


def test_other_programs_get_a_new_one(
    places: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = tmp_path / "code.py"
    code.write_text("one")
    monkeypatch.setattr(standing, "served", lambda: [str(code)])
    stand(places)
    code.write_text("other")
    assert standing.take(*places) is None
    stand(places)
    monkeypatch.setenv("PATH", str(tmp_path))
    (tmp_path / "bwrap").write_text("#!/bin/sh\nexit 1\n")
    (tmp_path / "bwrap").chmod(0o755)
    assert standing.take(*places) is None


def test_one_that_died_is_not_taken(places: tuple[Path, Path]) -> None:
    stand(places)
    assert standing._now.wall is not None
    os.killpg(standing._now.wall.pid, signal.SIGKILL)
    os.waitid(os.P_PID, standing._now.wall.pid, os.WEXITED | os.WNOWAIT)
    assert standing.take(*places) is None


def test_none_stands_for_a_store_that_had_none(tmp_path: Path) -> None:
    standing.stand(tmp_path)
    assert not standing.descriptors()
    assert standing.take(tmp_path / "work", tmp_path / "trees") is None


def test_one_that_is_dropped_at_once_leaves_no_process(places: tuple[Path, Path]) -> None:
    for _ in range(20):
        wall = Wall(*places)
        wall.drop()
        assert gone(wall.pid)
