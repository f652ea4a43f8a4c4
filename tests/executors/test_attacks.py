"""Attacks on the sandbox, each really tried."""

from __future__ import annotations

import errno
import os
import socket
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import trio

from executors.base import Limits, Status

if TYPE_CHECKING:
    from tests.conftest import Runner


def refused(*commands: str) -> str:
    """Return a script that succeeds only if every one of `commands` fails."""
    return "\n".join(
        f"if {command}; then echo 'it went: {number}'; exit 1; fi"
        for number, command in enumerate(commands)
    )


CONNECT = """
use Socket;
my ($host, $port) = @ARGV;
socket(my $s, PF_INET, SOCK_STREAM, 0) or exit 3;
exit(connect($s, sockaddr_in($port, inet_aton($host))) ? 0 : 1);
"""


async def test_network_of_the_host(sandbox: Runner, native: Runner) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        await native.says(f"perl connect.pl 127.0.0.1 {port}", files={"connect.pl": CONNECT})
        addresses = ["127.0.0.1", "10.0.0.1", "192.0.2.1"]
        tries = [f"perl connect.pl {address} {port}" for address in addresses]
        await sandbox.says(refused(*tries), files={"connect.pl": CONNECT})
    assert (await sandbox.says("cat /proc/net/dev")).count(":") == 1, "more than loopback"


async def test_abstract_sockets_of_the_host(sandbox: Runner, native: Runner) -> None:
    name = f"\0bn-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(name)
        listener.listen()
        script = (
            "use Socket; socket(my $s, PF_UNIX, SOCK_STREAM, 0) or exit 3;"
            f'exit(connect($s, pack("Sa*", AF_UNIX, "\\0{name[1:]}")) ? 0 : 1)'
        )
        await native.says("perl s.pl", files={"s.pl": script})
        await sandbox.says(refused("perl s.pl"), files={"s.pl": script})


async def test_writing_to_an_input(sandbox: Runner) -> None:
    script = refused(
        "echo x > d/f",
        "echo x >> f",
        "chmod 600 f",
        "chmod 777 d",
        "rm -f d/f",
        "mv d e",
        "touch f",
        "echo > d/new",
        "rmdir d",
        "rm f",
        "ln f $out/f && echo x > $out/f",
        "ln f g && chmod 644 g",
        "perl -e 'open(F, q(+<), q(f)) && print F q(x)' && false",
    )
    outcome = await sandbox.run(
        script + "\nexec 2>/dev/null; cat d/f f", files={"d/f": "1", "f": "2"}
    )
    assert sandbox.log(outcome).endswith("12")
    assert outcome.status is Status.SUCCEEDED
    for path in sandbox.store.cas.root.glob("blobs/*/*"):
        assert path.stat().st_mode & 0o222 == 0


async def test_a_blob_stays_as_it_is(sandbox: Runner) -> None:
    request = sandbox.request("chmod 777 f; echo changed > f; cat f", files={"f": "as it was"})
    for _ in range(2):
        outcome = await sandbox.executor.execute(request)
        assert sandbox.log(outcome).endswith("as it was")


