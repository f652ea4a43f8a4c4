"""Faults of the machine and of what runs beside a build: clear errors, nothing lost."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from tests.e2e.conftest import ONE, fetching, remains

if TYPE_CHECKING:
    from tests.e2e.conftest import Bn

INPUT = 3
HOST = 4
INTERRUPTED = 130
NOBODY = 12345
"""A user id that owns nothing here and has no entry in the password file."""

CHAIN = """
    [actions.first]
    tools = ["sh"]
    script = "echo first > $out/first"
    outputs = ["first"]
    [actions.second]
    tools = ["sh"]
    inputs = ["first"]
    script = "sleep 60; cp first/first $out/second"
    outputs = ["second"]
    """


# the machine


def test_missing_sandbox_is_a_host_error_that_says_how_to_mend_it(bn: Bn) -> None:
    bn.spec(ONE)
    bin_directory = bn.directory / "bin"
    bin_directory.mkdir()
    for name in ("dpkg-query", "dpkg", "sh"):
        if found := shutil.which(name):
            (bin_directory / name).symlink_to(found)
    error = bn.json("build", code=HOST, env={"PATH": str(bin_directory)})["error"]
    assert "bubblewrap" in error["message"] + error["hint"] or "bwrap" in error["message"]
    assert "install" in error["hint"]
    assert bn.ran() == {"one"}


def test_user_without_a_home_is_told_what_to_set(bn: Bn) -> None:
    bn.spec(ONE)
    bn.env = {"PATH": os.environ["PATH"]}
    if os.getuid() == 0:
        bn.directory.chmod(0o777)
        code = f"import os, sys; os.setuid({NOBODY}); os.execv(sys.argv[1], sys.argv[1:])"
        command = [sys.executable, "-I", "-c", code, *bn.command("build")]
    else:
        command = bn.command("build")
        bn.env = {**bn.env, "HOME": "not/absolute"}
    done = subprocess.run(
        command,
        cwd=bn.directory,
        env=bn.env,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == HOST, done.stderr
    assert "no home directory" in done.stderr
    assert os.listdir(bn.directory) == ["spec.toml"]


@pytest.fixture
def ordinary(bn: Bn) -> Bn:
    """A bn whose commands are run by an ordinary user, who may read but not write what is here."""
    if os.getuid() != 0:
        return bn
    place = bn.directory
    while place != place.parent:
        if place.stat().st_uid == 0 and not place.stat().st_mode & 0o001:
            place.chmod(place.stat().st_mode | 0o055)
        place = place.parent
    plain = bn.command
    code = (
        f"import os, sys; os.setgroups([]); os.setgid({NOBODY}); os.setuid({NOBODY});"
        "os.execv(sys.argv[1], sys.argv[1:])"
    )

    class Ordinary(type(bn)):  # type: ignore[misc]
        def command(self, *arguments: str) -> list[str]:
            return [sys.executable, "-I", "-c", code, *plain(*arguments)]

    made: Bn = Ordinary(bn.directory, bn.store, {**bn.env, "HOME": str(bn.directory.parent)})
    return made


def test_store_that_may_not_be_written_is_a_host_error(ordinary: Bn) -> None:
    ordinary.spec(ONE)
    store = ordinary.directory.with_name("locked")
    store.mkdir()
    store.chmod(0o555)
    error = ordinary.json("build", code=HOST, env={"BN_STORE": str(store)})["error"]
    assert "permission denied" in error["message"]
    assert "permissions" in error["hint"]
    assert ordinary("doctor", code=HOST, env={"BN_STORE": str(store)}).stdout.count("fail  ") >= 1
    assert os.listdir(store) == []


def test_files_that_may_not_be_read_are_named(ordinary: Bn) -> None:
    secret = ordinary.put("src/secret", "")
    ordinary.spec(f'[sources.src]\npath = "src"\n{ONE}')
    secret.chmod(0)
    store = ordinary.directory.with_name("own")
    store.mkdir()
    store.chmod(0o777)
    said = ordinary("build", "--no-link", code=INPUT, env={"BN_STORE": str(store)}).stderr
    assert "secret" in said
    assert "permission denied" in said
    (ordinary.directory / "spec.toml").chmod(0)
    said = ordinary("build", code=INPUT, env={"BN_STORE": str(store)}).stderr
    assert "spec.toml: cannot be read: permission denied" in said


def test_directory_that_may_not_be_written_is_named(ordinary: Bn) -> None:
    ordinary.put("src/file", "")
    ordinary.spec('[sources.src]\npath = "src"\n[actions.a]\ninputs = ["src"]\nrun = ["x"]\n')
    ordinary.directory.chmod(0o555)
    store = ordinary.directory.with_name("own")
    store.mkdir()
    store.chmod(0o777)
    ordinary.put("../program/a.c", "int main(void) { return 0; }\n")
    (ordinary.directory.parent / "program").chmod(0o555)
    program = str(ordinary.directory.parent / "program")
    error = ordinary.json("init", program, code=HOST, env={"BN_STORE": str(store)})["error"]
    assert "spec.toml" in error["message"]
    assert "permission denied" in error["message"]


# several at once, and interrupts


def test_two_builds_of_one_spec_at_once_share_a_store(bn: Bn) -> None:
    bn.spec(
        "".join(
            f'[actions.a{n}]\ntools = ["sh"]\nscript = "sleep 0.1; echo {n} > $out/{n}"\n'
            f'outputs = ["{n}"]\n'
            for n in range(12)
        )
    )
    both = [bn.start("build"), bn.start("build")]
    said = [build.communicate(timeout=60)[1] for build in both]
    assert [build.returncode for build in both] == [0, 0], said
    assert bn.result("11") == "11\n"
    assert bn.ran() == set()
    assert not remains(bn.store)


def test_many_first_builds_at_once_make_one_store(bn: Bn) -> None:
    bn.store = bn.directory.with_name("fresh")
    bn.env = {**bn.env, "BN_STORE": str(bn.store)}
    bn.spec(ONE)
    all_of_them = [bn.start("build", "--no-link") for _ in range(4)]
    said = [build.communicate(timeout=120)[1] for build in all_of_them]
    assert [build.returncode for build in all_of_them] == [0] * 4, said


def wait_for_sleep(bn: Bn, building: subprocess.Popen[str]) -> None:
    """Wait until the second action of the chain runs."""
    limit = time.monotonic() + 60
    while not has_started_second(bn):
        assert time.monotonic() < limit, "the action was not started"
        assert building.poll() is None
        time.sleep(0.02)


def has_started_second(bn: Bn) -> bool:
    """Say whether the timeline tells that the second action has started."""
    logs = list((bn.store / "builds").glob("*/timeline.jsonl"))
    lines = [line for log in logs for line in log.read_text().splitlines()]
    return any('"StepStarted"' in line and '"second"' in line for line in lines)


@pytest.mark.parametrize(
    "signals",
    [[signal.SIGINT], [signal.SIGINT] * 2, [signal.SIGINT] * 40, [signal.SIGTERM], [signal.SIGHUP]],
    ids=["ctrl-c", "ctrl-c-twice", "ctrl-c-held", "sigterm", "sighup"],
)
def test_interrupt_ends_the_build_and_keeps_what_was_built(
    bn: Bn, signals: list[signal.Signals]
) -> None:
    bn.spec(CHAIN)
    building = bn.start("build")
    wait_for_sleep(bn, building)
    for number in signals:
        os.killpg(building.pid, number)  # as a terminal does
        time.sleep(0.1 / len(signals))
    _, said = building.communicate(timeout=30)
    assert building.returncode == INTERRUPTED, said
    assert "interrupted" in said
    assert "Traceback" not in said
    text = (bn.directory / "spec.toml").read_text().replace("sleep 60", "sleep 0")
    (bn.directory / "spec.toml").write_text(text)
    assert bn.ran() == {"second"}
    assert not remains(bn.store)


def test_interrupted_build_is_one_json_document(bn: Bn) -> None:
    import json

    bn.spec(CHAIN)
    building = bn.start("build", "--json")
    wait_for_sleep(bn, building)
    building.send_signal(signal.SIGINT)
    printed, said = building.communicate(timeout=30)
    assert building.returncode == INTERRUPTED, said
    document = json.loads(printed)
    assert document["status"] == "interrupted"
    assert document["steps"]["first"]["status"] == "built"


def test_interrupt_of_a_download_leaves_nothing(bn: Bn) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        fetching(bn, f"http://127.0.0.1:{server.getsockname()[1]}/file", "0" * 64)
        building = bn.start("build")
        server.settimeout(30)
        connection, _ = server.accept()
        with connection:
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n0123456789")
            time.sleep(0.2)
            building.send_signal(signal.SIGINT)
            _, said = building.communicate(timeout=30)
    assert building.returncode == INTERRUPTED
    assert "interrupted" in said
    assert "Traceback" not in said
    assert not remains(bn.store)


def test_spec_that_goes_away_between_commands_leaves_the_past_readable(bn: Bn) -> None:
    spec = bn.spec('[actions.a]\ntools = ["sh"]\nscript = "echo said"\n')
    bn("build")
    spec.unlink()
    assert bn("log", "a").stdout == "said\n"
    assert "a: ran" in bn("why", "a").stdout
    assert bn.json("graph", code=INPUT)["error"]["message"] == "spec.toml: no such file"
