"""bazel, each action in its sandbox, with a server that stays and a disk cache."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar, Final

from store.store import remove_tree
from tests.bench.model import Action, Workload, render
from tests.bench.peers.base import SPENT, Peer, Setting

RULE: Final = """def _step(ctx):
    ctx.actions.run(
        outputs = [ctx.outputs.out],
        inputs = ctx.files.srcs + ctx.files.common,
        executable = "/bin/sh",
        arguments = ["-c", ctx.attr.script, "sh", ctx.outputs.out.path] +
                    [one.path for one in ctx.files.srcs],
        env = {"PATH": "/usr/bin:/bin", "LC_ALL": "C"},
    )
    return [DefaultInfo(files = depset([ctx.outputs.out]))]

step = rule(
    implementation = _step,
    attrs = {
        "srcs": attr.label_list(allow_files = True),
        "common": attr.label_list(allow_files = True),
        "out": attr.output(mandatory = True),
        "script": attr.string(mandatory = True),
    },
)
"""


class Bazel(Peer):
    """bazel; `cold` starts with its server running and its cache empty."""

    name: ClassVar = "bazel"
    programs: ClassVar = ("bazel",)
    note: ClassVar = "sandbox, disk cache, server running"
    cache: ClassVar = True
    slow: ClassVar = True
    most: ClassVar = 12_000

    @classmethod
    def version(cls, setting: Setting) -> str:
        """Return the version of Debian's package where bazel does not know its own."""
        said = super().version(setting)
        if said != "no_version":
            return said
        query = ("dpkg-query", "-W", "-f", "${Version}", "bazel-bootstrap")
        with contextlib.suppress(OSError, subprocess.SubprocessError):
            found = subprocess.run(query, capture_output=True, text=True, timeout=SPENT, check=True)
            return found.stdout.partition("+")[0]
        return "?"

    def cannot(self, workload: Workload) -> str | None:
        return None if workload.plain else "its actions leave more than they name"

    @property
    def beside(self) -> Path:
        """The directory of what it keeps."""
        return self.directory.with_name(f"{self.directory.name}.root")

    def write_build(self) -> None:
        self.beside.mkdir()
        (self.directory / "WORKSPACE").touch()
        (self.directory / "step.bzl").write_text(RULE)
        lines = ['load(":step.bzl", "step")']
        shared: dict[str, tuple[str, ...]] = {}
        for action in self.workload.actions:
            shared.setdefault(action.rule.name, action.rule.common)
        for name, paths in shared.items():
            lines.append(f'filegroup(name = "{name}.common", srcs = {_listed(paths)})')
        lines += [self._step(action) for action in self.workload.actions]
        ends = _listed([f":{end}" for end in self.workload.ends])
        lines.append(f'filegroup(name = "ends", srcs = {ends})')
        (self.directory / "BUILD").write_text("\n".join(lines) + "\n")

    def _step(self, action: Action) -> str:
        script = "o=$1; shift; " + render(action, inputs='"$@"', out="$o")
        quoted = script.replace("\\", "\\\\").replace('"', '\\"')
        name = action.output.replace("/", "-")
        return (
            f'step(name = "{name}.step", srcs = {_listed(action.inputs)}, '
            f'common = [":{action.rule.name}.common"], out = "{action.output}", '
            f'script = "{quoted}")'
        )

    def make_directories(self) -> None:
        """Its outputs lie elsewhere."""

    def _bazel(self, *words: str) -> tuple[str, ...]:
        root = f"--output_user_root={self.beside / 'user'}"
        rc = ("--nohome_rc", "--noworkspace_rc")  # Debian's needs the system's
        return (self.program(), root, *rc, "--max_idle_secs=600", *words)

    def command(self) -> Sequence[str]:
        return self._bazel(
            "build",
            f"--jobs={self.setting.jobs}",
            f"--disk_cache={self.beside / 'cache'}",
            "--spawn_strategy=sandboxed",
            "--nosandbox_debug",
            "--color=no",
            "--curses=no",
            "--noshow_progress",
            "//:ends",
        )

    def _say(self, *words: str) -> str:
        return subprocess.run(
            self._bazel(*words),
            cwd=self.directory,
            env=self.env(),
            check=True,
            capture_output=True,
            text=True,
            timeout=SPENT * 5,
        ).stdout.strip()

    def forget(self) -> None:
        self._say("clean")
        if (self.beside / "cache").exists():
            self.put_away(self.beside / "cache")

    def clean(self) -> None:
        self._say("clean")

    def result(self, end: str) -> Path:
        return self.directory / "bazel-bin" / end

    def servers(self) -> list[int]:
        return [int(self._say("info", "server_pid"))]

    def stop(self) -> None:
        """End the server; by its id if it does not end when it is asked to."""
        if not self.beside.exists():
            return
        pids = [int(file.read_text()) for file in self.beside.glob("user/*/server/server.pid.txt")]
        with contextlib.suppress(subprocess.SubprocessError):
            self._say("shutdown")
        for pid in pids:
            with contextlib.suppress(OSError):
                if b"bazel" in Path(f"/proc/{pid}/cmdline").read_bytes():
                    os.kill(pid, 9)
        remove_tree(self.beside)


def _listed(paths: Sequence[str]) -> str:
    return "[" + ", ".join(f'"{path}"' for path in paths) + "]"
