"""What the zygote has ready ahead, a worker with a wall, changes nothing of what a build does."""

from __future__ import annotations

import contextlib
import functools
import os
import shutil
import signal
import subprocess
import time
from typing import TYPE_CHECKING

import psutil
import pytest

from tests.e2e.warming import ended, said, until

if TYPE_CHECKING:
    from tests.e2e.warming import Warm


def walls(warm: Warm) -> list[psutil.Process]:
    """Return what stands below the zygote, or is left of it anywhere, for this store."""
    place = f"{warm.bn.store}/work"
    words = ((one, said(one)) for one in psutil.process_iter())
    return [one for one, line in words if line[:1] == ["bwrap"] and place in line]


def ready(warm: Warm) -> psutil.Process:
    """Return the worker that waits, as soon as its wall has come up."""
    zygote = warm.zygote()
    until(lambda: len(zygote.children(recursive=True)) >= 4)  # it, bubblewrap twice, the server
    (worker,) = zygote.children()
    return worker


def with_cell(warm: Warm) -> psutil.Process:
    """Return the worker that waits, as soon as it has a cell, too."""
    worker = ready(warm)
    until(lambda: len(worker.children(recursive=True)) >= 4)
    return worker


def builds(warm: Warm, handed: int = 1) -> None:
    """Change the input and build; look at what came of it, and that it was handed over."""
    warm.edit()
    warm.handed(handed, lambda: warm.bn("build"))
    assert warm.bn.result("copy").startswith(f"n{warm.number} ")


def test_each_build_takes_the_one_that_waits(warm: Warm) -> None:
    worker = ready(warm)
    for _ in range(3):
        builds(warm)
        until(functools.partial(ended, worker))
        worker = with_cell(warm)


@pytest.mark.parametrize("whole", [False, True])
def test_one_that_is_killed_is_not_missed(warm: Warm, whole: bool) -> None:
    worker = ready(warm)
    for one in reversed([worker, *worker.children(recursive=True)][: None if whole else 1]):
        with contextlib.suppress(psutil.NoSuchProcess):
            one.kill()
    until(lambda: ended(worker) and not walls(warm))
    builds(warm)


def test_a_wall_that_is_killed_is_not_missed(warm: Warm) -> None:
    for one in ready(warm).children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            one.kill()
    builds(warm)


@pytest.mark.parametrize("lost", ["work", "trees", "blobs", "staged", "records", "objects"])
def test_parts_of_the_store_are_wiped(warm: Warm, lost: str) -> None:
    builds(warm)
    with_cell(warm)
    shutil.rmtree(warm.bn.store / lost, ignore_errors=True)
    builds(warm)


def test_another_umask_and_ignored_signals(warm: Warm) -> None:
    ready(warm)
    warm.edit()
    command = ["sh", "-c", 'umask 077; trap "" INT; exec "$@"', "sh", *warm.bn.command("build")]
    subprocess.run(command, cwd=warm.bn.directory, env=warm.bn.env, check=True)
    assert warm.bn.result("copy").startswith(f"n{warm.number} ")


def test_another_bubblewrap(warm: Warm) -> None:
    real = shutil.which("bwrap")
    ready(warm)
    warm.edit()
    other = warm.bn.put("bin/bwrap", f'#!/bin/sh\n: > used\nexec {real} "$@"\n')
    other.chmod(0o755)
    path = f"{other.parent}:{os.environ['PATH']}"
    warm.handed(1, lambda: warm.bn("build", env={"PATH": path}))
    assert warm.bn.result("copy").startswith(f"n{warm.number} ")
    assert (warm.bn.directory / "used").exists()


def test_nothing_is_left_of_it(warm: Warm) -> None:
    ready(warm)
    warm.bn("watch", "--stop")
    until(lambda: not walls(warm))


@pytest.mark.parametrize("pause", [0.0, 0.01, 0.02, 0.05, 0.2])
def test_nothing_is_left_where_the_zygote_is_killed(warm: Warm, pause: float) -> None:
    before = warm.zygote()
    warm.bn("watch", "--stop")
    until(lambda: ended(before))
    warm.bn("watch")
    zygote = warm.zygote()
    time.sleep(pause)
    warm.bn("watch", "--stop")
    with contextlib.suppress(psutil.NoSuchProcess):
        zygote.send_signal(signal.SIGKILL)
    until(lambda: not walls(warm))
