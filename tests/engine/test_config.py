"""Configuration: the project's file over the user's, defaults, faults at their places."""

from __future__ import annotations

import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest

from engine.config import load_config
from engine.spec.faults import SpecError
from store.policy import Policy
from store.tiers import HDD, NVME, RAM, SSD

Write = Callable[[str, str], Path]
ROOM = 100 * 10**9


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """Writes the configuration of the "user" or of the "project"; the latter is where we are."""
    project = tmp_path / "project" / "below"
    project.mkdir(parents=True)
    monkeypatch.chdir(project)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "home"))
    places = {
        "user": tmp_path / "home" / "bn" / "config.toml",
        "project": tmp_path / "project" / "bn.toml",
    }

    def put(whose: str, text: str) -> Path:
        places[whose].parent.mkdir(parents=True, exist_ok=True)
        places[whose].write_text(textwrap.dedent(text))
        return places[whose]

    return put


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine whose file systems are 100 GB large and empty."""
    monkeypatch.setattr("engine.config.total_bytes", lambda path: ROOM)
    monkeypatch.setattr("engine.config.free_bytes", lambda path: ROOM)


def test_nothing_configured_is_one_directory(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("engine.config.free_bytes", lambda path: 0)
    config = load_config(tmp_path / "store")
    assert [(tier.name, tier.path, tier.level) for tier in config.tiers] == [
        ("store", tmp_path / "store", NVME)
    ]
    assert config.policy == Policy()
    assert not config.files
    assert not config.configured


@pytest.mark.usefixtures("disk")
def test_ram_disk_with_room_is_used(write: Write, tmp_path: Path) -> None:
    config = load_config(tmp_path / "store")
    (ram,) = [tier for tier in config.tiers if tier.level == RAM]
    assert ram.max_size == 25 * 10**9
    other = load_config(tmp_path / "other")
    assert ram.path not in {tier.path for tier in other.tiers}


def test_project_is_over_user(write: Write, tmp_path: Path) -> None:
    write(
        "user",
        """
        [store]
        keep_days = 5
        max_size = "1GB"
        [tiers.main]
        path = "main"
        type = "ssd"
        max_size = "2GB"
        """,
    )
    write(
        "project",
        """
        [store]
        max_size = "3GB"
        [tiers.main]
        type = "hdd"
        """,
    )
    config = load_config(tmp_path / "store")
    assert (config.policy.keep_days, config.policy.max_size) == (5, 3 * 10**9)
    (tier,) = config.tiers
    assert (tier.level, tier.max_size) == (HDD, 2 * 10**9)
    assert tier.path == tmp_path / "home" / "bn" / "main"
    assert len(config.files) == 2


@pytest.mark.usefixtures("disk")
@pytest.mark.parametrize(
    ("text", "size"), [("25%", 25 * 10**9), ("40GB", 40 * 10**9), ("1GiB", 2**30), ("512", 512)]
)
def test_sizes_and_shares(write: Write, tmp_path: Path, text: str, size: int) -> None:
    write(
        "user",
        f"""
        [store]
        max_size = "{text}"
        [tiers.main]
        path = "/nowhere/at/all"
        type = "nvme"
        max_size = "{text}"
        """,
    )
    config = load_config(tmp_path / "store")
    assert config.policy.max_size == config.tiers[0].max_size == size


def test_thresholds(write: Write, tmp_path: Path) -> None:
    write(
        "user",
        """
        [store]
        hot_threshold_accesses = 9
        hot_threshold_hours = 2
        cold_threshold_hours = 7
        """,
    )
    policy = load_config(tmp_path / "store").policy
    assert (policy.hot_accesses, policy.hot_hours, policy.cold_hours) == (9, 2, 7)


@pytest.mark.parametrize(
    ("text", "place", "message", "hint"),
    [
        ('[tiers.a]\ntype = "hddd"\n', "2:8", "unknown type 'hddd'", "did you mean 'hdd'?"),
        ('[tiers.a]\ncleanup_policy = "lur"\n', "2:18", "unknown cleanup_policy 'lur'", "'lru'"),
        ('[store]\nmax_size = "much"\n', "2:12", "'much' is not a size", "512MB"),
        ('[tiers.a]\n\nmax_size = "1 XB"\n', "3:12", "'1 XB' is not a size", "512MB"),
        ("[store]\nkeep_dayz = 3\n", "2:1", "keep_dayz", "keep_days"),
    ],
)
def test_faults_are_placed(
    write: Write, tmp_path: Path, text: str, place: str, message: str, hint: str
) -> None:
    path = write("project", text)
    with pytest.raises(SpecError) as caught:
        load_config(tmp_path / "store")
    said = caught.value.render()
    assert f"{path.name}:{place}:" in said
    assert message in said
    assert hint in said


def test_all_faults_are_told_at_once(write: Write, tmp_path: Path) -> None:
    write("project", '[store]\nmax_size = "x"\n[tiers.a]\ntype = "y"\n')
    with pytest.raises(SpecError) as caught:
        load_config(tmp_path / "store")
    assert len(caught.value.faults) == 2


def test_what_was_kept_before_tiers_were_configured_is_not_lost(
    write: Write, tmp_path: Path
) -> None:
    write("user", '[tiers.fast]\npath = "fast"\ntype = "ssd"\n')
    (tmp_path / "store" / "blobs").mkdir(parents=True)
    config = load_config(tmp_path / "store")
    assert [(tier.name, tier.level) for tier in config.tiers] == [("fast", SSD), ("store", SSD)]
    assert config.configured == ("fast",)


def test_ram_disk_alone_gets_a_durable_tier(write: Write, tmp_path: Path) -> None:
    write("user", '[tiers.quick]\npath = "quick"\ntype = "ram"\n')
    config = load_config(tmp_path / "store")
    assert {tier.path for tier in config.tiers if tier.level != RAM} == {tmp_path / "store"}


def test_faults_of_entries_are_placed_at_these(write: Write, tmp_path: Path) -> None:
    write(
        "project",
        """
        [[cache.remotes]]
        url = "http://first"

        [[cache.remotes]]
        url = "second"

        [[serve.tls.clients]]
        name = "one"
        match = []

        [[serve.tls.clients]]
        match = []
        """,
    )
    with pytest.raises(SpecError) as caught:
        load_config(tmp_path / "store")
    assert "12:1: [serve]: 'name' is missing" in str(caught.value)


def test_an_address_is_placed_where_it_stands(write: Write, tmp_path: Path) -> None:
    write("project", '[[cache.remotes]]\nurl = "http://a"\n\n[[cache.remotes]]\nurl = "b"\n')
    with pytest.raises(SpecError, match=r":5:7: 'b' is no address of a cache"):
        load_config(tmp_path / "store")
