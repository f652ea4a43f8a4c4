"""`bn bundle`: a build as one file, replayed where there is nothing but that file."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from engine.timeline.log import NAME
from tests.e2e.conftest import Bn, clean_env

NOT_REPRODUCIBLE = 6
INTEGRITY = 5
INPUT = 3


@pytest.fixture
def elsewhere(bn: Bn, tmp_path: Path) -> Bn:
    """A bn with an empty store, in an empty directory."""
    directory = tmp_path / "elsewhere"
    directory.mkdir()
    return Bn(directory, directory / "store", clean_env(directory / "store"))


@pytest.fixture
def bundle(small: Bn, tmp_path: Path) -> Path:
    """The bundle of a build of the small project, whose sources are gone."""
    small("build")
    path = tmp_path / "build.bn"
    found = small.json("bundle", "-o", str(path))
    assert found["actions"] == 2
    assert path.stat().st_size == found["size"]
    shutil.rmtree(small.directory / "src")
    return path


def test_a_bundle_replays_offline_with_an_empty_store(bundle: Path, elsewhere: Bn) -> None:
    alone = ["unshare", "--map-root-user", "--net"] if shutil.which("unshare") else []
    if alone and subprocess.run([*alone, "true"], check=False, capture_output=True).returncode:
        alone = []
    done = subprocess.run(
        [*alone, *elsewhere.command("replay", str(bundle), "--perturb", "order,host")],
        cwd=elsewhere.directory,
        env=dict(elsewhere.env),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "2 actions, 4 runs" in done.stderr
    assert "2 the same" in done.stderr


def test_its_build_is_recorded_from_then_on(bundle: Path, small: Bn, elsewhere: Bn) -> None:
    elsewhere("replay", str(bundle), "first")
    (build,) = elsewhere.json("timeline", "list")
    assert build["build"] == small.json("timeline", "list")[0]["build"]
    assert "as they were written" in elsewhere("timeline", "verify").stdout
    assert elsewhere.json("store", "roots") == []
    elsewhere("store", "gc")
    assert "2 the same" in elsewhere("replay").stderr
    elsewhere("replay", str(bundle))


def test_what_does_not_reproduce_is_found_elsewhere(bn: Bn, elsewhere: Bn) -> None:
    bn.spec(
        """
        [actions.random]
        tools = ["sh"]
        script = "cat /proc/sys/kernel/random/uuid > {out}/x"
        outputs = ["x"]
        """
    )
    bn("build", "random")
    bn("bundle", "last")
    (path,) = bn.directory.glob("*.bn")
    (one,) = elsewhere.json("replay", str(path), code=NOT_REPRODUCIBLE)["actions"]
    assert one["other"]["differences"][0]["kind"].startswith("something random")


def test_a_damaged_bundle_is_refused_as_a_whole(bundle: Path, elsewhere: Bn) -> None:
    data = bytearray(bundle.read_bytes())
    data[len(data) // 2] ^= 1
    bundle.write_bytes(data)
    assert "not imported" in elsewhere("replay", str(bundle), code=INTEGRITY).stderr
    assert not (elsewhere.store / "builds").exists() or not os.listdir(elsewhere.store / "builds")


def test_a_bundle_with_another_timeline_is_refused(small: Bn, elsewhere: Bn) -> None:
    small("build")
    (timeline,) = (small.store / "builds").glob(f"*/{NAME}")
    timeline.write_bytes(timeline.read_bytes().replace(b'"exit_code":0', b'"exit_code":1', 1))
    small("bundle", "last", "-o", "x.bn")
    done = elsewhere("replay", str(small.directory / "x.bn"), code=INTEGRITY)
    assert "its timeline was changed: event" in done.stderr


def test_bad_input(small: Bn, elsewhere: Bn) -> None:
    assert "no such file" in elsewhere("replay", "none.bn", code=INPUT).stderr
    assert "no build is recorded" in elsewhere("bundle", code=INPUT).stderr
    report = small.json("build")
    small("store", "export", report["result"], "-o", "plain.bn")
    done = elsewhere("replay", str(small.directory / "plain.bn"), code=INPUT)
    assert "no bundle of a build" in done.stderr
    assert "cannot write" in small("bundle", "-o", "none/x.bn", code=4).stderr
