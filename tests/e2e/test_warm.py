"""Warm starts: what a worker does is what an ordinary start does, whatever happens to whom."""

from __future__ import annotations

import json
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from tests.e2e.conftest import REPOSITORY, Bn
from tests.e2e.warming import SECONDS, SPEC, Warm, ended, running, until


def plain(text: str) -> str:
    """Return what was said without what is never the same: times, numbers, digests."""
    text = re.sub(r"\d{8}-[\d-]+|[0-9a-f]{2}/?[0-9a-f]{62}|\bn\d+\b", "…", text)
    return re.sub(r"\d+\.\d+", "0", text)


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["build"], 0),
        (["build", "copy"], 0),
        (["build", "--json"], 0),
        (["build", "--dry-run"], 0),
        (["build", "bad"], 1),
        (["build", "bad", "--json"], 1),
        (["build", "-k", "bad"], 1),
        (["test"], 0),
        (["build", "--no-such-option"], 2),
        (["build", "nothing"], 3),
        (["build", "nothing", "--json"], 3),
        (["build", "elsewhere/spec.toml"], 3),
        (["build", "--help"], 0),
    ],
)
def test_said_and_exit_code(warm: Warm, arguments: list[str], code: int) -> None:
    first, second = warm.both(*arguments, code=code)
    assert plain(second.stdout) == plain(first.stdout)
    assert plain(second.stderr) == plain(first.stderr)
    if code == 0 and arguments[0] == "build" and "--help" not in arguments:
        assert warm.bn.result("copy") != "" or "--dry-run" in arguments


def test_what_was_built_is_right_and_recorded(warm: Warm) -> None:
    warm.both("build")
    assert warm.bn.result("copy").startswith(f"n{warm.number} ")
    until(lambda: warm.bn("build").stderr == "up to date: copy → ./result\n")
    before = warm.status()["handed"]
    until(lambda: warm.bn("build").stderr == "up to date: copy → ./result\n")
    assert warm.status()["handed"] == before


def test_variables_are_the_clients(warm: Warm) -> None:
    first, second = warm.both("build", code=4, env={"PATH": "/nowhere"})
    assert "bubblewrap" in first.stderr
    assert plain(first.stderr) == plain(second.stderr)
    warm.bn("build")


def test_another_directory_and_a_relative_spec(warm: Warm) -> None:
    (warm.bn.directory / "deep" / "er").mkdir(parents=True)
    bn = Bn(warm.bn.directory / "deep" / "er", warm.bn.store, warm.bn.env)
    warm.edit()
    warm.handed(1, lambda: bn("build", "../../spec.toml"))
    assert bn.result("copy").startswith(f"n{warm.number} ")


def test_a_directory_that_is_gone(warm: Warm) -> None:
    gone = warm.bn.directory / "gone"
    said = []
    for variable in ("0", "1"):
        gone.mkdir()
        script = 'rmdir ../gone; exec "$@"'
        command = ["sh", "-c", script, "sh", *warm.bn.command("build")]
        env = {**warm.bn.env, "BN_WARM": variable}
        done = subprocess.run(
            command, cwd=gone, env=env, capture_output=True, text=True, check=False
        )
        said.append((done.returncode, done.stdout, done.stderr))
    assert said[0] == said[1]
    assert said[0][0] == 4


def test_what_a_process_inherits(warm: Warm, tmp_path: Path) -> None:
    script = """
        exec 9>held 7<spec.toml
        umask 027
        ulimit -n 789
        ulimit -S -c 0
        trap '' USR1
        exec nice -n 5 taskset -c 0 "$@"
    """
    command = ["sh", "-c", script, "sh", *warm.bn.command("build", "long")]
    word = warm.edit(600)
    warm.zygote()
    with open(tmp_path / "said", "w+") as said:
        client = subprocess.Popen(
            command, cwd=warm.bn.directory, env=warm.bn.env, stdin=said, stdout=said, stderr=said
        )
        try:
            until(lambda: running(word) or client.poll() is not None)
            worker = warm.worker(word)
            for one in (client.pid, worker.pid):
                place = Path(f"/proc/{one}")
                status = dict(
                    line.split(":\t", 1) for line in (place / "status").read_text().splitlines()
                )
                assert status["Umask"] == "0027"
                assert int(status["SigIgn"], 16) & 1 << signal.SIGUSR1 - 1
                assert os.readlink(place / "cwd") == str(warm.bn.directory)
                assert os.readlink(place / "fd" / "9") == str(warm.bn.directory / "held")
                assert os.readlink(place / "fd" / "7") == str(warm.bn.directory / "spec.toml")
                assert os.readlink(place / "fd" / "0") == str(tmp_path / "said")
                assert os.getpriority(os.PRIO_PROCESS, one) == 5
                assert os.sched_getaffinity(one) == {0}
            for limit in (resource.RLIMIT_NOFILE, resource.RLIMIT_CORE, resource.RLIMIT_STACK):
                expected = resource.prlimit(client.pid, limit)
                assert resource.prlimit(worker.pid, limit) == expected
            ours = set(os.listdir(f"/proc/{client.pid}/fd"))
            assert {"0", "1", "2", "7", "9"} <= ours
            assert os.getsid(worker.pid) == worker.pid
        finally:
            client.terminate()
            assert client.wait(SECONDS) == 130
    until(lambda: not running(word))


