"""Real cache servers for the tests, builders with stores of their own, and what a liar uploads."""

from __future__ import annotations

import contextlib
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx
from attrs import define, evolve

from engine.http.framing import head
from store.digest import Digest, digest_bytes
from store.objects import ActionResult, File, Realisation, Tree
from store.signatures import SigningKey
from tests.e2e.conftest import Bn, clean_env

STARTED = re.compile(r"serving .* at (https?://\S+:\d+)/")


@define
class CacheServer:
    """A running `bn serve`."""

    url: str
    store: Path
    said: list[str]

    def token(self, name: str, scope: str, *more: str) -> str:
        """Make a token; from then on one is needed."""
        return self.bn("token", "add", name, "--scope", scope, *more).strip()

    def bn(self, *arguments: str) -> str:
        """Run `bn serve …` on the same store and return what it prints."""
        command = [sys.executable, "-I", "-m", "engine.cli.main", "serve", *arguments]
        env = clean_env(self.store)
        done = subprocess.run(command, env=env, capture_output=True, text=True, check=True)
        return done.stdout


@contextlib.contextmanager
def cache_server(directory: Path, config: str = "") -> Iterator[CacheServer]:
    """Run a server with a store in `directory`."""
    directory.mkdir()
    file = directory / "serve.toml"
    file.write_text(config)
    store = directory / "store"
    command = [sys.executable, "-I", "-m", "engine.cli.main", "serve"]
    command += ["--bind", "127.0.0.1:0", "--workers", "1", "--config", str(file)]
    with subprocess.Popen(
        command, env=clean_env(store), stderr=subprocess.PIPE, text=True, process_group=0
    ) as process:
        assert process.stderr
        said: list[str] = []
        try:
            for line in process.stderr:
                said.append(line)
                if found := STARTED.search(line):
                    break
            else:
                raise AssertionError("".join(said))
            reading = threading.Thread(target=said.extend, args=(process.stderr,))
            reading.start()
            yield CacheServer(found[1], store, said)
        finally:
            process.terminate()
            process.wait(30)
        reading.join()


def builder(like: Bn, name: str, config: str = "") -> Bn:
    """Return a bn with a copy of the project and a store of its own, warm and otherwise empty."""
    directory = like.directory.parent / name / "project"
    shutil.copytree(like.directory, directory, symlinks=True)
    store = directory.parent / "store"
    shutil.copytree(like.store / "index", store / "index")
    for shared in ("blobs", "trees", "objects"):
        if (like.store / shared).exists():
            subprocess.run(["cp", "-al", str(like.store / shared), str(store)], check=True)
    if (store / "objects").exists():  # the table is written in place
        shutil.rmtree(store / "objects")
        shutil.copytree(like.store / "objects", store / "objects")
    shutil.copy(like.store / "format", store / "format")
    env = {**clean_env(store), "XDG_CONFIG_HOME": str(directory.parent / "home")}
    made = evolve(like, directory=directory, store=store, env=env)
    made.put("bn.toml", config)
    return made


def remote(url: str, **more: object) -> str:
    """Return a table of the configuration for a remote."""
    lines = [f'url = "{url}"', *(f"{name} = {_toml(value)}" for name, value in more.items())]
    return "\n".join(["[[cache.remotes]]", *lines, ""])


def _toml(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else f'"{value}"'


@define
class Lie:
    """Another output for an action, and for the recipe that comes to it."""

    result: ActionResult
    realisation: Realisation
    blobs: list[bytes]

    def upload(
        self,
        url: str,
        signed: Mapping[str, Sequence[Mapping[str, str]]] | None = None,
        by: SigningKey | None = None,
        token: str = "",
    ) -> None:
        """Store it on a server, with signatures that are copied, or made by a key."""
        headers = {"authorization": f"Bearer {token}"} if token else {}
        with httpx.Client(base_url=url, headers=headers, trust_env=False) as client:
            frames = b"".join(head(digest_bytes(one), len(one)) + one for one in self.blobs)
            stored = client.post("/bn/v1/blobs:put", content=frames)
            assert stored.status_code == 200, stored.text
            given = signed or {}
            result = {
                "result": self.result.document(),
                "signatures": given.get("result", _by(by, "result.1", self.result.digest())),
            }
            said = client.post("/bn/v1/actions:put", json={"actions": [result]}).json()
            assert said["stored"] == 1, said
            made = {
                "realisation": self.realisation.document(),
                "results": [result],
                "signatures": given.get(
                    "realisation", _by(by, "realisation.1", self.realisation.digest())
                ),
            }
            said = client.post("/bn/v1/realisations:put", json={"realisations": [made]}).json()
            assert said["stored"] == 1, said


def lie(truth: Mapping[str, Any], recipe: Digest, name: str, text: str) -> Lie:
    """Return a lie about a step as it ended in a report (`bn build --json`)."""
    data = text.encode()
    tree = Tree({name: File(digest_bytes(data), len(data))})
    action = Digest(truth["action"])
    result = ActionResult(action=action, outputs=tree.digest(), log=digest_bytes(b""))
    realisation = Realisation(recipe=recipe, action=action, outputs=tree.digest())
    return Lie(result, realisation, [data, tree.encode(), b""])


def recipe_of(bn: Bn, action: str) -> Digest:
    """Return the recipe that came to an action in a store."""
    from store.index import Table
    from store.store import Store

    with Store(bn.store) as store:
        for key, _ in store.index.items(Table.REALISATIONS):
            made = store.actions.realisation(Digest(key))
            if made is not None and made.action == action:
                return made.recipe
    raise AssertionError(action)


def steps(bn: Bn, *arguments: str) -> dict[str, Any]:
    """Build and return how the steps ended, by label."""
    found: dict[str, Any] = bn.json("build", *arguments)["steps"]
    return found


def get(server: CacheServer, path: str, token: str = "") -> int:
    """Return the status of a GET below `/bn/v1/`."""
    headers = {"authorization": f"Bearer {token}"} if token else {}
    return httpx.get(f"{server.url}/bn/v1/{path}", headers=headers, trust_env=False).status_code


def _by(key: SigningKey | None, kind: str, digest: Digest) -> list[dict[str, str]]:
    if key is None:
        return []
    made = key.sign(kind, digest)
    return [{"key": made.key, "signature": made.signature}]
