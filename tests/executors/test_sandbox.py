"""What an action finds in the sandbox: always the same, whoever runs it and wherever."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from executors import bubblewrap
from executors import cells as cells_module
from executors.base import BASE_ENV, Limits, Status
from executors.channel import Channel, SetUpFailed
from executors.sandbox import PlainSandbox
from store.errors import HostError
from store.objects import Action, Entry, Link
from store.store import Store

if TYPE_CHECKING:
    from tests.conftest import Runner

ADDRESSES = "perl -e 'open F, q(/proc/self/maps); print grep /stack|heap|libc/, <F>'"


def enter(sandbox: Runner, action: Action, command: str) -> subprocess.CompletedProcess[str]:
    """Run a command in the shell of an action's sandbox."""
    assert isinstance(sandbox.executor, PlainSandbox)
    with sandbox.executor.shell_command(action, command) as argv:
        return subprocess.run(argv, capture_output=True, text=True, check=False)


async def test_environment(sandbox: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    monkeypatch.setenv("CFLAGS", "-O9")
    said = await sandbox.says(("/usr/bin/env",), env={"A": "1", "LANG": "C", "E": ""})
    expected = {**BASE_ENV, "A": "1", "LANG": "C", "E": "", "PWD": "/build"}
    assert dict(line.split("=", 1) for line in said.splitlines()) == expected


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGUSR1, signal.SIGRTMAX])
async def test_nothing_is_ignored(sandbox: Runner, number: signal.Signals) -> None:
    before = signal.signal(number, signal.SIG_IGN)
    try:
        said = await sandbox.says(
            "while read name mask; do [ $name != SigIgn: ] || echo $mask; done < /proc/self/status"
        )
    finally:
        signal.signal(number, before)
    internal = 3 << 31  # of glibc, whose posix_spawn(3) leaves them so
    assert int(said, 16) & ~internal == 0, said


async def test_names_and_numbers(sandbox: Runner) -> None:
    before = os.umask(0o077)
    try:
        said = await sandbox.says(
            "hostname; id -u; id -g; umask; pwd; stat -c '%a %u' . d d/f / /tmp", files={"d/f": ""}
        )
    finally:
        os.umask(before)
    assert said.split("\n") == [
        "bn",
        "1000",
        "1000",
        "0022",
        "/build",
        "755 1000",
        "755 1000",
        "444 1000",
        "755 1000",
        "1777 1000",
        "",
    ]


async def test_addresses_are_fixed(sandbox: Runner) -> None:
    first, second = await sandbox.says(ADDRESSES), await sandbox.says(ADDRESSES)
    assert first == second != ""


async def test_process_numbers_are_fixed(sandbox: Runner) -> None:
    first, second = await sandbox.says("echo $$; ls /proc"), await sandbox.says("echo $$; ls /proc")
    assert first == second


async def test_two_runs_leave_the_same(sandbox: Runner) -> None:
    script = (
        "env > $out/env; ls -la --time-style=full-iso . d > $out/ls; id > $out/id; exec 2>&1; ls"
    )
    files: dict[str, str | bytes | Entry] = {"d/f": "1", "e": "2", "l": Link("d/f")}
    outputs = ("env", "ls", "id")
    first = await sandbox.run(script, files=files, outputs=outputs)
    second = await sandbox.run(script, files=files, outputs=outputs)
    assert (first.outputs, first.log) == (second.outputs, second.log)
    assert first.outputs is not None


async def test_no_shell_in_the_toolchain(sandbox: Runner) -> None:
    empty = sandbox.request("").action.input_root
    outcome = await sandbox.run("true", toolchains=(empty,))
    assert (outcome.status, outcome.exit_code) == (Status.FAILED, 127)
    assert "/bin/sh: No such file" in sandbox.log(outcome)


async def test_a_toolchain_cannot_take_the_mount_points(sandbox: Runner) -> None:
    files: dict[str, str | bytes | Entry] = {
        "build/planted": "",
        "proc/planted": "",
        "tmp": Link("usr"),
        "bn/out/planted": "",
    }
    planted = sandbox.request("", files=files).action.input_root
    said = await sandbox.says("ls -A /build /tmp $out", toolchains=(planted, sandbox.tools))
    assert "planted" not in said


