"""What the bench knows of a tool: how its files are written, how it is run, and what it leaves."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar

from attrs import define, field, frozen

from store.store import remove_tree
from tests.bench.model import Workload, write_sources

SPENT = 60.0
"""Seconds that a tool may take to say its version or to end its server."""

LARGE = 200 * 2**20
"""Bytes of a tree from which on it is not kept aside."""


@frozen(kw_only=True)
class Setting:
    """Where and how a tool is run: its programs (name → path) and how many jobs at a time."""

    programs: Mapping[str, str] = field(factory=dict)
    jobs: int = field(factory=lambda: len(os.sched_getaffinity(0)))

    def find(self, name: str) -> str | None:
        """Return the path of a program, None where it is not installed."""
        return self.programs.get(name) or shutil.which(name)


@define(eq=False)
class Peer:
    """A tool with a directory of its own, in which it builds one workload.

    The defaults are those of a tool that builds in place: sources and outputs lie at their paths.
    """

    name: ClassVar[str]
    programs: ClassVar[tuple[str, ...]]
    """What has to be installed; the first is the tool itself."""

    note: ClassVar[str] = ""
    cache: ClassVar[bool] = False
    """It can give outputs back that were removed."""

    slow: ClassVar[bool] = False
    """It takes part in fewer rounds."""

    told: ClassVar[tuple[str, ...]] = ()
    """The phases that something is to be learned from; none: all of them."""

    grouped: ClassVar[bool] = True
    """It can be run in a control group of its own, which counts its processor time."""

    most: ClassVar[int | None] = None
    """The most actions that it is asked to build, unless the caller wants more."""

    setting: Setting
    directory: Path
    workload: Workload = field(init=False)

    @classmethod
    def missing(cls, setting: Setting) -> str | None:
        """Return what keeps it from being used here, None if nothing does."""
        absent = [name for name in cls.programs if not setting.find(name)]
        return f"{', '.join(absent)} not found" if absent else None

    @classmethod
    def version(cls, setting: Setting) -> str:
        """Return the version that it says it has."""
        program = setting.find(cls.programs[0])
        assert program
        said = subprocess.run(
            [program, "--version"], capture_output=True, text=True, check=False, timeout=SPENT
        ).stdout
        words = said.split("\n")[0].split()
        return next((word for word in words if word[0].isdigit()), words[-1] if words else "?")

    def cannot(self, workload: Workload) -> str | None:
        """Return why it does not take part in a workload, None if it does."""
        return None

    def program(self, number: int = 0) -> str:
        """Return the path of one of its programs."""
        found = self.setting.find(self.programs[number])
        assert found
        return found

    def write(self, workload: Workload) -> None:
        """Write sources and build files into the empty directory."""
        self.workload = workload
        self.directory.mkdir(parents=True)
        write_sources(workload, self.place)
        self.write_build()
        self.make_directories()

    def write_build(self) -> None:
        """Write the build files."""
        raise NotImplementedError

    def make_directories(self) -> None:
        """Make the directories that outputs are written to, for tools that do not."""
        for directory in {os.path.dirname(path) for path in self.workload.outputs}:
            (self.directory / directory).mkdir(parents=True, exist_ok=True)

    def place(self, path: str) -> Path:
        """Return where a source or an output lies."""
        return self.directory / path

    def command(self) -> Sequence[str]:
        """Return the command that builds."""
        raise NotImplementedError

    def env(self) -> dict[str, str]:
        """Return the environment of the command."""
        kept = {name: os.environ[name] for name in ("PATH", "HOME", "TMPDIR") if name in os.environ}
        return {"LC_ALL": "C", **kept}

    def forget(self) -> None:
        """Remove everything that a build left."""
        self.remove_outputs()

    def clean(self) -> None:
        """Remove the outputs and keep the cache."""
        self.remove_outputs()

    def remove_outputs(self) -> None:
        """Remove the outputs where they lie in the directory."""
        self.remove(*self.workload.output_tops)
        self.make_directories()

    def remove(self, *names: str) -> None:
        """Remove files and trees of the directory, read-only ones too."""
        for name in names:
            path = self.directory / name
            if path.is_symlink() or path.is_file():
                path.unlink()
            elif path.exists():
                self.put_away(path)

    def put_away(self, tree: Path) -> None:
        """Remove a tree, or move it aside until all rounds are over where it is not large.

        ext4 without a journal looks at inodes that were freed in the last minutes one by one
        whenever a file is made: else what a round pays would be how much the ones before removed.
        """
        if _bytes(tree) > LARGE:
            remove_tree(tree)
            return
        aside = self.directory.with_name("away")
        aside.mkdir(exist_ok=True)
        tree.rename(aside / f"{self.name}.{time.time_ns()}")

    def result(self, end: str) -> Path:
        """Return where an output of `workload.ends` is."""
        return self.place(end)

    def settle(self) -> None:
        """Let what runs all the time come to rest, as it does while its user edits a file."""

    def servers(self) -> list[int]:
        """Return the ids of processes that do the work on the command's behalf."""
        return []

    def stop(self) -> None:
        """End what it left running."""


def _bytes(tree: Path) -> int:
    """Return the bytes that a tree takes up."""
    return sum(
        512 * os.lstat(f"{where}/{name}").st_blocks
        for where, directories, files in os.walk(tree)
        for name in (*directories, *files)
    )