async def test_the_host_cannot_be_read(sandbox: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_OF_THE_HOST", "leaked")
    home = os.path.expanduser("~")
    assert os.path.isdir(home)
    script = refused(
        f"test -e {home}",
        "test -e /etc/passwd",
        "test -e /etc/hostname",
        "test -e /sys",
        "test -e /var",
        "test -e /run",
        "test -e /home",
        "test -e /root",
        f"test -e {sandbox.store.root}",
        "grep -q SECRET /proc/*/environ 2>/dev/null",
    )
    said = await sandbox.says(
        script + "\nenv; cat /proc/self/environ; ls / /tmp; (cd /proc/1/root && ls -d *) || true"
    )
    assert "leaked" not in said
    assert set((await sandbox.says("ls /")).split()) == {
        "bin",
        "bn",
        "build",
        "dev",
        "lib",
        "lib64",
        "proc",
        "tmp",
        "usr",
    }


async def test_undeclared_inputs(sandbox: Runner) -> None:
    files = {"src/declared.h": ""}
    sandbox.request("", files={"src/undeclared.h": ""})
    assert (await sandbox.says("ls src; ls -A", files=files)).split() == ["declared.h", "src"]


async def test_writing_outside(sandbox: Runner) -> None:
    places = [
        "/x",
        "/usr/x",
        "/usr/bin/sh",
        "/bin/x",
        "/etc",
        "/lib/x",
        "/proc/sys/kernel/hostname",
    ]
    places += ["/proc/sys/kernel/core_pattern", "/proc/sysrq-trigger", "/proc/self/oom_score_adj"]
    places += ["/sys/kernel/x", "/proc/irq/default_smp_affinity"]
    script = refused(
        *(f"echo x 2>/dev/null > {place}" for place in places),
        "mkdir /etc 2>/dev/null",
        "chmod 777 /usr/bin/sh 2>/dev/null",
        "rm -f /usr/bin/sh 2>/dev/null",
        "mv /usr /usr2 2>/dev/null",
    )
    await sandbox.says(script)
    # what is private may be written, and is gone for the next action
    await sandbox.says("echo x > /tmp/x; echo x > /build/x; echo x > /dev/shm/x; echo x > /bn/x")
    await sandbox.says("test ! -e /tmp/x -a ! -e /build/x -a ! -e /dev/shm/x -a ! -e /bn/x")


DAEMON = """
use POSIX;
fork and exit; POSIX::setsid(); fork and exit;
$0 = q(MARK); $SIG{$_} = 'IGNORE' for qw(HUP TERM INT);
open(F, '>', '/bn/started'); close F;
while (1) { open(F, '>>', "$ENV{out}/late"); print F 'x'; close F; select undef, undef, undef, .01 }
"""


async def test_a_daemon_is_not_left_behind(sandbox: Runner) -> None:
    mark = f"bn-daemon-{os.getpid()}-{id(sandbox)}"
    script = DAEMON.replace("MARK", mark)
    wait = (
        "perl d.pl; while ! test -e /bn/started; do :; done; while ! test -s $out/late; do :; done"
    )
    outcome = await sandbox.run(wait, files={"d.pl": script}, outputs=("late",))
    assert outcome.status is Status.SUCCEEDED
    assert sandbox.processes_with(mark) == []
    assert sandbox.left_over() == []


async def test_the_whole_tree_dies_at_a_limit(sandbox: Runner) -> None:
    mark = f"bn-daemon-{os.getpid()}-{id(sandbox)}"
    limits = Limits(wall_seconds=0.5)
    files = {"d.pl": DAEMON.replace("MARK", mark)}
    outcome = await sandbox.run("perl d.pl; sleep 1000", files=files, limits=limits)
    assert outcome.status is Status.KILLED
    assert sandbox.processes_with(mark) == []


async def test_other_actions_go_on_beside_a_fork_bomb(sandbox: Runner) -> None:
    limits = Limits(processes=50, wall_seconds=2)

    async def bomb() -> None:
        await sandbox.run("perl -e 'while (1) { fork }'", limits=limits)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(bomb)
        for number in range(5):
            assert await sandbox.says(f"echo {number} | cat") == f"{number}\n"
        nursery.cancel_scope.cancel()
    assert sandbox.left_over() == []


async def test_memory_in_tmp_counts(sandbox: Runner) -> None:
    limits = Limits(memory=32 * 1024 * 1024, wall_seconds=30)
    outcome = await sandbox.run("dd if=/dev/zero of=/tmp/x bs=1M count=200", limits=limits)
    assert outcome.status in (Status.FAILED, Status.KILLED)


async def test_devices(sandbox: Runner) -> None:
    await sandbox.says(
        refused("mknod $out/d c 1 3 2>/dev/null", "mknod /tmp/d b 8 0 2>/dev/null"), outputs=()
    )
    assert set((await sandbox.says("ls /dev")).split()) == {
        *("core", "fd", "full", "null", "ptmx", "pts", "random", "shm"),
        *("stderr", "stdin", "stdout", "tty", "urandom", "zero"),
    }
    await sandbox.says(refused("echo x 2>/dev/null > /dev/tty", "cat /proc/kcore 2>/dev/null"))


UNSHARE = """
# unshare(CLONE_NEWUSER), mount(2), setuid(0), chroot(2), ptrace of init, by number on x86-64
my ($call, @arguments) = @ARGV;
exit(syscall($call, map { /^\\d+$/ ? $_ + 0 : $_ } @arguments) == 0 ? 0 : 1);
"""


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="system call numbers are x86-64's")
async def test_privileges(sandbox: Runner) -> None:
    script = refused(
        f"perl call.pl 272 {0x10000000}",  # unshare user namespace
        f"perl call.pl 272 {0x00020000}",  # unshare mount namespace
        "perl call.pl 165 none /tmp tmpfs 0 0",  # mount
        f"perl call.pl 165 none / none {0x1000 | 0x20} 0",  # remount writable
        "perl call.pl 166 /build/call.pl 2",  # umount
        "perl call.pl 105 0",  # setuid
        "perl call.pl 161 /tmp",  # chroot
        "perl call.pl 170 evil 4",  # sethostname
        "perl call.pl 169 0 0 0",  # reboot
    )
    script += "\nperl call.pl 272 0"  # unshare nothing: works
    await sandbox.says(script, files={"call.pl": UNSHARE})
    assert "CapEff:\t0000000000000000" in await sandbox.says("cat /proc/self/status")
    assert "CapBnd:\t0000000000000000" in await sandbox.says("cat /proc/self/status")
    assert "NoNewPrivs:\t1" in await sandbox.says("cat /proc/self/status")


async def test_only_its_own_processes(sandbox: Runner) -> None:
    said = await sandbox.says("cd /proc; ls -d [0-9]*")
    assert all(int(name) < 10 for name in said.split())
    await sandbox.says(refused("kill -0 1000 2>/dev/null", f"kill -0 {os.getpid()} 2>/dev/null"))


async def test_no_controlling_terminal(sandbox: Runner) -> None:
    assert (await sandbox.says("setsid true; ls -l /proc/self/fd/0")).endswith("/dev/null\n")
    fields = (await sandbox.says("cat /proc/self/stat")).split()
    assert fields[6] == "0", "a controlling terminal"


async def test_descriptors_of_the_host(sandbox: Runner) -> None:
    inherited = os.open("/etc/passwd", os.O_RDONLY)
    os.set_inheritable(inherited, True)
    try:
        said = await sandbox.says("cd /proc/self/fd; for n in *; do readlink $n; done; true")
    finally:
        os.close(inherited)
    assert "passwd" not in said
    assert str(Path("status")) not in said


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="system call numbers are x86-64's")
async def test_key_rings(sandbox: Runner) -> None:
    # add_key(2) to the user's key ring, which all processes of a user namespace share
    script = """perl -e 'my ($type, $name, $key) = qw(user bn secret);
        exit(syscall(248, $type, $name, $key, 6, -4) < 0 ? $! + 0 : 0)'"""
    outcome = await sandbox.run(script)
    assert outcome.exit_code == errno.ENOSYS
