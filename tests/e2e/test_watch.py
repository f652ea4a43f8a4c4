"""`bn watch`: with it a build says what it says without it; without it, it says that, too."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from engine.watch.ask import talk
from tests.e2e.conftest import Bn

SECONDS = 60

SPEC = """
    [sources.src]
    path = "src"
    [actions.each]
    foreach = "src:*.txt"
    tools = ["sh"]
    inputs = ["{item}"]
    script = "cat {item} > $out/{item.stem}"
    outputs = ["{item.stem}"]
    [actions.all]
    tools = ["sh"]
    inputs = ["each"]
    script = "cat each/* > $out/all"
    outputs = ["all"]
    """
UP_TO_DATE = "up to date: all → ./result\n"


@pytest.fixture
def project(bn: Bn) -> Iterator[Bn]:
    """A project that was built, and no watcher left over."""
    for name in ("a", "b", "c"):
        bn.put(f"src/{name}.txt", f"{name}\n")
    bn.spec(SPEC, "all")
    _settle(bn)
    yield bn
    bn("watch", "--stop")


def _settle(bn: Bn) -> None:
    """Build until there is a record: files that were written just now are not believed."""
    while bn("build").stderr != UP_TO_DATE or not any((bn.store / "records").iterdir()):
        time.sleep(0.06)


def _until(said: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + SECONDS
    while not (found := said()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return found


def _status(bn: Bn) -> Any:
    return bn.json("watch", "--status")


def _watched(bn: Bn) -> Any:
    """Wait until the project's record is watched and return what the watcher says of it."""

    def said() -> Any:
        records = [one for one in _status(bn)["records"] if one["directory"] == str(bn.directory)]
        if any("file system" in one["why"] for one in records):
            pytest.skip(records[0]["why"])
        return next((one for one in records if one["state"] == "watched"), None)

    return _until(said)


def _has_ended(process: int) -> bool:
    """Say whether a process is gone, or only waits to be asked how it ended."""
    try:
        stat = Path(f"/proc/{process}/stat").read_text()
    except FileNotFoundError:
        return True
    return stat.rpartition(")")[2].split()[0] == "Z"


@pytest.fixture
def watched(project: Bn) -> Bn:
    """A project that is watched."""
    assert "watching" in project("watch").stderr
    _watched(project)
    return project


def test_the_watcher_answers(watched: Bn) -> None:
    before = _watched(watched)["questions"]
    assert watched("build").stderr == UP_TO_DATE
    after = _watched(watched)
    assert after["questions"] == before + 1
    assert after["files"] >= 5
    text = watched("watch", "--status").stdout
    assert f"{watched.directory}: watched" in text


EDITS: list[Callable[[Path], object]] = [
    lambda src: (src / "a.txt").write_text("other\n"),
    lambda src: (src / "a.txt").rename(src / "d.txt"),
    lambda src: (src / "a.txt").unlink(),
    lambda src: (src / "new.txt").write_text("new\n"),
    lambda src: (src / "a.txt").chmod(0o755),
    lambda src: os.replace(src / "b.txt", src / "a.txt"),
    lambda src: src.rename(src.with_name("away")),
]


@pytest.mark.parametrize("number", range(len(EDITS)))
def test_edits_are_seen_at_once(watched: Bn, number: int) -> None:
    EDITS[number](watched.directory / "src")
    gone = not (watched.directory / "src").exists()
    done = watched("build", code=3 if gone else 0)
    assert done.stderr != UP_TO_DATE


def test_a_new_record_is_taken_up(watched: Bn) -> None:
    for text in ("one\n", "two\n"):
        watched.put("src/a.txt", text)
        assert watched("build").stderr != UP_TO_DATE
        _settle(watched)
        before = _watched(watched)
        assert watched("build").stderr == UP_TO_DATE
        assert watched.result("all") == f"{text}b\nc\n"
        after = _watched(watched)
        assert (after["record"], after["questions"]) == (before["record"], before["questions"] + 1)


def test_to_kill_it_costs_only_time(watched: Bn) -> None:
    process = _status(watched)["process"]
    os.kill(process, signal.SIGKILL)
    assert watched("build").stderr == UP_TO_DATE
    watched.put("src/a.txt", "other\n")
    assert watched("build").stderr != UP_TO_DATE
    assert "watching" in watched("watch").stderr
    _settle(watched)
    assert _status(watched)["process"] != process


def test_a_stopped_one_is_not_waited_for(watched: Bn) -> None:
    process = _status(watched)["process"]
    os.kill(process, signal.SIGSTOP)
    try:
        assert watched("build").stderr == UP_TO_DATE
        watched.put("src/a.txt", "other\n")
        assert watched("build").stderr != UP_TO_DATE
    finally:
        os.kill(process, signal.SIGCONT)


