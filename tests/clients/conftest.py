"""A real `bn serve`, and real clients of it: each builds a small project cold, clean and warm."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from attrs import define, evolve, field

REPOSITORY = Path(__file__).parents[2]
NODE_MODULES = REPOSITORY / ".venv" / "clients" / "node_modules"
INSTALLED = ("ccache", "sccache", "bazel", "turbo", "nx")
"""Clients that ./check installs, so that CI has to have them."""

SECONDS = 300
"""The bound on one run of a client."""


@define
class Server:
    """A running `bn serve`; where it asks for tokens, one that may read and one that may write."""

    url: str
    reading: str = ""
    writing: str = ""
    _numbers: Iterator[int] = field(factory=lambda: itertools.count(1))

    def place(self) -> str:
        """Return the address of a name space of its own, without a slash at the end."""
        return f"{self.url}/ns/test-{next(self._numbers)}"

    def as_user(self, place: str, token: str) -> str:
        """Return an address that shows a token as the password of any user."""
        return place.replace("://", f"://x:{token}@", 1)


def bn(*arguments: str) -> tuple[str, ...]:
    """Return the command line that runs this checkout's bn."""
    return (sys.executable, "-I", "-m", "engine.cli.main", *arguments)


@contextlib.contextmanager
def serving(directory: Path, *options: str) -> Iterator[Server]:
    """Start a server on loopback as users do, with its store in `directory`; end it afterwards."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("BN_")}
    with subprocess.Popen(
        bn("serve", "--bind", "127.0.0.1:0", "--store", str(directory / "store"), *options),
        cwd=directory,
        env={**kept, "XDG_CONFIG_HOME": str(directory)},
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stderr is not None
        said = process.stderr.readline()
        try:
            found = re.search(r"http://127\.0\.0\.1:[0-9]+", said)
            assert found, said + process.stderr.read()
            yield Server(found[0])
        finally:
            process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.communicate(timeout=30)
            process.kill()
    assert process.returncode == 0


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server for all tests of this process."""
    with serving(tmp_path_factory.mktemp("serve")) as started:
        yield started


@pytest.fixture(scope="session")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that asks for tokens."""
    directory = tmp_path_factory.mktemp("guarded")
    tokens = {scope: token(directory, scope) for scope in ("read", "write")}
    with serving(directory) as started:
        yield evolve(started, reading=tokens["read"], writing=tokens["write"])


def token(directory: Path, scope: str) -> str:
    """Return a new token for the server whose store is in `directory`."""
    made = subprocess.run(
        bn("serve", "token", "add", f"may-{scope}", "--scope", scope, "--json"),
        env={"PATH": os.environ["PATH"], "BN_STORE": str(directory / "store")},
        capture_output=True,
        check=True,
    )
    return str(json.loads(made.stdout)["token"])


def program(name: str, *places: Path) -> str:
    """Return the path of a client's program; where there is none, skip the test."""
    found = next((str(one) for one in places if one.exists()), None) or shutil.which(name)
    if found is None:
        if name not in INSTALLED:
            pytest.skip(f"{name} is not here, and ./check does not install it")
        message = f"{name} is not here: ./check could not install it (see .venv/setup.log)"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    return found


def node_program(name: str, package: str) -> str:
    """Return the path of a program that ./check installs by npm."""
    return program(
        name,
        *sorted(NODE_MODULES.glob(f"{package}*/bin/{name}")),
        *sorted(NODE_MODULES.glob(f"{package}*/{name}")),
    )


@define
class Project:
    """A directory, and what the client needs in its environment."""

    directory: Path
    env: Mapping[str, str]

    def run(self, *command: str, **env: str) -> str:
        """Run a command that must succeed and return what it printed, on both channels."""
        done = subprocess.run(
            command,
            cwd=self.directory,
            env={**self.env, **env},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=SECONDS,
            check=False,
        )
        assert done.returncode == 0, f"exit {done.returncode} of {command}\n{done.stdout}"
        return done.stdout

    def put(self, path: str, text: str) -> None:
        """Write a file."""
        target = self.directory / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)

    def clean(self, *patterns: str) -> None:
        """Remove what the patterns match."""
        for pattern in patterns:
            for path in list(self.directory.glob(pattern)):
                if path.is_dir():
                    shutil.rmtree(path)
                else:
                    path.unlink(missing_ok=True)

    def read(self, *patterns: str) -> dict[str, bytes]:
        """Return the files that the patterns match, by path."""
        return {
            str(path.relative_to(self.directory)): path.read_bytes()
            for pattern in patterns
            for path in sorted(self.directory.glob(pattern))
        }


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """An empty project, with a home of its own and nothing of the user's settings."""
    home = tmp_path / "home"
    directory = tmp_path / "project"
    home.mkdir()
    directory.mkdir()
    kept = {name: os.environ[name] for name in ("PATH", "LANG", "TMPDIR") if name in os.environ}
    return Project(directory, {**kept, "HOME": str(home), "XDG_CACHE_HOME": str(home / "cache")})


def three_files(project: Project) -> tuple[str, ...]:
    """Write a C program of three files and return their names without the suffix."""
    project.put("words.h", "const char *greeting(void);\nint count(void);\n")
    project.put("main.c", MAIN)
    project.put("greeting.c", '#include "words.h"\nconst char *greeting(void) { return "hi"; }\n')
    project.put("count.c", '#include "words.h"\nint count(void) { return 3; }\n')
    return ("main", "greeting", "count")


MAIN = """\
#include <stdio.h>
#include "words.h"
int main(void) { printf("%s %d\\n", greeting(), count()); return 0; }
"""
