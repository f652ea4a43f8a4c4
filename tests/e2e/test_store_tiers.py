"""`bn store stat, add, remove, clear, migrate, browse`, and builds over several tiers."""

from __future__ import annotations

import json
import os
import pty
import select
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.e2e.conftest import Bn

SPEC = """
    [sources.src]
    path = "src"
    [actions.first]
    tools = ["sh"]
    inputs = ["src:*"]
    script = "cp src/text $out/d/first"
    outputs = ["d/first"]
    [actions.last]
    tools = ["sh"]
    inputs = ["first"]
    script = "cat first/d/first first/d/first > $out/last"
    outputs = ["last"]
    """


@pytest.fixture
def project(cold_bn: Bn, tmp_path: Path) -> Bn:
    """A project of two steps; no RAM disk of this machine is touched."""
    cold_bn.env = {**cold_bn.env, "XDG_CONFIG_HOME": str(tmp_path / "config")}
    config = tmp_path / "config" / "bn" / "config.toml"
    config.parent.mkdir(parents=True)
    config.write_text('# mine\n[tiers.main]  # the disk\ntype = "nvme"\n')
    cold_bn.put("src/text", "some text\n")
    cold_bn.spec(SPEC, "last")
    return cold_bn


def config_of(bn: Bn) -> str:
    """Return the user's configuration."""
    return (Path(bn.env["XDG_CONFIG_HOME"]) / "bn" / "config.toml").read_text()


def tiers(bn: Bn) -> dict[str, dict[str, Any]]:
    """Return the tiers by name, as `stat` has them."""
    return {tier["name"]: tier for tier in bn.json("store", "stat")["tiers"]}


def make_cold(bn: Bn) -> None:
    """Let everything count as cold, with nothing that links to blobs."""
    shutil.rmtree(bn.store / "trees", ignore_errors=True)
    (bn.directory / "result").unlink(missing_ok=True)
    bn.put("bn.toml", "[store]\ncold_threshold_hours = 0\n")


def test_stat_shows_tiers_with_bars_and_speed(project: Bn) -> None:
    project("build")
    said = project("store", "stat").stdout
    assert "░" in said
    assert "score" in said
    assert "NVMe, reads" in said
    found = project.json("store", "stat")
    (tier,) = found["tiers"]
    assert tier["used"] == found["store"]["bytes"] > 0
    assert tier["files"] >= found["store"]["blobs"] > 0
    assert 0 < tier["score"] <= 1000
    again = project.json("store", "stat", "--measure")["tiers"][0]
    assert again["measured"] > tier["measured"]


def test_add_keeps_the_layout_and_makes_the_directory(project: Bn, tmp_path: Path) -> None:
    project("build")
    arguments = ("--type", "hdd", "--max-size", "5GB", "--retention-days", "9")
    said = project.json("store", "add", "archive", str(tmp_path / "archive"), *arguments)
    assert said["level"] == 3
    assert config_of(project).startswith('# mine\n[tiers.main]  # the disk\ntype = "nvme"\n')
    assert (tmp_path / "archive" / "blobs").is_dir()
    assert tiers(project)["archive"]["limit"] == 5 * 10**9
    assert project.ran() == set()
    again = project("store", "add", "archive", str(tmp_path / "more"), code=3)
    assert "there is a tier 'archive' already" in again.stderr


def test_first_tier_writes_down_what_was_there_before(project: Bn, tmp_path: Path) -> None:
    (tmp_path / "config" / "bn" / "config.toml").unlink()
    project("store", "add", "archive", str(tmp_path / "archive"), "--type", "hdd", "--project")
    text = (project.directory / "bn.toml").read_text()
    assert f'[tiers.store]\npath = "{project.store}"\ntype = "nvme"' in text
    assert "[tiers.archive]" in text
    ram = [tier["path"] for tier in tiers(project).values() if tier["level"] == 0]
    assert all(path in text for path in ram)


def test_wrong_arguments_of_add(project: Bn, tmp_path: Path) -> None:
    project("store", "add", "a", str(tmp_path), "--max-size", "much", code=2)
    project("store", "add", "a", str(tmp_path), "--type", "floppy", code=2)
    project("store", "add", "a", str(project.store), code=3)