async def test_first_toolchain_wins(sandbox: Runner) -> None:
    one = sandbox.request("", files={"etc/name": "one", "etc/a": "a"}).action.input_root
    two = sandbox.request("", files={"etc/name": "two", "etc/b": "b"}).action.input_root
    toolchains = (one, two, sandbox.tools)
    assert await sandbox.says("cat /etc/name /etc/a /etc/b", toolchains=toolchains) == "oneab"


async def test_without_bubblewrap(
    store: Store, sandbox: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(HostError, match="not installed") as caught:
        await sandbox.run("true")
    assert "apt-get install bubblewrap" in caught.value.hint
    assert "--executor native" in caught.value.hint


async def test_where_user_namespaces_are_forbidden(
    sandbox: Runner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = tmp_path / "bin/bwrap"
    fake.parent.mkdir()
    fake.write_text(
        "#!/bin/sh\n[ $1 = --version ] && echo bubblewrap 0.9.0 && exit 0\n"
        "echo 'bwrap: setting up uid map: Permission denied' >&2; exit 1\n"
    )
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{fake.parent}:/usr/bin:/bin")
    with pytest.raises(HostError, match="setting up uid map: Permission denied") as caught:
        await sandbox.run("true")
    assert "apparmor_restrict_unprivileged_userns" in caught.value.hint
    assert sandbox.left_over() == []
    assert isinstance(sandbox.executor, PlainSandbox)
    with pytest.raises(HostError):
        sandbox.executor.check()


def test_check(sandbox: Runner) -> None:
    assert isinstance(sandbox.executor, PlainSandbox)
    assert sandbox.executor.check()[0].isdigit()


@pytest.mark.parametrize(("version", "has"), [((0, 6, 1), False), ((0, 11, 0), True)])
def test_what_a_version_can_do(version: tuple[int, ...], has: bool) -> None:
    found = bubblewrap.Bubblewrap("/usr/bin/bwrap", version)
    assert ("--disable-userns" in found.isolation()) is has


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 40 MB."""
    if os.getuid() != 0:
        pytest.skip("mounting a small file system takes root")
    place = tmp_path / "small"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=40m", "bn-test", place], check=True)
    yield place
    subprocess.run(["umount", place], check=True)


async def test_a_full_disk(sandbox: Runner, small_disk: Path) -> None:
    sandbox.store.cas.commit_objects()
    for part in ("blobs", "objects"):
        shutil.copytree(sandbox.store.root / part, small_disk / "store" / part)
    make = type(sandbox.executor)
    with Store(small_disk / "store") as store, contextlib.closing(make(store)) as executor:
        runner = type(sandbox)(store, executor, sandbox.tools)
        with pytest.raises(HostError, match="no space left"):
            await runner.run("dd if=/dev/zero of=$out/x bs=1M", outputs=("x",))
        assert runner.left_over() == []
        assert await runner.says("echo works again") == "works again\n"


async def test_shell(sandbox: Runner) -> None:
    action = sandbox.request("exit 7", files={"src/a.c": "text"}, env={"A": "b"}).action
    done = enter(sandbox, action, "cat src/a.c; echo $A $out; umask; echo x > $out/x; exit 3")
    assert (done.returncode, done.stdout, done.stderr) == (3, "textb /bn/out\n0022\n", "")
    assert sandbox.left_over() == []


async def test_limits_are_not_the_outputs_business(sandbox: Runner) -> None:
    one = sandbox.request("true", limits=Limits(wall_seconds=1))
    two = sandbox.request("true", limits=Limits(memory=1 << 30))
    assert one.action.digest() == two.action.digest()


async def test_without_a_working_fork_server(
    sandbox: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(channel: Channel) -> None:
        channel.close()
        raise SetUpFailed("mount on /proc: Operation not permitted")

    monkeypatch.setattr(cells_module, "made", fail)
    assert await sandbox.says("cat a/b; echo made", files={"a/b": "read "}) == "read made\n"
    assert await sandbox.says("echo again") == "again\n"
    assert sandbox.left_over() == []
