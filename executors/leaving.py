"""What is tidied up after a build: beside what is left to do, by threads that the process waits for
when it ends; or, where somebody waits for this process's answer and not for its end, after that."""

from __future__ import annotations

from collections.abc import Callable

_held: list[Callable[[], object]] | None = None


def hold() -> None:
    """Leave all for `release` from now on."""
    global _held
    _held = []


def is_held() -> bool:
    """Say whether nothing is done before `release`."""
    return _held is not None


def leave(work: Callable[[], object]) -> None:
    """Have `work`, which needs nothing that anybody closes, done before the process ends."""
    if _held is not None:
        _held.append(work)
        return
    import threading

    threading.Thread(target=work, name="leaving").start()


def at_last(work: Callable[[], object]) -> None:
    """Have something short done, that needs nothing that anybody closes: now, or by `release`."""
    if _held is None:
        work()
    else:
        _held.append(work)


def release() -> None:
    """Do what was held."""
    while _held:
        _held.pop(0)()
