"""The wall: one bubblewrap around a fork server, in whose cells many actions run.

Loaded before anything that takes long to load: the server gets ready meanwhile.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]
import _socket
import contextlib
import itertools
import os
import sys
import time

from executors.kernel import adopt_orphans, fix_addresses
from executors.names import HOST_NAME, NAMESPACES, UID

TYPE_CHECKING = False  # the server is started before typing and pathlib are there
if TYPE_CHECKING:
    from pathlib import Path
    from typing import Any

_SYSTEM = ("/usr", "/bin", "/lib", "/lib64", "/etc/ld.so.cache")
"""What of the host Python needs besides its prefix; the fork server sees it, no action does."""

_START = "import sys; sys.path.insert(0, '/code'); from executors.behind.server import main; main()"

_CONTROL = 3
"""The descriptor of the control socket in the server."""

STARTING_SECONDS = 20.0
ENDING_SECONDS = 5.0


class Wall:
    """A running fork server behind bubblewrap, for workspaces in one directory."""

    def __init__(self, work: str | Path, trees: str | Path) -> None:
        """Start it; `ready` waits for it. `work` is the directory of the workspaces, `trees` that
        of the roots. Must be called in the main thread, as a sandbox ends with the thread that
        started it. Raises HostError where bubblewrap cannot be started."""
        fix_addresses()
        adopt_orphans()
        self._places = work, trees
        self.cells: list[Any] = []
        """Cells that were asked for before there was a pool; they go with the wall."""
        self.control, theirs = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_SEQPACKET)
        said, says = os.pipe2(os.O_CLOEXEC)
        self._said = said
        self._started = False
        self._gone = False
        try:
            self.pid = os.posix_spawnp(
                "bwrap",
                _command(work, trees),
                {},
                file_actions=[
                    (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDWR, 0),
                    (os.POSIX_SPAWN_DUP2, 0, 1),
                    (os.POSIX_SPAWN_DUP2, says, 2),
                    (os.POSIX_SPAWN_DUP2, theirs.fileno(), _CONTROL),
                ],
                setsid=True,
            )
        except OSError as error:
            self._gone = True
            self.close()
            if isinstance(error, FileNotFoundError):
                from executors.bubblewrap import not_installed

                raise not_installed() from None
            from store.errors import host_error

            raise host_error(error, "cannot start bubblewrap") from error
        finally:
            theirs.close()
            os.close(says)

    @property
    def work(self) -> Path:
        """The directory of the workspaces."""
        from pathlib import Path

        return Path(self._places[0])

    @property
    def trees(self) -> Path:
        """The directory of the roots."""
        from pathlib import Path

        return Path(self._places[1])

    def ready(self) -> None:
        """Wait until it makes cells. Raises HostError where it cannot."""
        if self._started:
            return
        self.control.settimeout(STARTING_SECONDS)
        with contextlib.suppress(OSError):
            self._started = self.control.recv(16) == b"ready\n"
        if not self._started:
            from executors.bubblewrap import sandbox_failed

            self.kill()
            said = b""
            while data := os.read(self._said, 65536):
                said += data
            self.close()
            raise sandbox_failed(said.decode(errors="replace"))

    def descriptors(self) -> tuple[int, ...]:
        """Return the descriptors that it needs, those of its cells among them."""
        cells = [one for cell in self.cells for one in cell.descriptors()]
        return self.control.fileno(), self._said, *cells

    def moved(self, control: int, said: int, *cells: int) -> None:
        """Go on with other numbers for its descriptors; the ones before are somebody else's."""
        self.control.detach()
        self.control, self._said = _socket.socket(fileno=control), said
        left = iter(cells)
        for cell in self.cells:
            cell.moved(*itertools.islice(left, len(cell.descriptors())))

    @property
    def alive(self) -> bool:
        """Whether the server still runs."""
        if not self._gone:
            self._gone = os.waitpid(self.pid, os.WNOHANG)[0] != 0
        return not self._gone

    def end(self) -> None:
        """Tell the server to end, and what is in it; `close` waits for that."""
        self.control.close()

    def close(self) -> None:
        """End the server, and with it whatever still runs in it."""
        self.end()
        deadline = time.monotonic() + ENDING_SECONDS
        while self.alive:
            if time.monotonic() > deadline:
                self.kill()
            time.sleep(0.0005)
        # bubblewrap's init outlives it for a moment, and is ours then: see kernel.adopt_orphans
        with contextlib.suppress(ChildProcessError, AttributeError):
            while True:
                os.waitpid(-self.pid, 0)
        if self._said >= 0:
            os.close(self._said)
            self._said = -1
        while self.cells:
            self.cells.pop().abandon()

    def drop(self) -> None:
        """End the server at once, where it was started for nothing; else do nothing."""
        self.kill()
        self.close()

    def kill(self) -> None:
        """Kill bubblewrap, if it is there, with its child: one that was just forked waits for it
        for ever. `close` waits for their end."""
        if self.alive:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, _signal.SIGKILL)


