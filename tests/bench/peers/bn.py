"""bn itself, through its launcher, with a store of its own."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Final

from engine import __version__
from store.orphans import OWNER
from store.store import remove_tree
from tests.bench.peers.base import SPENT, Peer, Setting

TOP: Final = Path(__file__).resolve().parents[3]
REST: Final = 0.5
"""Seconds that what is started ahead gets, once the watcher says that all is well."""

RAM_DISK: Final = Path("/dev/shm")


class Bn(Peer):
    """bn; `cold` starts with an empty store, so that it imports the toolchain as well.

    Its outputs lie in the store and a link shows them; they are removed with the tree that is
    linked to, so that `clean` has to make that again. `noop` is the second of two builds of
    nothing new, of which the first is not timed with any tool.
    """

    name: ClassVar = "bn"
    programs: ClassVar = ("bn",)
    note: ClassVar = "sandbox, cache"
    cache: ClassVar = True
    executor: ClassVar[tuple[str, ...]] = ()

    @classmethod
    def missing(cls, setting: Setting) -> str | None:
        return None

    @classmethod
    def version(cls, setting: Setting) -> str:
        return __version__

    def program(self, number: int = 0) -> str:
        return self.setting.programs.get("bn") or str(TOP / "bn")

    def write_build(self) -> None:
        for path, text in self.workload.spec.items():
            file = self.directory / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)

    def make_directories(self) -> None:
        """Nothing is written beside the spec."""

    @property
    def store(self) -> Path:
        """The directory of its store."""
        return self.directory.with_name(f"{self.directory.name}.store")

    def command(self) -> Sequence[str]:
        return (self.program(), "build", f"--jobs={self.setting.jobs}", *self.executor, "spec.toml")

    def env(self) -> dict[str, str]:
        nowhere = str(self.directory.with_name("no-config"))
        return {**super().env(), "BN_STORE": str(self.store), "XDG_CONFIG_HOME": nowhere}

    def forget(self) -> None:
        self.remove("result")
        self._forget_ram_disk()
        if self.store.exists():
            self.put_away(self.store)

    def clean(self) -> None:
        link = self.directory / "result"
        shown = link.resolve()
        self.remove("result")
        if shown.is_relative_to(self.store.resolve()) and shown.is_dir():
            remove_tree(shown)  # links alone: their files are the store's

    def result(self, end: str) -> Path:
        return self.directory / "result" / end.partition("/")[2]

    def stop(self) -> None:
        """Remove the store and what it has on the RAM disk, so that no later store has to."""
        self._forget_ram_disk()
        if self.store.exists():
            remove_tree(self.store)

    def _forget_ram_disk(self) -> None:
        for owner in RAM_DISK.glob(f"bn-{os.getuid()}-*/{OWNER}"):
            if owner.read_text() == str(self.store):
                remove_tree(owner.parent)


class BnBubblewrap(Bn):
    """bn with one bubblewrap for each action."""

    name: ClassVar = "bn-bubblewrap"
    note: ClassVar = "one bubblewrap for each action"
    slow: ClassVar = True
    executor: ClassVar = ("--executor=bubblewrap",)

    @classmethod
    def missing(cls, setting: Setting) -> str | None:
        return None if shutil.which("bwrap") else "bwrap not found"


class BnNative(Bn):
    """bn without a sandbox."""

    name: ClassVar = "bn-native"
    note: ClassVar = "no sandbox, cache"
    executor: ClassVar = ("--executor=native",)


class BnWatch(Bn):
    """bn with its watcher running, which answers for what did not change."""

    name: ClassVar = "bn-watch"
    note: ClassVar = "sandbox, cache, watcher running"
    told: ClassVar = ("noop", "leaf", "comment")
    grouped: ClassVar = False  # nothing is handed over from one control group to another

    @classmethod
    def missing(cls, setting: Setting) -> str | None:
        program = setting.programs.get("bn") or str(TOP / "bn")
        asked = subprocess.run(
            [program, "watch", "--help"], capture_output=True, check=False, timeout=SPENT
        )
        return "bn has no watcher" if asked.returncode else None

    def _watch(self, *words: str) -> str:
        return subprocess.run(
            [self.program(), "watch", *words],
            cwd=self.directory,
            env=self.env(),
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            check=False,
            timeout=SPENT,
        ).stdout

    def _status(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self._watch("--status", "--json") or "{}")
        return found

    def settle(self) -> None:
        """Start the watcher where it does not run; wait until it vouches for what was built, and is
        ready for a build."""
        if not self.store.exists():
            return
        self._watch()
        deadline = time.monotonic() + SPENT
        while time.monotonic() < deadline:
            status = self._status()
            states = [record["state"] for record in status.get("records", ())]
            if (status.get("warm") or {}).get("process") and "setting up" not in states:
                break
            time.sleep(0.05)
        time.sleep(REST)

    def servers(self) -> list[int]:
        """Start the watcher where it does not run."""
        self._watch()
        status = self._status()
        found = (status.get("process"), (status.get("warm") or {}).get("process"))
        return [pid for pid in found if isinstance(pid, int)]

    def forget(self) -> None:
        self._end()
        super().forget()

    def stop(self) -> None:
        """End the watcher and remove the store."""
        self._end()
        super().stop()

    def _end(self) -> None:
        if self.store.exists():
            self._watch("--stop")
