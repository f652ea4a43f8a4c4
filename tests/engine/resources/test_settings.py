"""`[resources]` and `[benchmark]` of the configuration."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.resources.allocation import Share
from engine.resources.benchmark.due import Schedule
from engine.resources.settings import schedule, share


@pytest.fixture(autouse=True)
def user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user's configuration of its own."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "user"))
    (tmp_path / "user/bn").mkdir(parents=True)
    (tmp_path / "project").mkdir()
    return tmp_path / "user/bn/config.toml"


def test_nothing_is_said(tmp_path: Path) -> None:
    assert share(tmp_path / "project") == Share()
    assert schedule(tmp_path / "project") == Schedule()


def test_project_lies_over_user(user: Path, tmp_path: Path) -> None:
    user.write_text('[resources]\nstrategy = "fixed"\ncpus = 2\n[benchmark]\nautomatic = false\n')
    (tmp_path / "project/bn.toml").write_text(
        '[resources]\ncpus = 3\nmemory = "2GB"\n[benchmark]\nnetwork_days = 0.5\n'
    )
    told = share(tmp_path / "project")
    assert told == Share(strategy="fixed", cpus=3, memory=2 * 10**9)
    assert schedule(tmp_path / "project") == Schedule(automatic=False, network_days=0.5)
