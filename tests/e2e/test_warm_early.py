"""What was worked out before anybody asked for it is used where it is right, and nowhere else."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from attrs import define

from engine import __version__
from engine.plan import Cached, Run
from engine.record import Record, record_path
from engine.request import Prepared
from engine.watch import early
from engine.watch.early import Command, Early
from engine.watch.told import told
from store import stock
from store.alone import alone
from store.ingest import RACY_NS
from store.ingest import signature as signature_of
from tests.e2e.warming import SECONDS, until

if TYPE_CHECKING:
    from tests.e2e.warming import Warm

COMMAND = ("bn", "build")


@pytest.fixture(autouse=True)
def _nothing_is_left(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(stock, "_missed", None)
    yield
    early.work_out(None)


@define
class Here:
    """A project that this process stands in as a worker does that waits, and its watcher."""

    warm: Warm
    monkeypatch: pytest.MonkeyPatch

    @property
    def directory(self) -> Path:
        return self.warm.bn.directory

    def settle(self) -> None:
        """Build when all files are old enough, and wait until the watcher vouches for that."""
        self.warm.edit()
        time.sleep(2 * RACY_NS / 1e9)
        self.warm.bn("build")
        until(lambda: self._states() == {"watched"})

    def _states(self) -> set[str]:
        records = self.warm.bn.json("watch", "--status").get("records", ())
        return {one["state"] for one in records if one["directory"] == str(self.directory)}

    def work_out(self) -> None:
        early.work_out(self.record())
        self.monkeypatch.chdir(self.directory)

    def record(self) -> Path:
        """Return where the record of `COMMAND` lies."""
        words = [__version__, *COMMAND[2:]]
        return Path(record_path(self.warm.bn.store, words, str(self.directory)))

    def take(self, *command: str) -> Early | None:
        self.monkeypatch.setattr(sys, "argv", [*(command or COMMAND)])
        return early.take()

    @contextmanager
    def prepared(self) -> Iterator[Prepared | None]:
        """Give what a build would have of what was worked out."""
        found = self.take()
        if found is None:
            yield None
            return
        with found.store as store, store.lease("build", found.since):
            yield found.prepared(told(str(store.root)))

    def is_right(self) -> bool:
        with self.prepared() as found:
            return found is not None


@pytest.fixture
def here(warm: Warm, monkeypatch: pytest.MonkeyPatch) -> Here:
    monkeypatch.setattr("engine.watch.told.SECONDS", SECONDS)  # the machine may be busy
    for name, value in warm.bn.env.items():
        monkeypatch.setenv(name, value)
    warm.bn("watch", "--stop")
    warm.bn("watch", "--no-warm")  # whose worker would do the same at the same time
    made = Here(warm, monkeypatch)
    made.settle()
    return made


def test_what_is_worked_out_is_what_a_build_does(here: Here) -> None:
    here.warm.edit()
    before = sorted(os.listdir("/proc/self/fd"))
    here.work_out()
    assert sorted(os.listdir("/proc/self/fd")) == before  # nothing of the store is open
    assert not list((here.warm.bn.store / "leases").iterdir())
    with here.prepared() as found:
        assert found is not None
        step = found.plan.others["copy"]
        assert isinstance(step, Run)
        assert "a.txt changed" in step.reason
        taken = found.evaluation.taken_ns
    assert taken > os.stat(here.directory / "src/a.txt").st_mtime_ns
    here.warm.bn("build")
    assert here.warm.bn.result("copy").startswith(f"n{here.warm.number} ")


def test_a_build_uses_it(warm: Warm, monkeypatch: pytest.MonkeyPatch) -> None:
    here = Here(warm, monkeypatch)

    def used() -> int:
        here.settle()
        warm.edit()
        before = warm.status()["handed"]
        said = warm.bn("build")
        assert warm.bn.result("copy").startswith(f"n{warm.number} ")
        assert "1 built" in said.stderr
        until(lambda: warm.status()["handed"] > before)
        return int(warm.status()["early"])

    assert until(used) >= 1
    assert "worked out before)" in warm.bn("watch", "--status").stdout


def again(here: Here) -> None:
    here.warm.edit()


def another_file(here: Here) -> None:
    (here.directory / "src" / "b.txt").write_text("other\n")


def another_build(here: Here) -> None:
    here.warm.bn("build", "test")


def collected(here: Here) -> None:
    here.warm.bn("store", "gc")


def index_made_again(here: Here) -> None:
    here.warm.bn("store", "rebuild-index")


def test_the_first_build_after_the_start_uses_it(
    warm: Warm, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = Here(warm, monkeypatch)

    def used() -> int:
        here.settle()
        warm.bn("watch", "--stop")
        warm.bn("watch")
        warm.zygote()
        assert warm.status()["stock"] > 0
        until(lambda: here._states() == {"watched"})
        warm.edit()
        time.sleep(0.1)  # a worker is forked, and works it out
        warm.handed(1, lambda: warm.bn("build"))
        assert warm.bn.result("copy").startswith(f"n{warm.number} ")
        return int(until(lambda: warm.status()["early"]))

    assert until(used) == 1


def test_a_rehearsal_notes_what_a_build_needs(here: Here) -> None:
    stock.note()
    early.rehearse(here.record())
    kinds = {kind for kind, _ in stock.noted()}
    assert {stock.MEMO, stock.CELL} <= kinds
    assert here.take() is None
    for spoilt in (b"", here.record().read_bytes()[:-1]):
        here.warm.edit()
        stock.note()
        early.rehearse(here.record())  # a file is other than it was
        assert not stock.noted()
        here.settle()
        here.record().write_bytes(spoilt)
        early.rehearse(here.record())
        assert not stock.noted()


def test_what_was_asked_for(here: Here) -> None:
    assert Command.of(here.record()) == Command(str(here.directory), COMMAND)
    here.warm.bn("build", "copy", "-j1")
    words = [__version__, "copy", "-j1"]
    other = record_path(here.warm.bn.store, words, str(here.directory))
    assert Command.of(Path(other)).words == (*COMMAND, "copy", "-j1")
    of_another = Path(other).with_name("0" * 32)
    of_another.write_bytes(Path(other).read_bytes())
    with pytest.raises(ValueError):
        Command.of(of_another)
    timeline = Path(Record(Path(other).read_bytes()).timeline)
    for spoilt in (b"", b"{}\n", b"[1]\n", b"\xff\n"):
        timeline.write_bytes(spoilt)
        with pytest.raises(ValueError):
            Command.of(Path(other))
    timeline.unlink()
    with pytest.raises(OSError):
        Command.of(Path(other))


@pytest.mark.parametrize(
    "change", [again, another_file, another_build, collected, index_made_again]
)
def test_it_is_not_used_where_something_changed(here: Here, change: Callable[[Here], None]) -> None:
    here.warm.edit()
    here.work_out()
    change(here)
    assert not here.is_right()
    here.warm.bn("build")
    assert here.warm.bn.result("copy").startswith(f"n{here.warm.number} ")


def test_it_is_used_where_nothing_changed(here: Here) -> None:
    here.warm.edit()
    here.work_out()
    assert here.is_right()


def test_contents_count_and_not_signatures_alone(
    here: Here, monkeypatch: pytest.MonkeyPatch
) -> None:
    here.warm.edit()
    here.work_out()
    path = here.directory / "src" / "a.txt"
    seen = path.stat()
    path.write_text(path.read_text().replace("n", "m"))
    os.utime(path, ns=(seen.st_atime_ns, seen.st_mtime_ns))
    # no file system gives an old change time back: one with a coarse clock would show this
    same = (seen.st_mtime_ns, seen.st_ctime_ns, seen.st_size, seen.st_ino)
    monkeypatch.setattr(early, "signature", lambda status: (*same[:2], *signature_of(status)[2:]))
    assert not here.is_right()


def test_a_store_of_another_format(here: Here) -> None:
    here.warm.edit()
    here.work_out()
    (here.warm.bn.store / "format").write_text("1\n")
    assert here.take() is None


def test_nothing_is_worked_out_of_a_large_graph(here: Here) -> None:
    here.monkeypatch.setattr("engine.kept_graph.LARGE", 0)
    here.warm.edit()
    here.work_out()
    assert here.take() is None


def test_something_else_is_asked_for(here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    here.warm.edit()
    here.work_out()
    assert here.take("bn", "build", "-k") is None
    here.work_out()
    monkeypatch.chdir(here.directory.parent)
    assert here.take() is None
    here.work_out()
    (here.directory / "bn.toml").write_text("[store]\nkeep_days = 3\n")
    assert here.take() is None
    (here.directory / "bn.toml").unlink()
    here.work_out()
    monkeypatch.setenv("HOME", "/nowhere")
    assert here.take() is None


def test_nothing_is_worked_out_of_more_than_contents(here: Here) -> None:
    (here.directory / "src" / "new.txt").write_text("new\n")
    here.work_out()
    assert here.take() is None
    here.settle()
    spec = here.directory / "spec.toml"
    spec.write_text(spec.read_text().replace("cat src/a.txt >", "cat < src/a.txt >"))
    here.work_out()
    assert here.take() is None


def test_nothing_is_worked_out_while_somebody_collects(here: Here) -> None:
    here.warm.edit()
    with alone(here.warm.bn.store, "test"):
        here.work_out()
    assert here.take() is None
    here.work_out()
    assert here.is_right()


def test_a_change_that_makes_no_difference(here: Here) -> None:
    path = here.directory / "src" / "a.txt"
    path.write_text(path.read_text())
    here.work_out()
    with here.prepared() as found:
        assert found is not None
        assert all(isinstance(step, Cached) for step in found.plan.others.values())


def test_a_store_or_a_directory_that_is_gone(here: Here) -> None:
    here.warm.edit()
    moved = here.directory.rename(here.directory.with_name("moved"))
    early.work_out(here.record())
    moved.rename(here.directory)
    here.monkeypatch.chdir(here.directory)
    assert here.take() is None
    here.monkeypatch.setenv("BN_STORE", str(here.directory / "nothing"))
    here.work_out()
    assert here.take() is None
    assert not (here.directory / "nothing").exists()
