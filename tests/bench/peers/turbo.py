"""turbo: a package for each action, whose script runs through bun, or through npm."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

from tests.bench.model import Action, Workload, render
from tests.bench.peers.base import SPENT, Peer, Setting


class Turbo(Peer):
    """turbo, with its cache in the directory. The output A/B is that of the package A-B."""

    name: ClassVar = "turbo"
    programs: ClassVar = ("turbo",)
    note: ClassVar = "no sandbox, cache"
    cache: ClassVar = True
    slow: ClassVar = True
    most: ClassVar = 2000

    @classmethod
    def missing(cls, setting: Setting) -> str | None:
        runner = setting.find("bun") or setting.find("npm")
        return super().missing(setting) or (None if runner else "neither bun nor npm found")

    def cannot(self, workload: Workload) -> str | None:
        return None if workload.plain else "its actions leave more than they name"

    def write_build(self) -> None:
        tool = "bun" if self.setting.find("bun") else "npm"
        program = self.setting.find(tool)
        assert program
        said = subprocess.run(
            [program, "--version"], capture_output=True, text=True, check=True, timeout=SPENT
        ).stdout.strip()
        self._put(
            "package.json",
            {
                "name": "bench",
                "private": True,
                "packageManager": f"{tool}@{said}",
                "workspaces": ["packages/*"],
            },
        )
        self._put(
            "turbo.json",
            {"tasks": {"build": {"dependsOn": ["^build"], "outputs": ["out/**"]}}},
        )
        (self.directory / ".gitignore").write_text("out/\n.turbo/\n")
        for action in self.workload.actions:
            self._package(action)

    def _package(self, action: Action) -> None:
        makers = self.workload.makers

        def place(path: str) -> str:
            return os.path.relpath(self.place(path), home)

        name = _package_name(action.output)
        home = self.directory / "packages" / name
        needed = sorted(_package_name(path) for path in action.inputs if path in makers)
        sources = [path for path in action.reads if path not in makers]
        inputs = None
        if action.glob and needed:
            inputs = f"../{_package_name(action.glob)}/out/{os.path.basename(action.glob)}"
        elif action.glob:
            inputs = place(action.glob)
            sources = [f"{action.glob.partition('/')[0]}/**"]
        script = render(action, place, inputs)
        os.makedirs(home)
        self._put(
            f"packages/{name}/package.json",
            {
                "name": name,
                "version": "1.0.0",
                "scripts": {"build": script},
                "dependencies": dict.fromkeys(needed, "*"),
            },
        )
        listed = [f"$TURBO_ROOT$/{path}" for path in sources]
        self._put(
            f"packages/{name}/turbo.json",
            {"extends": ["//"], "tasks": {"build": {"inputs": ["package.json", *listed]}}},
        )

    def _put(self, path: str, document: Any) -> None:
        (self.directory / path).write_text(json.dumps(document, indent=1))

    def place(self, path: str) -> Path:
        if path in self.workload.makers:
            name = os.path.basename(path)
            return self.directory / "packages" / _package_name(path) / "out" / name
        return self.directory / path

    def make_directories(self) -> None:
        for action in self.workload.actions:
            self.place(action.output).parent.mkdir(exist_ok=True)

    def command(self) -> Sequence[str]:
        return (
            self.program(),
            "run",
            "build",
            "--cache=local:rw",
            f"--concurrency={self.setting.jobs}",
            "--output-logs=errors-only",
        )

    def env(self) -> dict[str, str]:
        quiet = ("TURBO_TELEMETRY_DISABLED", "DO_NOT_TRACK", "TURBO_NO_UPDATE_NOTIFIER")
        return {**super().env(), **dict.fromkeys(quiet, "1")}

    def forget(self) -> None:
        self.remove(".turbo")
        for package in (self.directory / "packages").iterdir():
            self.remove(f"packages/{package.name}/.turbo")
        self.remove_outputs()

    def remove_outputs(self) -> None:
        for package in (self.directory / "packages").iterdir():
            self.remove(f"packages/{package.name}/out")
        self.make_directories()


def _package_name(output: str) -> str:
    return output.replace("/", "-")
