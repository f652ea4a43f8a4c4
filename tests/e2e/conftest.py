"""A real `bn`, run as users run it, in a temporary directory and with a store of its own."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import pytest
from attrs import define

if TYPE_CHECKING:
    from tests.e2e.caches import CacheServer
    from tests.e2e.warming import Warm

REPOSITORY = Path(__file__).parents[2]
TOOLCHAINS = REPOSITORY / "specs" / "toolchains"
SECONDS = 300
"""The bound on one run of bn."""


@define
class Bn:
    """The command, with a directory to work in and a store."""

    directory: Path
    store: Path
    env: Mapping[str, str]

    def __call__(
        self, *arguments: str, code: int = 0, env: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run bn, check its exit code, and return what it printed."""
        done = subprocess.run(
            self.command(*arguments),
            cwd=self.directory,
            env={**self.env, **(env or {})},
            capture_output=True,
            text=True,
            timeout=SECONDS,
            stdin=subprocess.DEVNULL,
            check=False,
        )
        assert done.returncode == code, f"exit {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done

    def command(self, *arguments: str) -> list[str]:
        """Return the command line that runs this checkout's bn."""
        return [sys.executable, "-I", "-m", "engine.cli.main", *arguments]

    def json(self, *arguments: str, code: int = 0, env: Mapping[str, str] | None = None) -> Any:
        """Run bn with --json and return what it printed on standard output."""
        return json.loads(self(*arguments, "--json", code=code, env=env).stdout)

    def steps(self, *arguments: str, code: int = 0) -> dict[str, str]:
        """Build and return how each step ended."""
        steps = self.json("build", *arguments, code=code)["steps"]
        return {label: step["status"] for label, step in steps.items()}

    def ran(self, *arguments: str) -> set[str]:
        """Build and return the labels of the steps that ran."""
        return {label for label, status in self.steps(*arguments).items() if status == "built"}

    def put(self, path: Path | str, text: str) -> Path:
        """Write a file (relative to the directory), its text dedented."""
        target = self.directory / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(textwrap.dedent(text))
        return target

    def spec(self, text: str, default: str = "", path: str = "spec.toml") -> Path:
        """Write a spec that has a shell as its toolchain `sh`; `text` is the rest of it."""
        head = f"""
            [package]
            name = "test"
            default = {json.dumps(default.split())}
            [toolchains]
            sh = "{TOOLCHAINS / "host-sh.toml"}"
            """
        return self.put(path, textwrap.dedent(head) + textwrap.dedent(text))

    def result(self, path: str) -> str:
        """Return the text of a file in the result."""
        return (self.directory / "result" / path).read_text()

    def start(self, *arguments: str, **options: Any) -> subprocess.Popen[str]:
        """Start bn, what it says on a pipe, as the leader of a process group."""
        return subprocess.Popen(
            self.command(*arguments),
            **{
                "cwd": self.directory,
                "env": self.env,
                "stdin": subprocess.DEVNULL,
                "stdout": subprocess.PIPE,
                "stderr": subprocess.PIPE,
                "text": True,
                "process_group": 0,
                **options,
            },
        )


def clean_env(store: Path) -> dict[str, str]:
    """Return the environment that tests run bn with."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("BN_")}
    return {**kept, "BN_STORE": str(store), "COLUMNS": "100"}


def store_with(directory: Path, *toolchains: str) -> Path:
    """Return a store that has imported toolchains of the host."""
    bn = Bn(directory, directory / "store", clean_env(directory / "store"))
    text = '[package]\nname = "warm"\n[toolchains]\n'
    for name in toolchains:
        text += f'{name} = "{TOOLCHAINS / f"host-{name}.toml"}"\n'
    for name in toolchains:
        text += f'[actions.a-{name}]\ntools = ["{name}"]\nscript = "true # {name}"\n'
    bn.put("spec.toml", text)
    bn("build")
    return bn.store


@pytest.fixture(scope="session")
def sh_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store that has imported the host's shell; it is small, so that copies of it are cheap."""
    return store_with(tmp_path_factory.mktemp("warm-sh"), "sh")


@pytest.fixture(scope="session")
def cc_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store that has imported the host's C compiler."""
    return store_with(tmp_path_factory.mktemp("warm-cc"), "cc")


@contextlib.contextmanager
def copied(warm_store: Path, tmp_path: Path) -> Iterator[Bn]:
    """Yield a bn in an empty directory, with a copy of a store."""
    store = tmp_path / "store"
    shutil.copytree(warm_store / "index", store / "index")
    shutil.copy(warm_store / "format", store / "format")
    for shared in ("blobs", "trees"):
        subprocess.run(["cp", "-al", str(warm_store / shared), str(store)], check=True)
    project = tmp_path / "project"
    project.mkdir()
    yield Bn(project, store, clean_env(store))
    subprocess.run(["chmod", "-R", "u+w", str(tmp_path)], check=False)


@pytest.fixture
def bn(tmp_path: Path, sh_store: Path) -> Iterator[Bn]:
    """A bn in an empty directory, with a store of its own in which the shell is imported.

    The blobs are shared with the other tests' stores by hard links: a test that damages blobs in
    place takes `cold_bn`.
    """
    with copied(sh_store, tmp_path) as made:
        yield made


@pytest.fixture
def cc_bn(tmp_path: Path, cc_store: Path) -> Iterator[Bn]:
    """A `bn` in whose store the C compiler is imported."""
    with copied(cc_store, tmp_path) as made:
        yield made


