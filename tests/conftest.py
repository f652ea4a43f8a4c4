"""A store, toolchain trees made from the host's files, and short ways to make requests."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve

from executors.base import BASE_ENV, ExecutionRequest, Limits, Outcome
from executors.native import Native
from executors.sandbox import Sandbox
from store.digest import Digest
from store.objects import Action, Entry, File
from store.store import Store
from store.trees import build_tree

COMMANDS = (
    "sh cat chmod cp dd env id ln ls mkdir mkfifo mknod mv readlink rm sleep setsid stat "
    "hostname touch true uname perl tail"
).split()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store(tmp_path / "store") as opened:
        yield opened


def copy_program(store: Store, path: str, entries: dict[str, Entry]) -> None:
    """Add a program and the shared libraries that it needs to the entries of a tree."""
    needed = subprocess.run(["ldd", path], capture_output=True, text=True, check=False).stdout
    for found in [path, *re.findall(r"(?:=> |^\s+)(/\S+) \(", needed, re.MULTILINE)]:
        place = found.lstrip("/")
        if not place.startswith("usr/"):
            place = f"usr/{place}"
        if place not in entries:
            entries[place] = store.cas.copy_in(found, os.stat(found).st_size, True)


def tree_of(store: Store, commands: list[str]) -> Digest:
    """Store a root file system that holds just these commands of the host, and what they need."""
    from store.objects import Link

    entries: dict[str, Entry] = {name: Link(f"usr/{name}") for name in ("bin", "lib", "lib64")}
    for command in commands:
        found = shutil.which(command, path=BASE_ENV["PATH"])
        assert found, f"the tests need {command}"
        copy_program(store, found, entries)
    return build_tree(store.cas, entries)


@pytest.fixture
def tools(store: Store) -> Digest:
    """The toolchain tree of the attacks: dash, coreutils, perl."""
    return tree_of(store, COMMANDS)


def inputs_of(store: Store, files: Mapping[str, str | bytes | Entry]) -> Digest:
    """Store an input root."""
    entries: dict[str, Entry] = {}
    for path, content in files.items():
        if isinstance(content, str | bytes):
            data = content.encode() if isinstance(content, str) else content
            entries[path] = File(store.cas.put_bytes(data), len(data))
        else:
            entries[path] = content
    return build_tree(store.cas, entries)


class Runner:
    """An executor with a toolchain, and actions that are short to write."""

    def __init__(self, store: Store, executor: Sandbox | Native, tools: Digest) -> None:
        self.store = store
        self.executor = executor
        self.tools = tools

    def request(
        self,
        script: str | tuple[str, ...],
        files: Mapping[str, str | bytes | Entry] | None = None,
        limits: Limits | None = None,
        keep_failed: bool = False,
        **action: Any,
    ) -> ExecutionRequest:
        """Return the request for a script, or for a command as it is."""
        made = Action(
            command=("/bin/sh", "-c", script) if isinstance(script, str) else script,
            input_root=inputs_of(self.store, files or {}),
            toolchains=(self.tools,),
            isolation=self.executor.isolation,
        )
        return ExecutionRequest(
            action=evolve(made, **action),
            label="test",
            limits=limits or Limits(wall_seconds=30),
            keep_failed=keep_failed,
        )

    async def run(self, script: str | tuple[str, ...], **options: Any) -> Outcome:
        """Run one."""
        return await self.executor.execute(self.request(script, **options))

    async def says(self, script: str | tuple[str, ...], **options: Any) -> str:
        """Run one that must succeed and return its log."""
        outcome = await self.run(script, **options)
        log = self.log(outcome)
        assert outcome.status == "succeeded", (outcome.reason, log)
        return log

    def log(self, outcome: Outcome) -> str:
        """Return the log of an outcome."""
        return self.store.cas.get_bytes(outcome.log).decode(errors="replace")

    def left_over(self) -> list[str]:
        """Return the names in the store's work directory."""
        return sorted(os.listdir(self.store.work()))


@pytest.fixture
def sandbox(store: Store, tools: Digest) -> Runner:
    return Runner(store, Sandbox(store), tools)


@pytest.fixture
def native(store: Store, tools: Digest) -> Runner:
    return Runner(store, Native(store), tools)


def processes_with(mark: str) -> list[int]:
    """Return the ids of the host's running processes whose command line holds `mark`."""
    found = []
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            line = Path(f"/proc/{name}/cmdline").read_bytes()
        except OSError:
            continue
        if mark.encode() in line and int(name) != os.getpid():
            found.append(int(name))
    return found


RunnerOf = Callable[[str], Runner]
PYTHON = sys.executable
