"""A wall, and a cell behind it, that stand before there is a build: taken where they are as new
ones, else ended."""

from __future__ import annotations

import contextlib
import os
import re
import resource
import shutil
import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import trio

from executors import standing
from executors.base import Limits
from executors.cells import Kind
from executors.kernel import fixes_addresses
from executors.sandbox import Sandbox
from executors.stage import sandbox_root
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


def stand(places: tuple[Path, Path], kind: Kind | None = None) -> None:
    standing.stand(places[0].parent, kind)
    assert len(standing.descriptors()) == (2 if kind is None else 8)


@pytest.fixture
def kind(store: Store, tools: Digest) -> Kind:
    """What the actions here need."""
    return Kind.of(sandbox_root(store, (tools,)), Limits(wall_seconds=30))


def gone(group: int) -> bool:
    """Say whether no process of the group is left."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return True
    return False


async def test_actions_see_what_they_see_behind_a_new_one(
    store: Store, tools: Digest, places: tuple[Path, Path], kind: Kind
) -> None:
    said = []
    for ahead in ((), (None,), (kind,)):
        wall = None
        for one in ahead:
            stand(places, one)
            wall = standing.take(*places)
            assert wall is not None
        with contextlib.closing(Sandbox(store, wall)) as executor:
            runner = Runner(store, executor, tools)
            texts = [await runner.says(LOOK, files={"d/a": "1"}) for _ in range(2)]
            said.append([re.sub(NOW, "now", text) for text in texts])
    assert said[0] == said[1] == said[2]


class Taken:
    """A wall that stood with a cell, and whether an action ran in that."""

    def __init__(self, store: Store, tools: Digest) -> None:
        wall = standing.take(store.work(), store.trees())
        assert wall is not None
        self.wall = wall
        (self.cell,) = self.wall.cells
        self.executor = Sandbox(store, self.wall)
        self.runner = Runner(store, self.executor, tools)

    async def serves(self, **options: Any) -> bool:
        assert await self.runner.says("ls -A /build /bn /tmp; echo $out", **options) == NEW
        return os.path.exists(self.cell.path)

    def close(self) -> None:
        self.executor.close()
        assert gone(self.wall.pid)
        assert not os.path.exists(self.cell.path)


NEW = """\
/bn:
out

/build:

/tmp:
/bn/out
"""


async def test_a_cell_serves_who_needs_its_kind(
    store: Store, tools: Digest, places: tuple[Path, Path], kind: Kind
) -> None:
    stand(places, kind)
    with contextlib.closing(Taken(store, tools)) as taken:
        taken.executor.prepare((tools,), Limits(wall_seconds=30))
        assert await taken.serves()
        assert len(os.listdir(places[0])) == 1, "no other one was made"
    assert not os.listdir(places[0])


async def test_a_cell_of_another_kind_is_not_taken(
    store: Store, tools: Digest, places: tuple[Path, Path], kind: Kind
) -> None:
    stand(places, kind)
    with contextlib.closing(Taken(store, tools)) as taken:
        await taken.serves(limits=Limits(wall_seconds=30, memory=1 << 30))
        assert len(os.listdir(places[0])) == 2


@pytest.mark.parametrize("how", ["moved", "made again", "gone"])
async def test_a_cell_with_a_root_that_was_collected_is_not_taken(
    store: Store, tools: Digest, places: tuple[Path, Path], kind: Kind, how: str
) -> None:
    stand(places, kind)
    if how == "moved":
        os.rename(kind.root, f"{kind.root}~")
    else:
        shutil.rmtree(kind.root)
    if how == "made again":
        assert str(sandbox_root(store, (tools,))) == kind.root
    with contextlib.closing(Taken(store, tools)) as taken:
        assert not await taken.serves()


@pytest.mark.parametrize("name", ["build", "log", "io/out"])
async def test_a_cell_whose_workspace_was_touched_is_not_taken(
    store: Store, tools: Digest, places: tuple[Path, Path], kind: Kind, name: str
) -> None:
    stand(places, kind)
    (workspace,) = places[0].iterdir()
    (workspace / name).chmod(0o777)
    with contextlib.closing(Taken(store, tools)) as taken:
        assert not await taken.serves()


@pytest.mark.parametrize("what", ["cell", "server"])
async def test_a_cell_that_died_meanwhile_is_not_taken(
    store: Store, tools: Digest, places: tuple[Path, Path], kind: Kind, what: str
) -> None:
    stand(places, kind)
    with contextlib.closing(Taken(store, tools)) as taken:
        taken.wall.ready()
        channel = taken.cell._channel._socket
        await until(lambda: b"ready" in channel.recv(65536, socket.MSG_PEEK))
        server, cell = psutil.Process(taken.wall.pid).children(recursive=True)[-2:]
        if what == "cell":
            cell.kill()
            await until(lambda: b"gone" in channel.recv(65536, socket.MSG_PEEK))
        else:
            server.kill()
            await until(lambda: not taken.wall.alive)
        assert await taken.runner.says("echo done") == "done\n"


async def until(there: Callable[[], bool]) -> None:
    with trio.fail_after(30):
        is_there = False
        while not is_there:
            await trio.sleep(0.01)
            with contextlib.suppress(BlockingIOError):
                is_there = there()


def test_nothing_is_left_of_a_cell(places: tuple[Path, Path], kind: Kind) -> None:
    stand(places, kind)
    assert os.listdir(places[0])
    standing.end()
    assert not os.listdir(places[0])


def test_a_wall_stands_without_a_cell_where_there_is_no_root(
    places: tuple[Path, Path], kind: Kind
) -> None:
    shutil.rmtree(kind.root)
    standing.stand(places[0].parent, kind)
    assert len(standing.descriptors()) == 2
    assert not os.listdir(places[0])


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


async def test_its_descriptors_may_have_other_numbers(
    store: Store, tools: Digest, places: tuple[Path, Path], kind: Kind
) -> None:
    stand(places, kind)
    before = standing.descriptors()
    standing.moved(tuple(map(os.dup, before)))
    for number in before:
        os.close(number)
    with contextlib.closing(Taken(store, tools)) as taken:
        assert await taken.serves()


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


@pytest.mark.parametrize("change", [umask, limit, blocked, processors])
def test_who_is_otherwise_gets_a_new_one(
    places: tuple[Path, Path], change: Callable[[], contextlib.AbstractContextManager[None]]
) -> None:
    stand(places)
    with change():
        assert standing.take(*places) is None


def test_who_ignores_signals_gets_the_same(places: tuple[Path, Path]) -> None:
    stand(places)
    with ignored():
        wall = standing.take(*places)
    assert wall is not None
    wall.drop()


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
