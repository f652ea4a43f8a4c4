"""Tools that build in place, without sandbox and cache: ninja, n2, make and tup."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from typing import ClassVar

from tests.bench.model import Action, Workload, render
from tests.bench.peers.base import SPENT, Peer, Setting


def escaped(text: str) -> str:
    """Return text as ninja and make take it in a command."""
    return text.replace("$", "$$")


def has_depfile(action: Action) -> bool:
    """Say whether the action writes a depfile where it is asked to."""
    return "{md}" in action.rule.script


class Ninja(Peer):
    """ninja, with depfiles in its own log."""

    name: ClassVar = "ninja"
    programs: ClassVar = ("ninja",)
    note: ClassVar = "no sandbox, no cache"

    def write_build(self) -> None:
        rules: dict[str, str] = {}
        lines: list[str] = []
        for action in self.workload.actions:
            rules.setdefault(action.rule.name, self._rule(action))
            outputs = " ".join((action.output, *action.others))
            common = "" if has_depfile(action) else " ".join(action.rule.common)
            implicit = f" | {common}" if common else ""
            inputs = " ".join(action.inputs)
            lines.append(f"build {outputs}: {action.rule.name} {inputs}{implicit}")
        ends = " ".join(self.workload.ends)
        text = "\n".join([*rules.values(), *lines, f"default {ends}"])
        (self.directory / "build.ninja").write_text(f"{text}\n")

    def _rule(self, action: Action) -> str:
        command = render(
            action,
            inputs=action.glob or "$in",
            out="$out",
            md=" -MD -MF $out.d",
            quote=escaped,
        )
        deps = "\n  depfile = $out.d\n  deps = gcc" if has_depfile(action) else ""
        return f"rule {action.rule.name}\n  command = {command}{deps}"

    def command(self) -> Sequence[str]:
        return (self.program(), f"-j{self.setting.jobs}", *self.workload.ends)

    def forget(self) -> None:
        self.remove(".ninja_log", ".ninja_deps")
        super().forget()


class N2(Ninja):
    """n2, from ninja's file."""

    name: ClassVar = "n2"
    programs: ClassVar = ("n2",)

    def forget(self) -> None:
        self.remove(".n2_db")
        super().forget()


class Make(Peer):
    """GNU make, without its built-in rules."""

    name: ClassVar = "make"
    programs: ClassVar = ("make",)
    note: ClassVar = "no sandbox, no cache"

    def write_build(self) -> None:
        lines = [f"all: {' '.join(self.workload.ends)}"]
        depfiles = []
        for action in self.workload.actions:
            md = f" -MD -MF {action.output}.d"
            common = () if has_depfile(action) else action.rule.common
            needed = " ".join((*action.inputs, *common))
            lines.append(f"{action.output}: {needed}\n\t{render(action, md=md, quote=escaped)}")
            lines.extend(f"{other}: {action.output} ;" for other in action.others)
            depfiles += [f"{action.output}.d"] if has_depfile(action) else []
        if depfiles:
            lines.append(f"-include {' '.join(depfiles)}")
        (self.directory / "Makefile").write_text("\n".join(lines) + "\n")

    def command(self) -> Sequence[str]:
        return (self.program(), "-r", "-R", f"-j{self.setting.jobs}", "all")


class Tup(Peer):
    """tup, which watches what commands read and write through FUSE."""

    name: ClassVar = "tup"
    programs: ClassVar = ("tup",)
    note: ClassVar = "undeclared inputs are errors, no cache"
    most: ClassVar = 12_000

    @classmethod
    def version(cls, setting: Setting) -> str:
        return super().version(setting).split("-")[0]

    def cannot(self, workload: Workload) -> str | None:
        return None if workload.plain else "its actions leave more than they name"

    def write_build(self) -> None:
        lines = []
        for action in self.workload.actions:
            common = f" | {' '.join(action.rule.common)}" if action.rule.common else ""
            glob = action.glob if "*" not in action.glob.rpartition("/")[0] else ""
            inputs = glob or " ".join(action.inputs)
            command = render(action).replace("%", "%%")
            lines.append(f": {inputs}{common} |> {command} |> {action.output}")
        (self.directory / "Tupfile").write_text("\n".join(lines) + "\n")
        self._init()

    def _init(self) -> None:
        subprocess.run(
            [self.program(), "init"],
            cwd=self.directory,
            env=self.env(),
            check=True,
            capture_output=True,
            timeout=SPENT,
        )

    def command(self) -> Sequence[str]:
        return (self.program(), "upd", f"-j{self.setting.jobs}")

    def forget(self) -> None:
        self.remove(".tup")
        super().forget()
        self._init()
