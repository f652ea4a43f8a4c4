"""The adapter between the view and the kernel: the only importer of pyfuse3.

pyfuse3 mounts and unmounts; the requests in between are read and answered here, in the place where
pyfuse3 would wait for one. Its own handlers are told neither which file a READ is of nor how to let
the kernel cache directories or read blobs by itself, and cost a request four system calls and three
passes of trio's scheduler (README.md has the figures).
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import logging
import os
import resource
import select
import signal
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Final

import pyfuse3
import trio

from fuse import wire
from fuse.answers import Answers, Later, Payload, error_number
from fuse.nodes import DirectoryNode
from fuse.opened import Backings
from fuse.points import device_of
from fuse.wire import Op
from store.errors import HostError

READ_AHEAD_KB: Final = 1024
LINGER_MS: Final = 1
"""Milliseconds for which everything else in the process is held up, at most, to wait for the next
request: that of a busy client comes sooner than trio's scheduler could wait for it."""

SPIN_SECONDS: Final = 0.00005
"""Before that it looks without sleeping for so long: to wake a processor that has nothing else to
do takes longer than to answer, above all in a virtual machine."""

FAIR_SECONDS: Final = 0.005
"""Under steady load everything else in the process has its turn this often."""

log = logging.getLogger(__name__)


class _Server:
    """Serves one mount: reads requests, has them answered, sends the replies."""

    def __init__(self, answers: Answers) -> None:
        self._answers = answers
        self._fetching = 0
        self._spins = len(os.sched_getaffinity(0)) > 1
        self._request = memoryview(bytearray(wire.SMALLEST_BUFFER))

    def as_trio(self) -> SimpleNamespace:
        """Return what stands in for the module trio in pyfuse3, which its own support of asyncio
        replaces in the same way."""
        low = SimpleNamespace(
            current_task=trio.lowlevel.current_task,
            current_trio_token=trio.lowlevel.current_trio_token,
            notify_closing=trio.lowlevel.notify_closing,
            wait_readable=self._wait_readable,
        )
        return SimpleNamespace(
            ClosedResourceError=trio.ClosedResourceError,
            Lock=trio.Lock,
            lowlevel=low,
            open_nursery=trio.open_nursery,
        )

    async def _wait_readable(self, device: int) -> None:
        """Serve until pyfuse3 has something to read: that the mount is gone.

        Raises ClosedResourceError when pyfuse3 was told to end it.
        """
        os.set_blocking(device, False)
        ended = False
        async with trio.open_nursery() as nursery:
            try:
                await self._serve(device, nursery)
            except trio.ClosedResourceError:
                ended = True
            nursery.cancel_scope.cancel()
        if ended:
            raise trio.ClosedResourceError

    async def _serve(self, device: int, nursery: trio.Nursery) -> None:
        """Serve until the mount is gone. Raises ClosedResourceError when that is asked for."""
        poll = select.poll()
        poll.register(device, select.POLLIN)
        paused = time.monotonic()
        while True:
            try:
                size = os.readv(device, [self._request])
            except BlockingIOError:
                if not self._linger(poll):
                    await trio.lowlevel.wait_readable(device)
                    paused = time.monotonic()
                continue
            except OSError as error:
                if error.errno == errno.ENODEV:
                    return
                if error.errno not in (errno.ENOENT, errno.EINTR):  # the client gave up
                    raise
                continue
            self._answer(device, wire.parse(self._request[:size]), nursery)
            if time.monotonic() - paused > FAIR_SECONDS:
                await trio.lowlevel.checkpoint()
                paused = time.monotonic()

    def _linger(self, poll: select.poll) -> bool:
        """Wait for the next request for a moment; say whether it is there."""
        if self._fetching:
            return bool(poll.poll(0))
        if self._spins:
            until = time.perf_counter() + SPIN_SECONDS
            while time.perf_counter() < until:
                if poll.poll(0):
                    return True
        return bool(poll.poll(LINGER_MS))

    def _answer(self, device: int, request: wire.Request, nursery: trio.Nursery) -> None:
        try:
            answer = self._answers.answer(request)
        except Exception as error:
            self._send(device, request.unique, error=error_number(error))
            return
        if isinstance(answer, Later):
            self._fetching += 1
            nursery.start_soon(self._fetch, device, request.unique, answer)
        elif answer is not None:
            self._send(device, request.unique, answer)
        if request.op == Op.INIT and wire.Wish.PASSTHROUGH in self._answers.agreed:
            self._answers.files.backings = _backings(device)

    async def _fetch(self, device: int, unique: int, later: Later) -> None:
        """Answer a request for something on a slow tier while others are served."""
        try:
            value = await trio.to_thread.run_sync(later.work, abandon_on_cancel=True)
            self._send(device, unique, later.then(value))
        except Exception as error:
            self._send(device, unique, error=error_number(error))
        finally:
            self._fetching -= 1

    def _send(self, device: int, unique: int, payload: Payload = b"", error: int = 0) -> None:
        size = wire.REPLY.size + len(payload)
        try:
            os.writev(device, (wire.REPLY.pack(size, -error, unique), payload))
        except OSError as failure:
            if failure.errno not in (errno.ENOENT, errno.ENODEV):  # the client gave up
                log.warning("cannot reply: %s", failure)


