"""How commands end: errors shown, and made exit codes."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from typing import Any

from store.errors import INTERRUPTED, BnError, HostError, InternalError, host_error


def ended(as_json: bool, command: Callable[[], object]) -> int:
    """Run a command and return its exit code; errors are shown, not raised."""
    try:
        code = command()
    except KeyboardInterrupt:
        return interrupted(as_json)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except BnError as error:
        return _show(error, as_json)
    except OSError as error:
        return _show(_refused(error), as_json)
    except Exception as error:  # the last resort: a bug must not look like the user's fault
        return _show(_bug(error), as_json)
    except BaseExceptionGroup as group:  # an interrupt, as trio passes it on
        if group.subgroup(KeyboardInterrupt) is None:
            raise
        return interrupted(as_json)
    return code if isinstance(code, int) else 0


def interrupted(as_json: bool) -> int:
    """Say that the user ended it and return the exit code."""
    sys.stderr.write("interrupted\n")
    show_json(as_json, "Interrupted", INTERRUPTED, "interrupted")
    return INTERRUPTED


def _refused(error: OSError) -> BnError:
    """Return what to say of an error of the system that nobody expected."""
    try:
        os.getcwd()
    except OSError:
        return HostError("the current directory is gone", "go to one that is there")
    return host_error(error, "the system refused")


def _bug(error: Exception) -> BnError:
    """Return what to say of an exception that nobody expected."""
    if isinstance(error, ExceptionGroup):
        for inner in error.exceptions:
            if isinstance(inner, BnError):
                return inner
            if isinstance(inner, OSError):
                return _refused(inner)
    import traceback

    sys.stderr.write("".join(traceback.format_exception(error)))
    kind = type(error).__name__
    return InternalError(f"internal: {kind}: {error}", "this is a bug in bn: please report it")


def _show(error: BnError, as_json: bool) -> int:
    """Show an error and return its exit code."""
    if as_json:
        sys.stdout.write(json.dumps({"error": document(error)}, indent=2) + "\n")
    text = f"error: {error.render()}\n"
    if sys.stderr.isatty() and "NO_COLOR" not in os.environ:
        text = text.replace("error:", "\x1b[1;31merror:\x1b[0m", 1)
    sys.stderr.write(text)
    return error.exit_code


def show_json(as_json: bool, kind: str, code: int, message: str) -> None:
    """Write what is no BnError as one, for machines."""
    if as_json:
        plain = {"class": kind, "exit_code": code, "message": message, "hint": ""}
        sys.stdout.write(json.dumps({"error": plain}, indent=2) + "\n")


def document(error: BnError) -> dict[str, Any]:
    """Return the JSON form of an error; one of a spec lists its faults with their places."""
    plain: dict[str, Any] = {
        "class": next(k.__name__ for k in type(error).__mro__ if k.__base__ is BnError),
        "exit_code": error.exit_code,
        "message": error.message,
        "hint": error.hint,
    }
    faults = getattr(error, "faults", None)
    if faults:
        from attrs import asdict

        plain["faults"] = [asdict(fault) for fault in faults]
    return plain