@pytest.mark.parametrize(
    ("prefix", "why"),
    [
        (["setarch", "-R"], "personality"),
        (["ionice", "-c", "3"], "priority of input and output"),
        (["chrt", "-b", "0"], "scheduling policy"),
        (["setpriv", "--no-new-privs"], "NoNewPrivs"),
        (["setpriv", "--bounding-set", "-sys_time"], "CapPrm"),
        (["unshare", "-m"], ""),
        (["unshare", "-u"], "namespace uts"),
        (["sh", "-c", 'ulimit -s 4096; exec "$@"', "sh"], "stack size"),
        (["sh", "-c", 'exec "$@" <&-', "sh"], ""),
        (["env", "LD_BIND_NOW=1"], "LD_BIND_NOW"),
        (["env", "BN_WARM=0"], ""),
        (["env", f"LARGE={'x' * 120_000}", f"MORE={'x' * 120_000}"], ""),
        (["env", "LC_ALL=POSIX"], "interpreter"),
    ],
)
def test_who_is_otherwise_starts_in_the_ordinary_way(
    warm: Warm, prefix: list[str], why: str
) -> None:
    if not shutil.which(prefix[0]) or subprocess.run([*prefix, "true"], check=False).returncode:
        pytest.skip(f"{prefix[0]} cannot do that here")
    warm.edit()
    before = warm.status()["refused"]
    done = warm.handed(
        0,
        lambda: subprocess.run(
            [*prefix, *warm.bn.command("build")],
            cwd=warm.bn.directory,
            env=warm.bn.env,
            capture_output=True,
            text=True,
            check=False,
        ),
    )
    assert done.returncode == 0, done.stderr
    assert warm.bn.result("copy").startswith(f"n{warm.number} ")
    after = warm.status()
    assert (after["refused"] - before, after["why"]) == (bool(why), why)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_interrupted(warm: Warm, number: signal.Signals) -> None:
    with warm.building() as (client, worker, word):
        client.send_signal(number)
        out, err = client.communicate(timeout=SECONDS)
        assert (client.returncode, out) == (130, "")
        assert err.startswith("interrupted after")
        until(lambda: ended(worker))
        assert not running(word)


def test_quit(warm: Warm) -> None:
    with warm.building() as (client, worker, _):
        client.send_signal(signal.SIGQUIT)
        assert client.wait(SECONDS) == -signal.SIGQUIT
        until(lambda: ended(worker))


def test_stopped_and_continued(warm: Warm) -> None:
    with warm.building() as (client, worker, _):
        client.send_signal(signal.SIGTSTP)
        until(lambda: worker.status() == psutil.STATUS_STOPPED)
        until(lambda: psutil.Process(client.pid).status() == psutil.STATUS_STOPPED)
        client.send_signal(signal.SIGCONT)
        until(lambda: worker.status() != psutil.STATUS_STOPPED)
        client.send_signal(signal.SIGINT)
        assert client.wait(SECONDS) == 130


@pytest.mark.parametrize("stopped", [False, True])
def test_the_client_is_killed(warm: Warm, stopped: bool) -> None:
    with warm.building() as (client, worker, word):
        if stopped:
            worker.suspend()
        client.kill()
        client.wait(SECONDS)
        until(lambda: ended(worker))
        until(lambda: not running(word))
    warm.edit()
    warm.handed(1, lambda: warm.bn("build"))


def test_the_worker_is_killed(warm: Warm) -> None:
    with warm.building() as (client, worker, _):
        worker.kill()
        assert client.wait(SECONDS) == -signal.SIGKILL
    warm.edit()
    warm.handed(1, lambda: warm.bn("build"))