def _backings(device: int) -> Backings:
    """Return how the kernel is handed files to read by itself; only root may."""

    def open_backing(descriptor: int) -> int:
        # from a mutable buffer ioctl gives what the call returned, not the buffer
        given = bytearray(wire.BACKING.pack(descriptor, 0))
        number: int = fcntl.ioctl(device, wire.BACKING_OPEN, given)
        return number

    def close_backing(backing: int) -> None:
        fcntl.ioctl(device, wire.BACKING_CLOSE, wire.BACKING_ID.pack(backing))

    return Backings(open_backing, close_backing)


def serve(
    top: DirectoryNode,
    directory: Path,
    statfs_of: Path,
    *,
    allow_other: bool = False,
    ready: Callable[[], None] = lambda: None,
) -> None:
    """Mount `top` at `directory` and serve it until it is unmounted, or SIGTERM or SIGINT comes.

    `ready` is called when the mount can be used. Raises HostError where it cannot be mounted.
    """
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    server = _Server(Answers(top, statfs_of))
    options = {"default_permissions", f"fsname=bn-{os.getpid()}", "ro", "subtype=bn"}
    if allow_other:
        options.add("allow_other")
    pyfuse3.trio = server.as_trio()  # type: ignore[attr-defined]
    try:
        pyfuse3.init(pyfuse3.Operations(), str(directory), options)
    except RuntimeError as error:
        hint = "see bn doctor; only root may use --allow-other unless user_allow_other is set"
        raise HostError(f"{directory}: cannot mount: {error}", hint) from error
    try:
        trio.run(_serve, directory, ready)
    finally:
        pyfuse3.close(unmount=True)


async def _serve(directory: Path, ready: Callable[[], None]) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_terminate_on_signal)
        nursery.start_soon(_announce, directory, ready)
        await pyfuse3.main(min_tasks=1, max_tasks=1)
        nursery.cancel_scope.cancel()


async def _terminate_on_signal() -> None:
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async for _ in signals:
            pyfuse3.terminate()


async def _announce(directory: Path, ready: Callable[[], None]) -> None:
    """Wait for the handshake, which settles how far the kernel reads ahead; then have it read
    further, where that is allowed, and say that all is ready."""
    await trio.to_thread.run_sync(os.stat, directory, abandon_on_cancel=True)
    with contextlib.suppress(OSError):  # only root may
        path = Path(f"/sys/class/bdi/{device_of(directory)}/read_ahead_kb")
        path.write_text(str(READ_AHEAD_KB))
    ready()
