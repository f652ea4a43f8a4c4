"""ccache in all its layouts, and sccache over WebDAV: a C program of three files."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from attrs import define, evolve

from tests.clients.conftest import REPOSITORY, Project, Server, program, three_files


def compile_all(project: Project, launcher: str, names: tuple[str, ...]) -> dict[str, bytes]:
    """Compile and link, run the program, and return the object files."""
    for name in names:
        project.run(launcher, "gcc", "-O1", "-c", f"{name}.c", "-o", f"{name}.o")
    project.run("gcc", *(f"{name}.o" for name in names), "-o", "program")
    assert project.run("./program") == "hi 3\n"
    return project.read("*.o")


@define
class Ccache:
    """The project, and ccache with what is remote alone."""

    project: Project
    path: str
    names: tuple[str, ...]

    def build(self, storage: str) -> tuple[dict[str, bytes], dict[str, int]]:
        """Build with an empty local cache; return the objects and ccache's own counters."""
        home = str(self.project.directory / "cache")
        env = {"CCACHE_DIR": home, "CCACHE_REMOTE_STORAGE": storage}
        project = evolve(self.project, env={**self.project.env, **env})
        project.clean("*.o", "program", "cache")
        objects = compile_all(project, self.path, self.names)
        lines = project.run(self.path, "--print-stats").splitlines()
        return objects, {name: int(value) for name, value in (line.split() for line in lines)}


@pytest.fixture
def ccache(project: Project) -> Ccache:
    return Ccache(project, program("ccache"), three_files(project))


@pytest.mark.parametrize("layout", ["bazel", "subdirs", "flat"])
def test_ccache(ccache: Ccache, server: Server, layout: str) -> None:
    storage = f"{server.place()}/p|layout={layout}"
    cold, counts = ccache.build(storage)
    assert (counts["cache_miss"], counts["remote_storage_hit"]) == (3, 0)
    assert counts["remote_storage_write"] == 6
    warm, counts = ccache.build(storage)
    assert (counts["cache_miss"], counts["remote_storage_hit"]) == (0, 3)
    assert counts["remote_storage_error"] == counts["remote_storage_timeout"] == 0
    assert counts["remote_storage_read_hit"] == 6
    assert warm == cold


def test_ccache_with_tokens(ccache: Ccache, guarded: Server) -> None:
    place = guarded.place()

    def build(storage: str) -> tuple[int, int]:
        """Return how much ccache stored, and how often it hit."""
        counts = ccache.build(f"{storage}|layout=bazel")[1]
        return counts["remote_storage_write"], counts["remote_storage_hit"]

    assert build(guarded.as_user(place, guarded.reading)) == (0, 0)
    assert build(guarded.as_user(place, guarded.writing)) == (6, 0)
    assert build(guarded.as_user(place, guarded.reading)) == (0, 3)
    assert build(f"{place}|bearer-token={guarded.reading}") == (0, 3)
    assert build(place) == (0, 0)


@pytest.fixture(params=["server", "guarded"])
def sccache(project: Project, request: pytest.FixtureRequest) -> Iterator[tuple[Project, str]]:
    """The project with sccache's settings, and its program; its server ends with the test."""
    server: Server = request.getfixturevalue(request.param)
    path = program("sccache", Path(REPOSITORY / ".venv/bin/sccache"))
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    settings = {
        "SCCACHE_WEBDAV_ENDPOINT": server.place(),
        "SCCACHE_WEBDAV_KEY_PREFIX": "some/prefix",
        **({"SCCACHE_WEBDAV_TOKEN": server.writing} if server.writing else {}),
        "SCCACHE_SERVER_PORT": str(port),
        "SCCACHE_CONF": str(project.directory / "none"),
        "SCCACHE_IDLE_TIMEOUT": "120",
    }
    with_settings = evolve(project, env={**project.env, **settings})
    try:
        yield with_settings, path
    finally:
        with_settings.run("sh", "-c", f"'{path}' --stop-server || true")


def test_sccache(sccache: tuple[Project, str]) -> None:
    project, path = sccache
    names = three_files(project)

    def build() -> tuple[dict[str, bytes], dict[str, Any]]:
        """Build with a server of sccache that has just started; return its statistics."""
        project.run(path, "--start-server")
        project.clean("*.o", "program")
        objects = compile_all(project, path, names)
        stats = json.loads(project.run(path, "--show-stats", "--stats-format", "json"))
        project.run(path, "--stop-server")
        assert stats["cache_location"].startswith("webdav")
        return objects, stats["stats"]

    cold, stats = build()
    assert sum(stats["cache_misses"]["counts"].values()) == 3
    assert (stats["cache_writes"], stats["cache_write_errors"]) == (3, 0)
    warm, stats = build()
    assert sum(stats["cache_hits"]["counts"].values()) == 3
    assert sum(stats["cache_misses"]["counts"].values()) == 0
    assert stats["cache_read_errors"] == stats["cache_timeouts"] == 0
    assert warm == cold
