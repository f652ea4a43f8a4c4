"""A watcher that keeps a process ready, as tests need it."""

from __future__ import annotations

import contextlib
import functools
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
from attrs import define

from tests.e2e.conftest import Bn

SECONDS = 60

SPEC = """
    [sources.src]
    path = "src"
    [actions.copy]
    tools = ["sh"]
    inputs = ["src:a.txt"]
    script = "cat src/a.txt > $out/copy"
    outputs = ["copy"]
    [actions.long]
    tools = ["sh"]
    inputs = ["src:a.txt"]
    script = "read name length < src/a.txt; sleep $length; echo $name > $out/long"
    outputs = ["long"]
    [actions.bad]
    tools = ["sh"]
    inputs = ["src:a.txt"]
    script = "cat src/a.txt; exit 3"
    [actions.test]
    kind = "test"
    tools = ["sh"]
    inputs = ["copy"]
    script = "test -s copy/copy"
    """


def until(said: Callable[[], Any]) -> Any:
    """Wait until `said` returns something true, and return that."""
    deadline = time.monotonic() + SECONDS
    while not (found := said()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return found


@define
class Warm:
    """A bn with a zygote, and a project with an input that is other each time."""

    bn: Bn
    number: int = 100

    def status(self) -> Any:
        """Return what the watcher says of the zygote; a busy one does not answer at once."""
        return until(
            lambda: [s["warm"] for s in [self.bn.json("watch", "--status")] if "warm" in s]
        )[0]

    def zygote(self) -> psutil.Process:
        """Return the zygote, as soon as there is one."""
        return psutil.Process(until(lambda: self.status()["process"]))

    def worker(self, word: str) -> psutil.Process:
        """Return the zygote's child whose action has the word on its command line."""
        (found,) = (one for one in self.zygote().children() if above(one, word))
        return found

    def edit(self, length: float = 0) -> str:
        """Change the input; return a word of it that no other process has on its command line."""
        self.number += 1
        word = f"{length}{os.getpid():07}{self.number}" if length else "0.001"
        self.bn.put("src/a.txt", f"n{self.number} {word}\n")
        return word

    def handed(self, wanted: int, run: Callable[[], Any]) -> Any:
        """Return what `run` does, after a look that so many commands were handed over by that."""
        self.zygote()
        before = self.status()
        done = run()
        after = self.status()
        assert after["handed"] - before["handed"] == wanted, (before, after)
        return done

    def both(self, *arguments: str, code: int = 0, **options: Any) -> tuple[Any, Any]:
        """Run a command from an ordinary start and from a warm one."""
        said = []
        for wanted in (0, 1):
            self.edit()
            env = {**options.get("env", {}), "BN_WARM": str(wanted)}
            run = functools.partial(self.bn, *arguments, **{**options, "env": env, "code": code})
            said.append(self.handed(wanted, run))
        return said[0], said[1]

    @contextlib.contextmanager
    def building(
        self, length: float = 600.0, **options: Any
    ) -> Iterator[tuple[subprocess.Popen[str], psutil.Process, str]]:
        """Yield a client whose action sleeps, its worker, and the word of its input."""
        word = self.edit(length)
        self.zygote()
        client = self.bn.start("build", "long", **options)
        try:
            until(lambda: running(word) or client.poll() is not None)
            assert client.poll() is None, client.communicate()
            worker = self.worker(word)
            yield client, worker, word
        finally:
            with contextlib.suppress(ProcessLookupError):
                client.kill()
            client.communicate()
            until(lambda: not running(word))


def above(process: psutil.Process, word: str) -> bool:
    """Say whether a process below this one has the word on its command line."""
    return any(word in " ".join(said(one)) for one in process.children(recursive=True))


def said(process: psutil.Process) -> list[str]:
    """Return the command line of a process, nothing where it has gone."""
    try:
        return list(process.cmdline())
    except psutil.Error:
        return []


def running(word: str) -> bool:
    """Say whether a process has the word on its command line."""
    for name in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            if word.encode() in Path(f"/proc/{name}/cmdline").read_bytes():
                return True
    return False


def ended(process: psutil.Process) -> bool:
    """Say whether a process is gone, or waits to be asked how it ended."""
    try:
        return process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True
