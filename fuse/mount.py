"""The adapter between the view and the kernel: the only importer of pyfuse3.

pyfuse3 mounts, agrees with the kernel on the protocol, and unmounts; the requests that follow are
read and answered here, in the place where pyfuse3 would wait for the next one. Its own handlers are
told neither which file a READ is of nor how to let the kernel cache directories, and cost a request
four system calls and three passes of trio's scheduler (README.md has the figures).
"""

from __future__ import annotations

import contextlib
import errno
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
from fuse.points import device_of
from store.errors import HostError

READ_AHEAD_KB: Final = 1024
LINGER_MS: Final = 1
"""Milliseconds for which everything else in the process is held up, at most, to wait for the next
request: that of a busy client comes sooner than trio's scheduler could wait for it."""

FAIR_SECONDS: Final = 0.005
"""Under steady load everything else in the process has its turn this often."""

_LARGEST_REQUEST: Final = 256 * os.sysconf("SC_PAGE_SIZE") + 65536

log = logging.getLogger(__name__)


class _Handshake(pyfuse3.Operations):
    """Knows when the protocol is agreed upon."""

    supports_dot_lookup = False
    done = False

    def init(self) -> None:
        self.done = True


class _Server:
    """Serves one mount: reads requests, has them answered, sends the replies."""

    def __init__(self, answers: Answers, handshake: _Handshake) -> None:
        self._answers = answers
        self._handshake = handshake
        self._fetching = 0
        self._request = memoryview(bytearray(_LARGEST_REQUEST))

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
        """Wait until pyfuse3 has something to read: the handshake, or the end of the mount.

        Raises ClosedResourceError when pyfuse3 was told to end it.
        """
        if not self._handshake.done:
            await trio.lowlevel.wait_readable(device)
            return
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
                if not poll.poll(0 if self._fetching else LINGER_MS):
                    await trio.lowlevel.wait_readable(device)
                    paused = time.monotonic()
                continue
            except OSError as error:
                if error.errno == errno.ENODEV:
                    return
                if error.errno not in (errno.ENOENT, errno.EINTR):  # the client gave up
                    raise
                continue
            request = wire.parse(self._request[:size])
            try:
                answer = self._answers.answer(request)
            except Exception as error:
                self._send(device, request.unique, error=error_number(error))
            else:
                if isinstance(answer, Later):
                    self._fetching += 1
                    nursery.start_soon(self._fetch, device, request.unique, answer)
                elif answer is not None:
                    self._send(device, request.unique, answer)
            if time.monotonic() - paused > FAIR_SECONDS:
                await trio.lowlevel.checkpoint()
                paused = time.monotonic()

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
    handshake = _Handshake()
    server = _Server(Answers(top, statfs_of), handshake)
    options = {"default_permissions", f"fsname=bn-{os.getpid()}", "ro", "subtype=bn"}
    if allow_other:
        options.add("allow_other")
    pyfuse3.trio = server.as_trio()  # type: ignore[attr-defined]
    try:
        pyfuse3.init(handshake, str(directory), options)
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