def test_the_zygote_is_killed(warm: Warm) -> None:
    with warm.building(1.5) as (client, worker, _):
        zygote = warm.zygote()
        zygote.kill()
        _, err = client.communicate(timeout=SECONDS)
        assert client.returncode == 0, err
        until(lambda: ended(worker))
    assert warm.bn.result("long") == f"n{warm.number}\n"
    assert warm.zygote().pid != zygote.pid
    warm.edit()
    warm.handed(1, lambda: warm.bn("build"))


def test_the_zygote_and_the_worker_are_killed(warm: Warm) -> None:
    with warm.building() as (client, worker, _):
        warm.zygote().kill()
        worker.kill()
        assert client.wait(SECONDS) == -signal.SIGKILL


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_the_watcher_is_killed(warm: Warm, how: signal.Signals) -> None:
    with warm.building(1.5) as (client, _, _):
        zygote = warm.zygote()
        os.kill(warm.bn.json("watch", "--status")["process"], how)
        _, err = client.communicate(timeout=SECONDS)
        assert client.returncode == 0, err
    assert warm.bn.result("long") == f"n{warm.number}\n"
    until(lambda: ended(zygote))
    warm.edit()
    warm.bn("build")
    assert warm.bn.result("copy").startswith(f"n{warm.number} ")


def test_a_stopped_zygote_is_not_waited_for(warm: Warm) -> None:
    zygote = warm.zygote()
    zygote.suspend()
    try:
        warm.edit()
        warm.bn("build")
        assert warm.bn.result("copy").startswith(f"n{warm.number} ")
    finally:
        zygote.resume()
    until(lambda: len(zygote.children()) <= 1)  # the one that is forked ahead
    warm.edit()
    warm.handed(1, lambda: warm.bn("build"))


def test_two_at_once(warm: Warm) -> None:
    with warm.building(0.8) as (first, _, _), warm.building() as (second, worker, _):
        _, err = first.communicate(timeout=SECONDS)
        assert first.returncode in (0, 1), err  # 1: its input changed meanwhile
        assert second.poll() is None
        second.send_signal(signal.SIGINT)
        assert second.wait(SECONDS) == 130
        until(lambda: ended(worker))


def test_without(bn: Bn) -> None:
    bn.spec(SPEC, "copy")
    bn.put("src/a.txt", "a 0\n")
    bn("build")
    bn("watch", "--no-warm")
    try:
        assert bn.json("watch", "--status")["warm"] is None
        assert "ready" not in bn("watch", "--status").stdout
        assert not (bn.store / "watch" / "warm").exists()
    finally:
        bn("watch", "--stop")


def test_status_tells_of_it(warm: Warm) -> None:
    said = warm.status()
    assert said["memory"] > 1 << 20
    assert said["process"] in [one.pid for one in psutil.process_iter()]
    warm.edit()
    warm.bn("build")
    line = warm.bn("watch", "--status").stdout.splitlines()[1]
    assert re.fullmatch(
        rf"process {said['process']} ready for builds, \d+ MiB, 1 handed over, 0 refused", line
    )


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of the code, old enough to be believed."""
    copy = tmp_path / "checkout"
    for name in ("engine", "executors", "store"):
        shutil.copytree(
            REPOSITORY / name, copy / name, ignore=shutil.ignore_patterns("__pycache__")
        )
    time.sleep(1.1)
    return copy


def test_code_that_changed_never_runs(bn: Bn, checkout: Path) -> None:
    class Other(Bn):
        def command(self, *arguments: str) -> list[str]:
            start = str(checkout / "engine" / "cli" / "start.py")
            return [sys.executable, "-I", "-S", start, *arguments]

    other = Other(bn.directory, bn.store, bn.env)
    warm = Warm(other)
    warm.edit()
    other.spec(SPEC, "copy")
    other("build")
    other("watch")
    try:
        first = warm.zygote().pid
        warm.edit()
        warm.handed(1, lambda: other("build"))
        source = checkout / "engine" / "cli" / "building.py"
        text = source.read_text()
        assert '" built, ' not in text
        source.write_text(text.replace("} built, ", "} newly built, "))
        for _ in range(3):
            warm.edit()
            assert "1 newly built" in other("build").stderr
        until(lambda: warm.status()["process"] not in (None, first))
        warm.edit()
        said = warm.handed(1, lambda: other("build"))
        assert "1 newly built" in said.stderr
        warm.edit()
        assert "1 newly built" not in warm.handed(0, lambda: bn("build")).stderr
    finally:
        other("watch", "--stop")


def test_json_of_the_status(warm: Warm) -> None:
    said = json.loads(warm.bn("watch", "--status", "--json").stdout)
    known = {"process", "memory", "stock", "handed", "early", "refused", "why"}
    assert set(said["warm"]) == known
