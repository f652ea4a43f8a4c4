"""Turborepo (signed and not), Nx and moon: small packages, built with and without a token."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve

from tests.clients.conftest import NODE_MODULES, Project, Server, node_program, program

LOCK = {
    "name": "words",
    "lockfileVersion": 3,
    "packages": {
        "": {"name": "words", "workspaces": ["packages/*"]},
        "node_modules/a": {"resolved": "packages/a", "link": True},
        "node_modules/b": {"resolved": "packages/b", "link": True},
        "packages/a": {"version": "1.0.0"},
        "packages/b": {"version": "1.0.0", "dependencies": {"a": "1.0.0"}},
    },
}


@pytest.mark.parametrize("signed", [False, True])
def test_turbo(project: Project, server: Server, guarded: Server, signed: bool) -> None:
    used = guarded if signed else server
    turbo = node_program("turbo", "@turbo/linux-")
    program("npm")  # runs the scripts
    root = {"name": "words", "private": True, "packageManager": "npm@9.0.0"}
    task = {"outputs": ["dist/**"], "dependsOn": ["^build"]}
    project.put("package.json", json.dumps({**root, "workspaces": ["packages/*"]}))
    project.put("package-lock.json", json.dumps(LOCK))
    project.put(
        "turbo.json",
        json.dumps({"tasks": {"build": task}, "remoteCache": {"signature": signed}}),
    )
    for name, script, needs in (
        ("a", "mkdir -p dist && echo alpha > dist/a.txt", {}),
        ("b", "mkdir -p dist && tr a-z A-Z < ../a/dist/a.txt > dist/b.txt", {"a": "1.0.0"}),
    ):
        package = {"name": name, "version": "1.0.0", "dependencies": needs}
        project.put(
            f"packages/{name}/package.json", json.dumps({**package, "scripts": {"build": script}})
        )
    settings = {
        "TURBO_API": used.place(),
        "TURBO_TOKEN": used.writing or "sesame",
        "TURBO_TEAM": "words",
        "TURBO_REMOTE_CACHE_SIGNATURE_KEY": "secret",
        "TURBO_TELEMETRY_DISABLED": "1",
    }
    project = evolve(project, env={**project.env, **settings})

    def build() -> tuple[dict[str, bytes], list[dict[str, Any]]]:
        """Build without a local cache; return the outputs and what turbo says of each task."""
        project.clean(".turbo", "node_modules", "packages/*/dist", "packages/*/.turbo")
        project.run(turbo, "run", "build", "--no-update-notifier", "--summarize")
        (summary,) = project.read(".turbo/runs/*.json").values()
        caches = [task["cache"] for task in json.loads(summary)["tasks"]]
        return project.read("packages/*/dist/*"), caches

    cold, caches = build()
    assert [cache["status"] for cache in caches] == ["MISS", "MISS"]
    warm, caches = build()
    assert [(cache["status"], cache["source"]) for cache in caches] == [("HIT", "REMOTE")] * 2
    assert warm == cold
    assert sorted(cold.values()) == [b"ALPHA\n", b"alpha\n"]


def test_nx(project: Project, guarded: Server) -> None:
    nx = program("nx", NODE_MODULES / ".bin" / "nx")
    modules = next(one for one in Path(nx).resolve().parents if one.name == "node_modules")
    (project.directory / "node_modules").symlink_to(modules)  # Nx wants to be installed there
    package = {"name": "words", "private": True, "workspaces": ["app"]}
    project.put("package.json", json.dumps(package))
    task = {"cache": True, "outputs": ["{projectRoot}/dist"]}
    project.put("nx.json", json.dumps({"targetDefaults": {"build": task}}))
    script = {"build": "mkdir -p dist && echo alpha > dist/a.txt"}
    project.put(
        "app/package.json", json.dumps({"name": "app", "version": "1.0.0", "scripts": script})
    )
    settings = {
        "NX_SELF_HOSTED_REMOTE_CACHE_SERVER": guarded.place(),
        "NX_SELF_HOSTED_REMOTE_CACHE_ACCESS_TOKEN": guarded.writing,
        "NX_DAEMON": "false",
        "NX_NO_CLOUD": "true",
    }
    project = evolve(project, env={**project.env, **settings})

    def build() -> str:
        project.clean(".nx", "app/dist")
        said = project.run(nx, "run", "app:build")
        assert project.read("app/dist/*") == {"app/dist/a.txt": b"alpha\n"}
        found = re.search(r"Cache: +([0-9]+/[0-9]+) hit", said)
        return found[1] if found else said

    assert build() == "0/1"
    assert build() == "1/1"


def test_moon(project: Project, guarded: Server) -> None:
    moon = node_program("moon", "@moonrepo/core-")
    git = program("git")
    remote = f"remote: {{api: http, host: '{guarded.place()}', auth: {{token: WORDS_TOKEN}}}}"
    project = evolve(project, env={**project.env, "WORDS_TOKEN": guarded.writing})
    project.put(".moon/workspace.yml", f"projects: [app]\ntelemetry: false\n{remote}\n")
    project.put(
        "app/moon.yml",
        "tasks:\n  build:\n    command: 'cp src.txt out.txt'\n"
        "    inputs: ['src.txt']\n    outputs: ['out.txt']\n",
    )
    project.put("app/src.txt", "text\n")
    project.run(git, "init", "-q", ".")
    project.run(git, "add", "-A")
    project.run(git, "-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "all")

    def build() -> str:
        project.clean(".moon/cache", "app/out.txt")
        said = project.run(moon, "run", "app:build")
        assert project.read("app/out.txt") == {"app/out.txt": b"text\n"}
        return said

    assert "cached" not in build()
    assert "cached from remote" in build()
