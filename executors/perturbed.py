"""A hermetic executor in other surroundings: what outputs must not depend on is another one.

An action that comes out the same here and in the usual sandbox does not depend on any of it. Each
action has a bubblewrap of its own; all walls of the sandbox stand as ever.
"""

from __future__ import annotations

import glob
import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from executors.base import BASE_ENV, HOST_NAME, ExecutionRequest
from executors.bubblewrap import command_line
from executors.kernel import fix_addresses, free_addresses
from executors.process import Command, Ended, run
from executors.sandbox import PlainSandbox, checked
from executors.stage import Workspace, make_parents, usual_umask
from executors.syscalls import keyring_filter
from store.cas import EPOCH_NS, Cas
from store.digest import Digest
from store.errors import host_error
from store.objects import Action, Directory, Link
from store.records import frozen
from store.store import Store, remove_tree

_FAKETIME: Final = "/usr/lib/*/faketime/libfaketime.so.1"
_CLOCK: Final = "/bn/clock.so"


@frozen(kw_only=True)
class Surroundings:
    """What is other than usual: the host's name, the number of processors (None: all), the clock
    (days that it is ahead, where libfaketime is installed), the order in which directories list
    their entries, and whether addresses are random."""

    host_name: str = HOST_NAME
    processors: int | None = None
    days: int = 0
    other_order: bool = False
    addresses: bool = False


def clock() -> str | None:
    """Return the path of libfaketime, None where it is not installed."""
    return next(iter(sorted(glob.glob(_FAKETIME))), None)


class Perturbed(PlainSandbox):
    """Runs each action in a sandbox of its own, in other surroundings than usual."""

    def __init__(self, store: Store, surroundings: Surroundings) -> None:
        """Make an executor over `store`; see `PlainSandbox`."""
        super().__init__(store)
        self._surroundings = surroundings

    async def _run(self, request: ExecutionRequest, root: Path, workspace: Workspace) -> Ended:
        other, action = self._surroundings, request.action
        faked = clock() if other.days else None
        env: Mapping[str, str] = {**BASE_ENV, **action.env}
        if faked:
            env = {**env, "LD_PRELOAD": _CLOCK, "FAKETIME": f"+{other.days}d", "NO_FAKE_STAT": "1"}
        argv = command_line(
            self._bubblewrap,
            root,
            workspace,
            env,
            action.command,
            tmp_bytes=request.limits.memory,
            host_name=other.host_name,
            shown={faked: _CLOCK} if faked else {},
        )
        command = Command(
            argv=argv,
            env={},
            cwd=workspace.path,
            log=workspace.log,
            status=workspace.status,
            given=workspace.seccomp,
            cpus=tuple(sorted(os.sched_getaffinity(0))[: other.processors]),
        )
        (free_addresses if other.addresses else fix_addresses)()
        return checked(
            await run(command, request.limits, self._limiter.fence(request.limits)), workspace
        )

    def close(self) -> None:
        """Put back what concerns this process."""
        fix_addresses()

    def _staged(self, action: Action) -> Workspace:
        """Make the workspace of an action, with directories in another order if that is wanted."""
        if not self._surroundings.other_order:
            return super()._staged(action)
        cas = self._store.cas
        if cas.upstream is not None:
            cas.upstream.bring([Directory(action.input_root)])
        path = tempfile.mkdtemp(prefix="bn-", dir=_other_place())
        try:
            with usual_umask():
                workspace = Workspace(Path(path))
                for made in (workspace.build, workspace.io):
                    made.mkdir()
                workspace.seccomp.write_bytes(keyring_filter())
                names = _put_backwards(cas, action.input_root, f"{path}/in")
                for name in names:
                    here, point = workspace.path / "in" / name, workspace.build / name
                    if here.is_symlink():
                        point.symlink_to(os.readlink(here))
                    elif here.is_dir():
                        point.mkdir()
                    else:
                        point.touch()
                make_parents(workspace.out, action.outputs)
                for made in (workspace.build, workspace.io):
                    os.utime(made, ns=EPOCH_NS)
        except BaseException as error:
            remove_tree(Path(path))
            if isinstance(error, OSError):
                raise host_error(error, "cannot stage an action") from error
            raise
        links = {name for name in names if (workspace.path / "in" / name).is_symlink()}
        return Workspace(workspace.path, tuple(name for name in names if name not in links))


def _other_place() -> str | None:
    """Return a directory on memory, whose directories list what was made last first; None for the
    usual place of temporary files, where there is none or hardly any room."""
    shared = "/dev/shm"
    try:
        free = shutil.disk_usage(shared).free
    except OSError:
        return None
    return shared if os.access(shared, os.W_OK) and free > 1 << 30 else None


def _put_backwards(cas: Cas, tree: Digest, target: str) -> list[str]:
    """Make a directory with copies of what a tree holds, the last name first; return the names."""
    os.mkdir(target)
    entries = dict(cas.get_tree(tree).entries)
    for name in sorted(entries, reverse=True):
        path, entry = f"{target}/{name}", entries[name]
        if isinstance(entry, Directory):
            _put_backwards(cas, entry.digest, path)
        elif isinstance(entry, Link):
            os.symlink(entry.target, path)
            os.utime(path, ns=EPOCH_NS, follow_symlinks=False)
        else:
            cas.link_out(entry, path, copy=True)
    os.utime(target, ns=EPOCH_NS)
    return sorted(entries)
