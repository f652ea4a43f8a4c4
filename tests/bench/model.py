"""Workloads as every tool understands them: files, rules, and actions that make one file each.

Paths are relative to the directory of the build. A rule's script is for `/bin/sh`; in it
`{in}` stands for the action's inputs, `{out}` for its output, `{md}` for the options that make gcc
write a depfile, and any other `{PATH}` for a source file or directory, which a tool may have put
elsewhere. An output `ARTIFACT/PATH` is the output PATH of the artifact in bn's spec.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path, PurePath
from typing import Final

from attrs import field, frozen

PHASES: Final = ("cold", "noop", "leaf", "comment", "clean")
"""Nothing there; nothing changed; one source changed; one changed in a way that alters no output;
all outputs removed but a cache there is."""

CHUNK: Final = 2**20


@frozen(kw_only=True)
class Rule:
    """A command for many actions; `common` are sources that each of them reads besides its own."""

    name: str
    script: str
    common: tuple[str, ...] = ()


@frozen(kw_only=True)
class Action:
    """A command that makes `output` of `inputs`.

    `glob` is a shorter way for a shell to name all the inputs, in order. `others` are what it
    leaves besides `output`.
    """

    rule: Rule
    inputs: tuple[str, ...]
    output: str
    glob: str = ""
    others: tuple[str, ...] = ()

    @property
    def reads(self) -> tuple[str, ...]:
        """All that has to be there before it runs."""
        return (*self.inputs, *self.rule.common)


@frozen
class Bulk:
    """A large file of random bytes: how many, and of which seed."""

    size: int
    seed: int = 0


@frozen(kw_only=True)
class Edit:
    """A change to one of `paths`: line `line` (an index, -1 the last) becomes `text`, in which
    `{n}` is a number that was not there before."""

    paths: tuple[str, ...] = field(repr=False)
    line: int
    text: str

    def choose(self, rng: random.Random) -> str:
        """Return the path that is changed this time."""
        return rng.choice(self.paths)

    def apply(self, file: Path, number: int) -> None:
        """Change `file`."""
        lines = file.read_text().splitlines()
        lines[self.line] = self.text.replace("{n}", str(number))
        file.write_text("\n".join(lines) + "\n")


@frozen(kw_only=True)
class Workload:
    """What is built: by bn from the files `spec`, by the others from `actions`.

    `ends` are outputs that all tools must make alike, each under the target that shows it. With
    `cold_once` only the first round builds from nothing. `plain` says that every action reads and
    writes just what it names, so that tools can be used that see nothing else.
    """

    name: str
    title: str
    sources: Mapping[str, bytes | Bulk] = field(repr=False)
    actions: tuple[Action, ...] = field(repr=False)
    ends: tuple[str, ...]
    spec: Mapping[str, str] = field(repr=False)
    edits: Mapping[str, Edit] = field(factory=dict, repr=False)
    phases: tuple[str, ...] = PHASES
    cold_once: bool = False
    plain: bool = True
    raw: Mapping[str, str] = field(factory=dict)
    """Commands to compare with that are no builds: name → script, timed as `cold`."""

    @cached_property
    def outputs(self) -> tuple[str, ...]:
        """Everything that the actions leave."""
        return tuple(path for action in self.actions for path in (action.output, *action.others))

    @cached_property
    def output_tops(self) -> frozenset[str]:
        """The directories that hold outputs and no sources."""
        with_sources = {str(above) for path in self.sources for above in PurePath(path).parents}
        tops = set()
        for path in self.outputs:
            above = [*map(str, reversed(PurePath(path).parents)), path]
            tops.add(next(one for one in above if one not in with_sources))
        return frozenset(tops)

    @cached_property
    def makers(self) -> Mapping[str, Action]:
        """The action that makes each output."""
        return {path: one for one in self.actions for path in (one.output, *one.others)}


def render(
    action: Action,
    place: Callable[[str], str] = str,
    inputs: str | None = None,
    out: str | None = None,
    md: str = "",
    quote: Callable[[str], str] = str,
) -> str:
    """Return the action's script with everything filled in.

    `place` says how a path is written, `quote` how the script's own text is; `inputs` and `out`
    replace what stands for those.
    """
    if inputs is None:
        inputs = action.glob or " ".join(place(path) for path in action.inputs)
    known = {"in": inputs, "out": place(action.output) if out is None else out, "md": md}
    parts = re.split(r"\{([^{}]+)\}", action.rule.script)
    texts = [quote(part) for part in parts[::2]]
    names = [known[name] if name in known else place(name) for name in parts[1::2]]
    return "".join(text + name for text, name in zip(texts, [*names, ""], strict=True))


def write_sources(workload: Workload, place: Callable[[str], Path]) -> None:
    """Write the source files."""
    made: set[Path] = set()
    for path, content in workload.sources.items():
        file = place(path)
        if file.parent not in made:
            file.parent.mkdir(parents=True, exist_ok=True)
            made.add(file.parent)
        if isinstance(content, bytes):
            file.write_bytes(content)
        else:
            _write_bulk(file, content)


def _write_bulk(file: Path, bulk: Bulk) -> None:
    rng = random.Random(bulk.seed)
    with open(file, "wb") as target:
        for start in range(0, bulk.size, CHUNK):
            target.write(rng.randbytes(min(CHUNK, bulk.size - start)))
