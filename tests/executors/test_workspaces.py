"""Workspaces that a process left which is gone, also where its number is used again."""

from __future__ import annotations

from pathlib import Path

from executors.stage import new_workspace
from store.owners import mark
from store.store import Store


def test_workspaces_are_known_by_when_their_process_began(tmp_path: Path) -> None:
    pid, start = mark().split("-")
    with Store(tmp_path / "store") as store:
        mine = new_workspace(store.work()).path
        left = store.work() / f"{pid}-{int(start) - 1}-0"
        (left / "build").mkdir(parents=True)
        kept = store.work() / f"kept-hello-{left.name}"
        kept.mkdir()
    assert mine.name.startswith(f"{mark()}-")
    with Store(tmp_path / "store"):
        assert not left.exists(), "another process had our number before"
        assert mine.exists()
        assert kept.exists(), "what was kept for somebody to look at is nobody's"
