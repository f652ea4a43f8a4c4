"""The command line's entry: the up-to-date answer first, everything else after."""

from __future__ import annotations

import os
import sys

from engine import __version__
from engine.packages import find_packages

TYPE_CHECKING = False  # typing takes longer to import than all that an up-to-date build needs
if TYPE_CHECKING:
    from typing import NoReturn


def main() -> NoReturn:
    """Run bn with the process's arguments and exit with the code that tells how it went."""
    changed = _drop_python_path()
    arguments = sys.argv[1:]
    if arguments[:1] == ["build"] and _up_to_date(arguments[1:]):
        _finish(0)
    if not changed and arguments[:1] in (["build"], ["test"]):
        code = _handed_over()
        if code is not None:
            _finish(code)
    _finish(run_command(arguments))


def run_command(arguments: list[str]) -> int:
    """Run a command line in this process and return the exit code."""
    try:
        _end_as_interrupted()
        find_packages()
        if arguments[:1] == ["build"] and not any(word.startswith("-") for word in arguments):
            from engine.cli.plain import build_named

            return build_named(arguments[1:])
        from engine.cli.commands import run

        return run(arguments)
    except KeyboardInterrupt:
        sys.stderr.write("interrupted\n")
        return 130


def flushed(code: int) -> int:
    """Write out what was said; return the code, which a reader that has gone does not change."""
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except BrokenPipeError:
        pass
    return code


def wait_for_threads() -> None:
    """Wait for what threads still have to tidy up, as Python does at its end. That takes some
    milliseconds, and changes nothing of what was said; so nothing interrupts it."""
    if "threading" not in sys.modules:
        return
    import threading

    threads = [one for one in threading.enumerate() if not one.daemon]
    if threads == [threading.main_thread()]:
        return
    import signal

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    for one in threads:
        if one is not threading.main_thread():
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


def _up_to_date(arguments: list[str]) -> bool:
    """Say that all is as it was when this very command was last done, if that is known."""
    from engine.record import read_record, record_path
    from store.where import store_path

    try:
        path = record_path(store_path(), [__version__, *arguments])
    except Exception:  # it is said where the store is opened
        return False
    record = read_record(path)
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
    """Exit as soon as nothing that bn started is left, so that the interpreter need not tidy up."""
    code = flushed(code)
    wait_for_threads()
    os._exit(code)


if __name__ == "__main__":
    main()
