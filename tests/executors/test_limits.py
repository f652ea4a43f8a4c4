"""Limits where control groups do not work: resource limits and the watch."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING

import pytest

from executors import cgroups
from executors.base import Limits, Status
from executors.cgroups import Controllers
from executors.limits import Limiter, enforcement

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import Runner


FORK = "fork // exit 9 or (sleep(1000), exit) for 1..200; wait"


@pytest.fixture
def without_groups(either: Runner, monkeypatch: pytest.MonkeyPatch) -> Runner:
    monkeypatch.setattr(Limiter, "controllers", Controllers(0, {}))
    return either


async def test_memory_of_one(without_groups: Runner) -> None:
    limits = Limits(memory=64 * 1024 * 1024, wall_seconds=30)
    script = "perl -e '$x = q(x) x 500_000_000; print length $x'"
    outcome = await without_groups.run(script, limits=limits)
    assert outcome.status is not Status.SUCCEEDED


async def test_memory_of_all_together(without_groups: Runner) -> None:
    limits = Limits(memory=64 * 1024 * 1024, wall_seconds=30)
    eat = "perl -e '$x = q(x) x 20_000_000; sleep 1000' &"
    outcome = await without_groups.run(f"{eat} {eat} {eat} wait", limits=limits)
    assert (outcome.status, outcome.reason) == (Status.KILLED, "used more than its 67 MB of memory")


async def test_fork_bomb(without_groups: Runner) -> None:
    limits = Limits(processes=50, wall_seconds=5)
    outcome = await without_groups.run(("/usr/bin/perl", "-e", FORK), limits=limits)
    assert outcome.status is not Status.SUCCEEDED
    assert outcome.reason in ("ran more than 50 processes", "exited with 9")


async def test_strays(without_groups: Runner) -> None:
    mark = f"1002.{os.getpid()}"
    await without_groups.says(f"setsid sh -c 'setsid sleep {mark} & setsid sleep {mark} &'; true")
    assert without_groups.processes_with(f"sleep\0{mark}") == []


async def test_no_limits_at_all(without_groups: Runner) -> None:
    limits = Limits(wall_seconds=None, processes=None)
    assert (await without_groups.run("true", limits=limits)).status is Status.SUCCEEDED


def test_enforcement_says_how() -> None:
    found = dict(enforcement())
    assert set(found) == {
        *("memory", "processes", "CPU time", "wall time", "size of the log"),
        "address randomisation",
    }


def test_what_version_2_hands_down(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mount = tmp_path / "cgroup"
    (mount / "user.slice/app.slice/own.scope").mkdir(parents=True)
    (mount / "user.slice/cgroup.subtree_control").write_text("cpu memory pids\n")
    (mount / "user.slice/app.slice/cgroup.subtree_control").write_text("memory\n")
    (tmp_path / "own").write_text("0::/user.slice/app.slice/own.scope\n")
    (tmp_path / "mounts").write_text(f"1 2 0:3 / {mount} rw - cgroup2 cgroup2 rw\n")
    monkeypatch.setattr(cgroups, "_OWN", tmp_path / "own")
    monkeypatch.setattr(cgroups, "_MOUNTS", tmp_path / "mounts")
    assert set(cgroups._version_2().values()) == {mount / "user.slice"}
    assert set(cgroups._version_2()) == {"memory", "pids"}


def test_what_the_shell_sets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Limiter, "controllers", Controllers(0, {}))
    limits = Limits(memory=1 << 30, cpu_seconds=5, processes=None)
    argv = Limiter().fence(limits).wrap(["/bin/sh", "-c", "umask; ulimit -c; ulimit -S -t"])
    done = subprocess.run(argv, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["0022", "0", "5"]