def test_lost_events(watched: Bn) -> None:
    """More happens than the kernel keeps for the watcher, which is stopped meanwhile."""
    most = int(Path("/proc/sys/fs/inotify/max_queued_events").read_text())
    if most > 200_000:
        pytest.skip("the queue is too long to be filled")
    status = _watched(watched)
    process = _status(watched)["process"]
    os.kill(process, signal.SIGSTOP)
    for _ in range(most // 2 + 1):
        for name in ("a", "b"):
            os.close(os.open(watched.directory / "src" / f"{name}.txt", os.O_RDONLY))
    watched.put("src/c.txt", "of this nothing is told\n")
    os.kill(process, signal.SIGCONT)
    assert watched("build").stderr != UP_TO_DATE
    _settle(watched)
    assert _watched(watched)["record"] == status["record"]
    assert watched("build").stderr == UP_TO_DATE


def test_a_mount_over_a_source(watched: Bn) -> None:
    """In a mount namespace with a watcher of its own, where that may be made."""
    watched("watch", "--stop")
    script = """
        set -e
        "$@" watch
        until "$@" watch --status --json | grep -q '"state": "watched"'; do sleep 0.05; done
        "$@" build
        mount -t tmpfs none src
        echo mounted >&2
        "$@" build || true
        umount src
        echo unmounted >&2
        "$@" build
        "$@" watch --stop
    """
    command = ["unshare", "-m", "sh", "-c", script, "sh", *watched.command()]
    done = subprocess.run(
        command, cwd=watched.directory, env=watched.env, capture_output=True, text=True, check=False
    )
    if "ermitted" in done.stderr or "denied" in done.stderr:
        pytest.skip(done.stderr)
    before, _, after = done.stderr.partition("mounted\n")
    assert UP_TO_DATE in before
    assert "nothing matches" in after or "error:" in after.partition("unmounted")[0]
    assert done.stderr.endswith(f"{UP_TO_DATE}the watcher has ended\n"), done.stderr


def test_one_is_enough(watched: Bn) -> None:
    assert watched("watch").stderr == "a watcher runs already\n"
    done = watched("watch", "--foreground", code=4)
    assert "a watcher runs already" in done.stderr
    assert watched("watch", "--stop").stderr == "the watcher has ended\n"
    assert watched("watch", "--stop").stderr == "no watcher runs\n"
    assert "no watcher runs" in watched("watch", "--status").stderr
    assert _status(watched) == {"running": False}


def test_only_the_user_may_ask(watched: Bn) -> None:
    assert (watched.store / "watch").stat().st_mode & 0o777 == 0o700
    assert (watched.store / "watch" / "socket").stat().st_mode & 0o777 == 0o600


def test_who_sees_other_files_is_not_answered(watched: Bn) -> None:
    record = watched.store / "records" / _watched(watched)["record"]
    identity = record.read_bytes()[len(b"bn record 2 little\n") :][:16]
    for view in ("", "mnt:[1] 1:2"):
        packet = b"?" + identity + f"{record.name}\0{view}".encode()
        assert talk(str(watched.store), packet, SECONDS) == b"?"
    for packet in (b"", b"?", b"x", b"?" + b"\xff" * 300):
        assert talk(str(watched.store), packet or b" ", SECONDS) in (b"?", b"")
    _watched(watched)


def test_nobody_asks_for_long(project: Bn) -> None:
    foreground = project.start("watch", "--foreground", "--idle", "0.0002")
    assert foreground.communicate(timeout=SECONDS) == ("", "watching\n")
    assert foreground.returncode == 0
    assert not (project.store / "watch" / "socket").exists()


def test_interrupted(project: Bn) -> None:
    foreground = project.start("watch", "--foreground")
    assert foreground.stderr
    assert foreground.stderr.readline() == "watching\n"
    foreground.terminate()
    assert foreground.wait(SECONDS) == 0
    foreground.communicate()


@pytest.mark.parametrize("whole", [False, True])
def test_a_socket_that_is_removed_ends_it(watched: Bn, whole: bool) -> None:
    process = _status(watched)["process"]
    if whole:
        shutil.rmtree(watched.store / "watch")
    else:
        (watched.store / "watch" / "socket").unlink()
    assert _status(watched) == {"running": False}
    assert watched("build").stderr == UP_TO_DATE
    _until(lambda: _has_ended(process))
    assert "watching" in watched("watch").stderr


def test_no_store(bn: Bn, tmp_path: Path) -> None:
    env = {"BN_STORE": str(tmp_path / "none")}
    assert "no store" in bn("watch", code=4, env=env).stderr
    assert json.loads(bn("watch", "--status", "--json", env=env).stdout) == {"running": False}
    assert "exclude" in bn("watch", "--stop", "--status", code=2).stderr


def test_a_lost_link_is_made_again(watched: Bn) -> None:
    for _ in range(2):
        (watched.directory / "result").unlink()
        assert watched("build").stderr == UP_TO_DATE
        assert watched.result("all") == "a\nb\nc\n"
        watched("watch", "--stop")
