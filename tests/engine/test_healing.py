"""The store opened by several at once, and healed."""

from pathlib import Path
from typing import Any

import pytest

from engine.config import Config
from engine.healing import open_healed
from store.index import Index, Table
from store.policy import Policy
from store.store import Store

CONFIG = Config(policy=Policy(), tiers=(), files=())
NOTE = (Table.HISTORY, "a step", b"its runs")


def test_a_store_that_is_being_made_is_not_one_whose_index_is_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []

    def make_after_another(*arguments: Any, **options: Any) -> Any:
        monkeypatch.undo()
        with open_healed(tmp_path, CONFIG, told.append) as store:
            store.index.write([NOTE])
        return Index(*arguments, **options)

    monkeypatch.setattr("store.store.Index", make_after_another)
    with Store(tmp_path) as store:
        assert store.index.get(*NOTE[:2]) == NOTE[2]
    assert not told


def test_an_index_that_is_lost_is_made_again(tmp_path: Path) -> None:
    told: list[str] = []
    with Store(tmp_path) as store:
        store.index.write([NOTE])
    for file in (tmp_path / "index").iterdir():
        file.unlink()
    with open_healed(tmp_path, CONFIG, told.append) as store:
        assert store.index.get(*NOTE[:2]) is None
    assert len(told) == 1
