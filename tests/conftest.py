"""A store, a toolchain made of the host's files, and executors with short ways to ask them."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import pytest
from attrs import evolve
from hypothesis import HealthCheck, settings

from executors.base import BASE_ENV, ExecutionRequest, Limits, Outcome
from executors.kernel import fixes_addresses, free_addresses
from executors.native import Native
from executors.sandbox import PlainSandbox, Sandbox
from store.digest import Digest
from store.objects import Action, Entry, File, Link
from store.store import Store
from store.trees import build_tree, find

settings.register_profile("bn", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("bn")  # a busy machine fails no test

COMMANDS: Final = (
    *("sh", "perl", "cat", "chmod", "cp", "dd", "env", "hostname", "id", "ln", "ls", "mkdir"),
    *("mkfifo", "mknod", "mv", "readlink", "rm", "setsid", "sleep", "stat", "touch", "true"),
)


def pytest_configure() -> None:
    """Let what the tests start be ended by signals, also where a shell or nohup has these ignored:
    a handler that does nothing is as good here, and not passed on."""
    for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, lambda *_: None)


@pytest.fixture(autouse=True)
def _addresses() -> Iterator[None]:
    """Leave randomised what was: an executor fixes the addresses of all that its process starts,
    and a later test starts a bn as a user would."""
    was = fixes_addresses()
    yield
    if not was:
        free_addresses()


@pytest.fixture(scope="session")
def host_files() -> dict[str, str]:
    """The commands and the shared libraries that they need: place in a tree → path here."""
    found: dict[str, str] = {}
    for command in COMMANDS:
        program = shutil.which(command, path=BASE_ENV["PATH"])
        assert program, f"the tests need {command}"
        needed = said_by("ldd", program)
        for path in [program, *re.findall(r"(?:=> |^\s+)(/\S+) \(", needed, re.MULTILINE)]:
            place = path.lstrip("/")
            found[place if place.startswith("usr/") else f"usr/{place}"] = path
    loaded = "print join qq(\n), values %INC, @DynaLoader::dl_shared_objects"
    for path in said_by("perl", "-MPOSIX", "-MSocket", "-e", loaded).splitlines():
        found[path.lstrip("/")] = path
    return found


def said_by(*command: str) -> str:
    """Return what a command of the host prints."""
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store(tmp_path / "store") as opened:
        yield opened


@pytest.fixture(params=["at length", "packed"])
def trees(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """How trees are held that are read: all of them packed, or none but large ones."""
    held: str = request.param
    if held == "packed":
        monkeypatch.setattr("store.objects.LARGE", 0)
    return held


@pytest.fixture
def tools(store: Store, host_files: Mapping[str, str]) -> Digest:
    """The toolchain tree of the tests: dash, coreutils and perl of the host."""
    entries: dict[str, Entry] = {name: Link(f"usr/{name}") for name in ("bin", "lib", "lib64")}
    for place, path in host_files.items():
        entries[place] = store.cas.copy_in(path, os.stat(path).st_size, True)
    return build_tree(store.cas, entries)


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

    def __init__(self, store: Store, executor: PlainSandbox | Native, tools: Digest) -> None:
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

    def output(self, outcome: Outcome, path: str) -> Entry | None:
        """Return what a successful outcome left at `path`."""
        assert outcome.status == "succeeded", (outcome.reason, self.log(outcome))
        assert outcome.outputs
        return find(self.store.cas, outcome.outputs, path)

    def processes_with(self, mark: str) -> list[int]:
        """Return the ids of the host's processes whose command line holds `mark`."""
        found = []
        for name in filter(str.isdigit, os.listdir("/proc")):
            with contextlib.suppress(OSError):
                if mark.encode() in Path(f"/proc/{name}/cmdline").read_bytes():
                    found.append(int(name))
        return found

    def children(self) -> Iterator[int]:
        """Yield the ids of the processes that this one has, zombies included."""
        for thread in os.listdir("/proc/self/task"):
            yield from map(int, Path(f"/proc/self/task/{thread}/children").read_text().split())

    def left_over(self) -> list[str]:
        """Return the names in the store's work directory when the executor rests."""
        self.executor.close()
        return sorted(os.listdir(self.store.work()))


@pytest.fixture(params=[Sandbox, PlainSandbox])
def sandbox(store: Store, tools: Digest, request: pytest.FixtureRequest) -> Iterator[Runner]:
    """Both hermetic executors in turn."""
    with contextlib.closing(request.param(store)) as executor:
        yield Runner(store, executor, tools)


@pytest.fixture
def native(store: Store, tools: Digest) -> Runner:
    return Runner(store, Native(store), tools)


@pytest.fixture(params=[Sandbox, PlainSandbox, Native])
def either(store: Store, tools: Digest, request: pytest.FixtureRequest) -> Iterator[Runner]:
    """Every executor in turn."""
    with contextlib.closing(request.param(store)) as executor:
        yield Runner(store, executor, tools)