_begun: list[Wall] = []
"""The wall that was started before it was certain that this process needs one."""


def begin(root: str) -> None:
    """Start a wall for the store at `root`, where that has been used with one, before anything else
    of a build: `begun` gives it, `end_begun` ends it. Where it cannot be started there is none."""
    work, trees = f"{root}/work", f"{root}/trees"
    if os.path.isdir(work) and os.path.isdir(trees):
        with contextlib.suppress(Exception):  # it is said where an action needs one
            _begun.append(Wall(work, trees))


def begun(work: Path, trees: Path) -> Wall | None:
    """Return the wall that was begun, if it is one for these directories."""
    while _begun:
        wall = _begun.pop()
        if wall.alive and (wall.work, wall.trees) == (work, trees):
            return wall
        wall.drop()
    return None


def end_begun() -> None:
    """End the wall that was begun, unless somebody took it."""
    while _begun:
        _begun.pop().drop()


def _command(work: str | Path, trees: str | Path) -> list[str]:
    """Return the command line of the wall and the server in it."""
    here = os.path.dirname(os.path.abspath(__file__))
    _compile(f"{here}/behind")
    argv = ["bwrap", *NAMESPACES, "--uid", str(UID), "--gid", str(UID)]
    argv += ["--hostname", HOST_NAME, "--die-with-parent", "--cap-add", "ALL"]
    for path in dict.fromkeys([*_SYSTEM, sys.base_prefix]):
        argv += ["--ro-bind-try", path, path]
    argv += ["--dev", "/dev", "--remount-ro", "/dev", "--bind", "/proc", "/proc"]
    for name in ("__init__.py", "behind"):
        argv += ["--ro-bind", f"{here}/{name}", f"/code/executors/{name}"]
    argv += ["--bind", str(work), "/w", "--ro-bind", str(work), "/r", "--ro-bind", str(trees), "/t"]
    python = os.path.realpath(sys.executable)
    return [*argv, "--", python, "-I", "-S", "-c", _START, str(_CONTROL)]


def served() -> list[str]:
    """Return the files that the server runs."""
    here = os.path.dirname(os.path.abspath(__file__))
    names = sorted(name for name in os.listdir(f"{here}/behind") if name.endswith(".py"))
    return [f"{here}/__init__.py", *(f"{here}/behind/{name}" for name in names)]


def _compile(directory: str) -> None:
    """Have bytecode beside the modules that only the server loads: it sees them read-only."""
    kept = f"{directory}/__pycache__"
    with contextlib.suppress(OSError):
        for name in os.listdir(directory):
            stem, dot, kind = name.rpartition(".")
            if dot and kind == "py":
                made = f"{kept}/{stem}.{sys.implementation.cache_tag}.pyc"
                source = os.stat(f"{directory}/{name}").st_mtime_ns
                if not os.path.exists(made) or os.stat(made).st_mtime_ns < source:
                    import py_compile

                    py_compile.compile(f"{directory}/{name}", quiet=2)