@pytest.fixture
def cold_bn(tmp_path: Path) -> Bn:
    """A bn in an empty directory with an empty store."""
    project = tmp_path / "project"
    project.mkdir()
    return Bn(project, tmp_path / "store", clean_env(tmp_path / "store"))


C_PROJECT = {
    "spec.toml": f"""
        [package]
        name = "app"
        default = ["app"]

        [params]
        opt = 1

        [sources.src]
        path = "src"

        [toolchains]
        cc = "{TOOLCHAINS / "host-cc.toml"}"

        [actions.compile]
        foreach = "src:*.c"
        tools = ["cc"]
        inputs = ["{{item}}", "src:*.h"]
        run = [
            "gcc", "-O{{opt}}", "-MD", "-MF", "{{depfile}}", "-Isrc", "-c", "{{item}}",
            "-o", "{{out}}/{{item.stem}}.o",
        ]
        outputs = ["{{item.stem}}.o"]
        depfile = true

        [actions.app]
        tools = ["cc"]
        inputs = ["compile"]
        run = ["gcc", "compile/a.o", "compile/b.o", "-o", "{{out}}/bin/app"]
        outputs = ["bin/app"]

        [actions.check]
        kind = "test"
        tools = ["cc"]
        inputs = ["app"]
        script = "test $(app/bin/app) = 42"
        """,
    "src/a.c": '#include <stdio.h>\n#include "a.h"\nint main(void) { printf("%d\\n", b()); }\n',
    "src/b.c": '#include "a.h"\n#include "b.h"\nint b(void) { return B; }\n',
    "src/a.h": "int b(void);\n",
    "src/b.h": "#define B 42\n",
}


@pytest.fixture
def c_project(cc_bn: Bn) -> Bn:
    """A small C program: `a.c` reads `a.h`, `b.c` reads `a.h` and `b.h`."""
    for name, text in C_PROJECT.items():
        cc_bn.put(name, text)
    return cc_bn


@contextlib.contextmanager
def serving(directory: Path) -> Iterator[str]:
    """Serve a directory on this machine and yield its address."""

    class Handler(SimpleHTTPRequestHandler):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments, directory=str(directory))

        def log_message(self, *arguments: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


Served: TypeAlias = Callable[[Path], AbstractContextManager[str]]


@pytest.fixture
def served() -> Served:
    """What serves a directory over HTTP: a context manager that gives its address."""
    return serving


TWO_AND_A_TEST = """
    [params]
    word = "hello"
    [sources.src]
    path = "src"
    [actions.first]
    tools = ["sh"]
    inputs = ["src"]
    script = "echo {word}; cat src/file > $out/first"
    outputs = ["first"]
    [actions.second]
    tools = ["sh"]
    inputs = ["first"]
    script = "cp first/first $out/second"
    outputs = ["second"]
    [actions.check]
    kind = "test"
    tools = ["sh"]
    inputs = ["second"]
    script = "grep -q text second/second"
    """
TWO = """
    [actions.first]
    tools = ["sh"]
    script = "echo first > $out/first"
    outputs = ["first"]
    [actions.second]
    tools = ["sh"]
    inputs = ["first"]
    script = "cat first/first first/first > $out/second"
    outputs = ["second"]
    """
CHAIN_THAT_FAILS = """
    [params]
    code = 1
    [actions.good]
    tools = ["sh"]
    script = "echo fine > $out/good"
    outputs = ["good"]
    [actions.bad]
    tools = ["sh"]
    inputs = ["good"]
    env = { COLOUR = "red" }
    script = "echo to be seen; exit {code}"
    [actions.after]
    tools = ["sh"]
    inputs = ["bad"]
    script = "true"
    [actions.other]
    tools = ["sh"]
    script = "echo other > $out/other"
    outputs = ["other"]
    """


@pytest.fixture
def small(bn: Bn) -> Bn:
    """Two actions and a test."""
    bn.put("src/file", "text\n")
    bn.spec(TWO_AND_A_TEST, default="second")
    return bn


@pytest.fixture
def project(bn: Bn) -> Bn:
    """Two actions, and nothing built."""
    bn.spec(TWO, default="second")
    return bn


@pytest.fixture
def server(tmp_path: Path) -> Iterator[CacheServer]:
    """A cache server with a store of its own, and without tokens."""
    from tests.e2e.caches import cache_server

    with cache_server(tmp_path / "server") as running:
        yield running


@pytest.fixture
def broken(bn: Bn) -> Bn:
    """A chain whose second action fails, and another action."""
    bn.spec(CHAIN_THAT_FAILS)
    return bn


@pytest.fixture
def warm(bn: Bn) -> Iterator[Warm]:
    """A project, and a zygote that is ready."""
    from tests.e2e.warming import SPEC, Warm

    made = Warm(bn)
    made.edit()
    bn.spec(SPEC, "copy")
    bn("build")
    bn("watch")
    made.zygote()
    yield made
    bn("watch", "--stop")


ONE = """
    [actions.one]
    tools = ["sh"]
    script = "echo one > $out/one"
    outputs = ["one"]
    """


def remains(store: Path) -> list[str]:
    """Return what is left of unfinished work in a store."""
    found = [path.name for place in ("tmp", "work") for path in (store / place).rglob("*")]
    return [name for name in found if name[0] != "t"]  # but the directories for temporaries


def fetching(bn: Bn, address: str, pin: str) -> None:
    """Write a spec that fetches a file."""
    bn.spec(
        f"""
        [sources.file]
        url = "{address}"
        sha256 = "{pin}"
        [actions.one]
        tools = ["sh"]
        inputs = ["file"]
        script = "cat file/*"
        """
    )
