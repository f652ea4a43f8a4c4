"""Helpers: processes that work for this one, as threads of Python would take turns.

::

    who needs it ──(module, function, arguments)──▶ helper: forked
                 ◀──(what it returned,) or ()─────

What goes to and fro is plain (marshal(3)). Where a helper cannot do something it is done again
here, and what is wrong is told; so is all that one had in hand that was killed.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import marshal
import os
import select
import signal
import sys
import threading
import warnings
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from store.digest import MMAP_FROM, Digest
from store.objects import File

if TYPE_CHECKING:
    from typing import Self

    from store.blob_files import BlobFiles

MOST: Final = 3
"""Helpers at a time; with more than two processors it was not measured how many help."""

TOGETHER: Final = 32
"""Files that a helper is given at once, some 3 ms of work."""

IN_LINE: Final = 2
"""How often a helper is given some before what came of the first is taken."""

Wanted: TypeAlias = tuple[str, int, bool]
"""A file's path, about how many bytes it has, and whether it is executable."""

_Portion: TypeAlias = Sequence[tuple[int, Wanted]]
"""Files with their numbers in what is asked for."""

_Copied: TypeAlias = tuple[list[tuple[str, int] | None], dict[str, int]]
"""Digest and length of each file, None where it cannot be copied; bytes that came by tier."""


class Helpers:
    """As many helpers as help, for as long as the context lasts: all that `BlobFiles.copy_all`
    copies, and functions.

    To be made while this process has one thread. Without a second processor there are none.
    """

    def __init__(self, files: BlobFiles, first: Callable[[], object] = int) -> None:
        """Fork them. The last one, which is used first, calls `first` before it has anything to do:
        what modules have learned by that, its later calls know."""
        self._files = files
        self._taking = threading.Lock()
        self._free: list[_Helper] = []
        for left in reversed(range(min(MOST, len(os.sched_getaffinity(0)) - 1))):
            with contextlib.suppress(OSError):  # no more processes: then without
                self._free.append(_Helper(files, int if left else first))
        self._all = [*self._free]

    def __enter__(self) -> Self:
        self._files.helpers = self
        return self

    def __exit__(self, *_: object) -> None:
        self._files.helpers = None
        for helper in self._all:
            helper.close()

    def call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Return what a function of some module gives for `arguments`: a plain value of plain ones,
        without doing anything else. Raises what it raises."""
        helper = self._take()
        if helper is not None:
            with self._using([helper]) as using:
                helper.ask(function, *arguments)
                answer = helper.answer()
                using.clear()
            self._give_back(helper)
            if answer:
                return answer[0]
        return function(*arguments)

    def copy(self, wanted: Sequence[Wanted], idle: Callable[[], bool]) -> list[File]:
        """Do what `BlobFiles.copy_all` does. Large files are copied here: that takes all processors
        as it is."""
        found: dict[int, File] = {}
        line = deque(_portions(wanted))
        large = deque(one for one in enumerate(wanted) if one[1][1] >= MMAP_FROM)
        with self._using([]) as using:
            while line or large or using:
                self._hand_out(line, using)
                if self._take_in(found, using, wait=not large and not (line and idle())):
                    continue
                if large:
                    self._copy_here(found, [large.popleft()])
                elif line:
                    self._copy_here(found, line.popleft())
        return [found[number] for number in range(len(wanted))]

    # inside

    def _take(self) -> _Helper | None:
        with self._taking:
            return self._free.pop() if self._free else None

    def _give_back(self, helper: _Helper) -> None:
        if not helper.gone:
            with self._taking:
                self._free.append(helper)

    @contextlib.contextmanager
    def _using(self, using: list[_Helper]) -> Iterator[list[_Helper]]:
        """Use helpers; those that are still in use when something fails are of no use any more."""
        try:
            yield using
        finally:
            for helper in using:
                helper.close()
            for tier in self._files.tiers if using else ():
                tier.came(0)

    def _hand_out(self, line: deque[_Portion], using: list[_Helper]) -> None:
        """Give to helpers what is in line, to those that nobody uses, too."""
        for helper in using:
            _fill(helper, line)
        while line and (free := self._take()) is not None:
            _fill(free, line)
            if free.has:
                using.append(free)

    def _take_in(self, found: dict[int, File], using: list[_Helper], *, wait: bool) -> bool:
        """Take in what helpers have done; say whether it was anything."""
        done = False
        for helper in [*using]:
            if wait or helper.is_ready():
                self._receive(found, helper)
                done, wait = True, False
                if not helper.has:
                    using.remove(helper)
                    self._give_back(helper)
        return done

    def _receive(self, found: dict[int, File], helper: _Helper) -> None:
        """Take in the first of what a helper has in hand, all of it where it is gone."""
        answer = helper.answer()
        copied: _Copied = answer[0] if answer else ([], {})
        files, came = copied
        for tier in self._files.tiers:
            if tier.name in came:
                tier.came(came[tier.name])
        for portion in [*helper.has] if helper.gone else [helper.has[0]]:
            left = []
            for (number, one), file in zip(portion, files or [None] * len(portion), strict=True):
                if file is None:
                    left.append((number, one))
                else:
                    found[number] = File(Digest(file[0]), file[1], one[2])
            self._copy_here(found, left)
            helper.has.popleft()

    def _copy_here(self, found: dict[int, File], files: _Portion) -> None:
        for number, one in files:
            found[number] = self._files.copy_in(*one)


def _portions(wanted: Sequence[Wanted]) -> Iterator[_Portion]:
    small = [one for one in enumerate(wanted) if one[1][1] < MMAP_FROM]
    for first in range(0, len(small), TOGETHER):
        yield small[first : first + TOGETHER]


def _fill(helper: _Helper, line: deque[_Portion]) -> None:
    """Give a helper of what is in line as much as it may have."""
    while line and len(helper.has) < IN_LINE:
        if not helper.ask(_copied, [one for _, one in line[0]]):
            return
        helper.has.append(line.popleft())


class _Helper:
    """One helper as this process sees it; `has` is what it is to copy and has not answered."""

    def __init__(self, files: BlobFiles, first: Callable[[], object]) -> None:
        """Fork it. Raises OSError."""
        self.has: deque[_Portion] = deque()
        self.gone = False
        asked, asks = os.pipe2(os.O_CLOEXEC)
        told, tells = os.pipe2(os.O_CLOEXEC)
        try:
            self._process = _forked()
        except OSError:
            for handle in (asked, asks, told, tells):
                os.close(handle)
            raise
        if self._process == 0:
            try:
                _serve(files, asked, tells, first)
            finally:
                os._exit(1)
        os.close(asked)
        os.close(tells)
        self._asks = open(asks, "wb")  # noqa: SIM115 closed in `close`
        self._told = open(told, "rb")  # noqa: SIM115

    def ask(self, function: Callable[..., Any], *arguments: Any) -> bool:
        """Say what it is to do; False where it is not there to do it."""
        try:
            marshal.dump((function.__module__, function.__qualname__, arguments), self._asks)
            self._asks.flush()
        except OSError:
            self.gone = not self.has  # what it has done before can still be taken
            return False
        return True

    def is_ready(self) -> bool:
        """Say whether there is an answer, or nobody to give one."""
        poll = select.poll()
        poll.register(self._told, select.POLLIN)
        return bool(poll.poll(0))

    def answer(self) -> tuple[()] | tuple[Any]:
        """Wait for the answer to what it was asked first: what came of it, nothing where it cannot
        do it, or is gone."""
        try:
            answer: tuple[()] | tuple[Any] = marshal.load(self._told)
        except (EOFError, OSError, ValueError, TypeError):
            self.gone = True
            return ()
        return answer

    def close(self) -> None:
        """Have it end, and wait for that."""
        self.gone = True
        with contextlib.suppress(OSError):
            self._asks.close()
        self._told.close()
        with contextlib.suppress(ChildProcessError):
            os.waitpid(self._process, 0)


def _forked() -> int:
    """Do what fork(2) does. Python from 3.12 on warns of other threads, those of others too: what
    runs in a helper takes no lock that one of them may hold."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return os.fork()


