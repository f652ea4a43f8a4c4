"""The command line's entry: the up-to-date answer first, everything else after."""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]
import gc
import os
import sys

from engine import __version__
from engine.packages import find_packages

TYPE_CHECKING = False  # typing takes longer to import than all that an up-to-date build needs
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import NoReturn

    from engine.record import Stale


def main() -> NoReturn:
    """Run bn with the process's arguments and exit with the code that tells how it went."""
    try:
        code = _done()
    except KeyboardInterrupt:  # one that came when all was done, or before anything was
        sys.stderr.write("interrupted\n")
        code = 130
    _finish(code)


def _done() -> int:
    """Do what the process's arguments say, and return the exit code."""
    changed = _drop_python_path()
    arguments = sys.argv[1:]
    stale: list[Stale] = []
    if arguments[:1] == ["build"] and _up_to_date(arguments[1:], stale.append):
        return 0
    if not changed and arguments[:1] in (["build"], ["test"]):
        code = _handed_over()
        if code is not None:
            return code
    return run_command(arguments, stale[0] if stale else None)


def run_command(arguments: list[str], stale: Stale | None = None) -> int:
    """Run a command line in this process and return the exit code. Where something has changed so
    that an action will probably run, what waits for that is started before anything else."""
    try:
        _end_as_interrupted()
        find_packages()
        return _load(arguments, stale)()
    except KeyboardInterrupt:
        sys.stderr.write("interrupted\n")
        return 130


def _load(arguments: list[str], stale: Stale | None) -> Callable[[], int]:
    """Import what a command line needs, and return what runs it."""
    gc.disable()  # what is imported stays: there is no garbage to be found
    try:
        if arguments[:1] in (["build"], ["test"]) and "engine.session" not in sys.modules:
            from engine.cli.imports import together

            together()
        from engine.cli.words import plain_words

        plain = plain_words(arguments[1:]) if arguments[:1] == ["build"] else None
        if plain is not None:
            if stale is not None and stale.will_run:
                from executors.wall import begin
                from store.where import store_path

                begin(store_path())
            from engine.cli.light_pathlib import load

            load()
            from engine.cli.plain import build_named

            return lambda: build_named(*plain, stale=stale)
        from engine.cli.commands import run

        return lambda: run(arguments)
    finally:
        gc.freeze()
        gc.enable()


def flushed(code: int) -> int:
    """Write out what was said; return the code, which a reader that has gone does not change."""
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except BrokenPipeError:
        pass
    return code


def wait_for_threads() -> None:
    """Wait for what threads still have to tidy up, as Python does at its end; nothing interrupts
    that, which the caller sees to."""
    if "threading" not in sys.modules:
        return
    import threading
    import time

    for one in threading.enumerate():
        if one.daemon or one is threading.main_thread():
            continue
        for _ in range(10):  # where its `start` was interrupted it begins now, or never
            if one.is_alive() or one not in threading.enumerate():
                break
            time.sleep(0.005)
        if one.is_alive():
            one.join()


def _end_as_interrupted() -> None:
    """Take SIGTERM and SIGHUP for Ctrl-C, so that they, too, leave nothing half-made."""
    import signal

    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as sh does for what it starts with &
        return
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, lambda *_: signal.raise_signal(signal.SIGINT))


def _drop_python_path() -> bool:
    """Take PYTHONPATH back: nothing on it may shadow packages with names as plain as `store`. Say
    whether Python had started with it.

    The launcher in a checkout starts Python isolated; this is for the `bn` that pip installs.
    """
    given = os.environ.pop("PYTHONPATH", "")
    if given and not sys.flags.isolated:
        dropped = {os.path.abspath(path) for path in given.split(os.pathsep)}
        sys.path[:] = [entry for entry in sys.path if os.path.abspath(entry) not in dropped]
        return True
    return False


def _up_to_date(arguments: list[str], tell: Callable[[Stale], object]) -> bool:
    """Say that all is as it was when this very command was last done, if that is known; else `tell`
    is told of the files that have changed, if they are known."""
    from engine.record import read_record, record_path
    from store.where import store_path

    try:
        path = record_path(store_path(), [__version__, *arguments])
    except Exception:  # it is said where the store is opened
        return False
    record = read_record(path, tell=tell)
    if record is None:
        return False
    sys.stdout.write(record.stdout)
    sys.stderr.write(record.stderr)
    return True


def _handed_over() -> int | None:
    """Return the exit code of a process that did the work without having to start, None where
    there is none."""
    from store.where import store_path

    try:
        store = store_path()
        if not os.path.lexists(f"{store}/watch/warm"):
            return None
        from engine.watch.warm import hand_over

        return hand_over(store)
    except KeyboardInterrupt:
        sys.stderr.write("interrupted\n")
        return 130
    except Exception:  # it is said where the work is done
        return None


def _finish(code: int) -> NoReturn:
    """Exit as soon as nothing that bn started is left, so that the interpreter need not tidy up.
    That takes some milliseconds, and changes nothing of what was said; so nothing interrupts it."""
    try:
        code = flushed(code)
        _go_on()
    except KeyboardInterrupt:
        code = 130
        _go_on()
    wall = sys.modules.get("executors.wall")
    if wall is not None:
        wall.end_begun()
    _keep_imports()
    wait_for_threads()
    os._exit(code)


def _keep_imports() -> None:
    """Have the next build import what this one did from one file."""
    imports = sys.modules.get("engine.cli.imports")
    if imports is not None:
        imports.renew()


def _go_on() -> None:
    """Let no signal that ends sessions, or comes from a user, interrupt what is left to do."""
    for number in (_signal.SIGINT, _signal.SIGTERM, _signal.SIGHUP):
        _signal.signal(number, _signal.SIG_IGN)


if __name__ == "__main__":
    main()