def test_migrate_remove_and_build_again(project: Bn, tmp_path: Path) -> None:
    project("build")
    project("store", "add", "archive", str(tmp_path / "archive"), "--type", "hdd")
    make_cold(project)
    plan = project.json("store", "migrate", "--dry-run")["moves"]
    assert {move["why"] for move in plan} == {"cold"}
    assert tiers(project)["archive"]["files"] == 0
    moved = project.json("store", "migrate")
    assert moved["moved"]["blobs"] == len(plan)
    found = tiers(project)
    assert not list(project.store.glob("blobs/*/*"))
    assert found["archive"]["files"] == len(plan)
    (project.directory / "bn.toml").unlink()
    gone = project("store", "clear", "--tier", "archive")
    assert f"{len(plan)} stayed" in gone.stderr
    said = project.json("store", "remove", "archive")
    assert said["blobs"] == len(plan)
    assert "archive" not in config_of(project)
    assert "# the disk" in config_of(project)
    shutil.rmtree(tmp_path / "archive")
    assert project.ran() == set()
    assert project.result("last") == "some text\nsome text\n"


def test_build_promotes_what_it_needs(project: Bn, tmp_path: Path) -> None:
    text = SPEC.replace('inputs = ["first"]', 'inputs = ["first", "more:*"]')
    slow = text.replace("cp src/text", "sleep 1; cp src/text")
    project.put("more/one", "one text\n")
    project.spec(f'{slow}\n[sources.more]\npath = "more"\n', "last")
    project("build")
    project("store", "add", "archive", str(tmp_path / "archive"), "--type", "hdd")
    make_cold(project)
    project("store", "migrate")
    (project.directory / "bn.toml").unlink()
    project.put("src/text", "other text\n")
    assert project.ran() == {"first", "last"}
    log = sorted((project.store / "builds").glob("*/timeline.jsonl"))[-1]
    events = [json.loads(line) for line in log.read_text().splitlines()]
    assert any(event["event"] == "BlobsPromoted" and event["blobs"] for event in events)


def test_remove_that_would_lose_something(project: Bn, tmp_path: Path) -> None:
    project("build")
    inside = project("store", "remove", "main", code=3)
    assert "the store's own directory" in inside.stderr
    wrong = project("store", "remove", "mian", code=3)
    assert "did you mean 'main'?" in wrong.stderr
    project("store", "add", "archive", str(tmp_path / "archive"), "--type", "hdd")
    (tmp_path / "archive").rename(tmp_path / "away")
    (tmp_path / "archive").write_text("in the way")
    refused = project("store", "remove", "archive", code=4)
    assert "--force" in refused.stderr
    project("store", "remove", "archive", "--force")


def test_clear_by_force_says_what_is_lost(project: Bn) -> None:
    project("build")
    said = project("store", "clear", "--tier", "1", "--force").stderr
    assert "lost: what needs them is built or fetched again" in said
    project("store", "clear", "--tier", "0", code=3)
    assert project.ran() == {"first", "last"}


def test_browse_lists_places(project: Bn) -> None:
    project("build", "first")
    assert "tree" in project("store", "browse").stdout
    assert "d/" in project("store", "browse", "test.first").stdout
    (entry,) = project.json("store", "browse", "test.first/d")
    assert entry["name"] == "first"
    assert entry["tiers"] == ["main"]
    assert project.json("store", "browse", "test.first/d/first") == [entry]
    project("store", "browse", "test.first/none", code=3)
    assert "did you mean" in project("store", "browse", "test.frist", code=3).stderr


def test_browse_walks_on_a_terminal(project: Bn) -> None:
    project("build", "first")
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        project.command("store", "browse", "test.first"),
        cwd=project.directory,
        env=project.env,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
    ) as process:
        os.close(theirs)
        shown = read_until(ours, "quit")
        assert "test.first" in shown
        for answer, expected in (("1", "first"), ("first", "some text"), ("..", "d/")):
            os.write(ours, f"{answer}\n".encode())
            assert expected in read_until(ours, "quit")
        os.write(ours, b"q\n")
        assert process.wait(30) == 0
    os.close(ours)


def read_until(terminal: int, mark: str) -> str:
    """Return what a terminal shows until the mark comes."""
    said = ""
    while mark not in said:
        assert select.select([terminal], [], [], 30)[0], said
        said += os.read(terminal, 65536).decode()
    return said