_files: BlobFiles
"""In a helper: what it copies into."""


def _serve(files: BlobFiles, asked: int, tells: int, first: Callable[[], object]) -> None:
    """Do what is asked for until nobody asks any more; in the forked process."""
    global _files
    gc.disable()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # it ends with the one that asks
    with contextlib.suppress(Exception):  # it is done again where that can be told
        first()
    sys.meta_path[:] = [one for one in sys.meta_path if _is_pythons(one)]
    low, high = sorted((asked, tells))
    os.closerange(0, low)
    os.closerange(low + 1, high)
    os.closerange(high + 1, 1 << 20)
    _files = files  # as it was when it was forked: which tiers are of use is known
    _files.take_added()
    questions, answers = open(asked, "rb"), open(tells, "wb")  # noqa: SIM115 they end with it
    with contextlib.suppress(EOFError, OSError):
        while True:
            module, name, arguments = marshal.load(questions)
            try:
                function = getattr(importlib.import_module(module), name)
                answer = marshal.dumps((function(*arguments),))
            except Exception:
                answer = marshal.dumps(())  # it is done again where that can be told
            answers.write(answer)
            answers.flush()
    os._exit(0)


def _is_pythons(finder: object) -> bool:
    """Say whether a finder of modules is Python's own: others may have open what is closed here."""
    return str(getattr(finder, "__module__", "")).startswith("_frozen_importlib")


def _copied(wanted: Sequence[Wanted]) -> _Copied:
    """Copy files into the store; in a helper."""
    done: list[tuple[str, int] | None] = []
    for one in wanted:
        try:
            file = _files.copy_in(*one)
            done.append((file.digest, file.size))
        except Exception:
            done.append(None)
    return done, _files.take_added()
