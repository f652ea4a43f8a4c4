"""A worker forked ahead: it does nothing before it may, and does not outlive who keeps it."""

from __future__ import annotations

import os
import select
import signal
import socket
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from typing import NoReturn

import pytest

from engine.watch.spare import Spare

SECONDS = 60


def work(connection: socket.socket, allowed: Callable[[], None]) -> NoReturn:
    connection.send(b"here")
    allowed()
    connection.send(b"done")
    os._exit(7)


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.settimeout(SECONDS)
    with ours, theirs:
        yield ours, theirs


def ended(spare: Spare) -> int:
    """Wait for the end of a spare worker and return how it ended."""
    poll = select.poll()
    poll.register(spare.handle, select.POLLIN)
    assert poll.poll(SECONDS * 1000)
    os.close(spare.handle)
    return os.waitstatus_to_exitcode(os.waitpid(spare.process, 0)[1])


def test_it_works_once_it_may(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    spare = Spare(work)
    assert spare.give(theirs)
    theirs.close()
    assert ours.recv(16) == b"here"
    assert not select.select([ours], [], [], 0.2)[0]
    spare.allow()
    assert ours.recv(16) == b"done"
    assert ended(spare) == 7


def test_it_gets_ready_as_often_as_it_is_told_before_it_works(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    ours, theirs = pair
    told, tells = os.pipe()

    def ready(word: str) -> None:
        os.write(tells, word.encode())

    spare = Spare(work, ready=ready)
    for word in ("one", ""):
        spare.get_ready(word)
        spare.get_ready("r")
        assert os.read(told, len(word) or 1) == (word or "r").encode()
        assert not word or os.read(told, 1) == b"r"
    spare.get_ready("r")
    assert spare.give(theirs)
    assert ours.recv(16) == b"here"
    assert os.read(told, 2) == b"r"
    spare.allow()
    assert ours.recv(16) == b"done"
    assert ended(spare) == 7
    os.close(told)
    os.close(tells)


def test_it_ends_where_it_may_not(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    spare = Spare(work)
    assert spare.give(theirs)
    theirs.close()
    assert ours.recv(16) == b"here"
    spare.end()
    assert ours.recv(16) == b""


def test_nobody_takes_a_connection_once_it_was_killed(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    spare = Spare(work)
    os.kill(spare.process, signal.SIGKILL)
    os.waitid(os.P_PIDFD, spare.handle, os.WEXITED | os.WNOWAIT)
    assert not spare.give(pair[1])
    spare.end()


def run(code: str) -> subprocess.CompletedProcess[str]:
    head = "import os, signal, socket, sys, time; sys.path.insert(0, sys.argv[1])\n"
    return subprocess.run(
        [sys.executable, "-I", "-c", head + textwrap.dedent(code), os.getcwd()],
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )


def test_it_goes_with_who_keeps_it() -> None:
    done = run(
        """
        from engine.watch.spare import Spare
        spare = Spare(lambda connection, allowed: os._exit(0))
        print(spare.process, flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
        """
    )  # its standard output, which the spare has as well, is read to its end
    assert done.returncode == -signal.SIGKILL
    assert not os.path.exists(f"/proc/{int(done.stdout)}/fd/1")


END = """
    from engine.watch.zygote import end_with
    life, theirs = socket.socketpair()
    end_with(life)
    signal.signal(signal.SIGTERM, lambda *_: print("told", flush=True))
    time.sleep(0.05)
    print("before", flush=True)
    theirs.close()
    time.sleep(0.05)
    print("after")
    """


def test_a_worker_is_told_of_its_clients_end_by_nothing_else() -> None:
    assert run(END).stdout.split() == ["before", "told", "after"]


def test_a_client_that_has_gone_before_is_noticed() -> None:
    done = run(END.replace("end_with(life)", "theirs.close(); end_with(life)"))
    assert "the client has gone" in done.stderr
