"""A wall that is started before anything else of a build."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.ahead import Ahead
from engine.cli.plain import build_named
from engine.record import Stale, read_record, write_record
from executors import wall as walls
from store.errors import InputError
from store.ingest import signature
from store.leases import holders
from store.store import Store
from tests.executors.test_standing import gone


def test_it_is_given_to_who_needs_one_for_these_directories(store: Store) -> None:
    work, trees = store.work(), store.trees()
    walls.begin(str(store.root))
    wall = walls.begun(work, trees)
    assert wall is not None
    try:
        wall.ready()
        assert (wall.work, wall.trees) == (work, trees)
        assert walls.begun(work, trees) is None, "there is one, once"
    finally:
        wall.drop()
    assert gone(wall.pid)


def test_one_for_other_directories_is_ended(store: Store, tmp_path: Path) -> None:
    work, trees = store.work(), store.trees()
    walls.begin(str(store.root))
    [wall] = walls._begun
    assert walls.begun(tmp_path, trees) is None
    assert gone(wall.pid)
    assert walls.begun(work, trees) is None


def test_one_that_nobody_took_is_ended(store: Store) -> None:
    store.work(), store.trees()
    walls.begin(str(store.root))
    [wall] = walls._begun
    walls.end_begun()
    assert gone(wall.pid)


def test_none_is_started_for_a_store_that_had_none(tmp_path: Path) -> None:
    walls.begin(str(tmp_path))
    assert not walls._begun


@pytest.mark.parametrize("will_run", [None, True, False])
def test_a_wall_is_started_where_something_may_run(store: Store, will_run: bool | None) -> None:
    ahead = Ahead(store, "sandbox", will_run=will_run)
    ahead.start()
    try:
        assert (ahead._wall is None) == (will_run is False)
    finally:
        ahead.drop()


def test_nothing_is_started_for_a_build_before_it_has_its_lease(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A collection removes a root file system that nobody leased, under a cell that has it."""
    (tmp_path / "spec.toml").write_text("[package]\nname = 'none'\n")
    monkeypatch.chdir(tmp_path)
    root = tmp_path / "store"
    monkeypatch.setenv("BN_STORE", str(root))
    held: list[list[str]] = []

    def begin(self: Ahead) -> None:
        held.append([one.purpose for one in holders(root)])

    monkeypatch.setattr(Ahead, "begin", begin)
    mark = signature((tmp_path / "spec.toml").stat())
    source = str(tmp_path / "source")
    write_record(tmp_path / "record", {source: mark}, {}, "", "")
    stale: list[Stale] = []
    assert read_record(tmp_path / "record", tell=stale.append) is None
    assert build_named([], {}, stale[0]) == InputError.exit_code
    assert held == [["build"], ["build"]], "once early, and once by the build itself"
    assert holders(root) == []
