"""Remotes in memory, and stores that have them."""

from __future__ import annotations

import gc
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from engine.remote.remotes import Remotes
from engine.remote.settings import CacheSpec, RemoteSpec
from engine.timeline.events import RemoteGivenUp
from store.digest import Digest, digest_bytes
from store.objects import ActionResult, Directory, File
from store.store import Store
from store.trees import build_tree
from tests.engine.remote.fake import Fake, remote


class Machine:
    """A store with remotes."""

    def __init__(self, root: Path, *fakes: Fake, **options: Any) -> None:
        specs = tuple(RemoteSpec(url=fake.url, **options) for fake in fakes)
        self.store = Store(root)
        self.remotes = Remotes(self.store, CacheSpec(remotes=specs))
        self.store.cas.upstream = self.remotes

    def make(self, name: str, files: dict[str, bytes], log: bytes = b"done\n") -> ActionResult:
        """Make up the result of an action."""
        cas = self.store.cas
        entries = {path: File(cas.put_bytes(data), len(data)) for path, data in files.items()}
        tree = build_tree(cas, entries)
        return ActionResult(action=digest_of(name), outputs=tree, log=cas.put_object(log))

    def give(
        self, name: str, files: dict[str, bytes], log: bytes = b"done\n", seconds: float = 0.0
    ) -> ActionResult:
        """Make up the result of an action and upload it, with its recipe."""
        result = self.make(name, files, log)
        self.remotes.built(result, [recipe(name)], seconds)
        assert self.remotes.wait_for_uploads(30)
        return result

    def find(self, *names: str) -> dict[Digest, Any]:
        """Ask for what recipes came to."""
        return self.remotes.realise([recipe(name) for name in names])

    def has(self, result: ActionResult) -> bool:
        """Say whether a result counts as complete."""
        return self.store.cas.complete(Directory(result.outputs))

    def given_up(self) -> list[str]:
        """Return why remotes were given up."""
        return [
            f"{event.doing}: {event.reason}"
            for event in self.remotes.take_events()
            if isinstance(event, RemoteGivenUp)
        ]


def digest_of(name: str) -> Digest:
    """Return a digest for an action of that name."""
    return digest_bytes(name.encode())


def recipe(name: str) -> Digest:
    """Return a digest for the recipe of such an action."""
    return digest_bytes(f"recipe of {name}".encode())


@pytest.fixture
def fake() -> Iterator[Fake]:
    with remote() as made:
        yield made


@pytest.fixture
def other() -> Iterator[Fake]:
    with remote() as made:
        yield made


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Callable[..., Machine]]:
    """What makes machines, each with an empty store."""
    with ExitStack() as stack:
        made: list[Machine] = []

        def make(*fakes: Fake, **options: Any) -> Machine:
            one = Machine(tmp_path / f"store-{len(made)}", *fakes, **options)
            stack.callback(one.store.close)
            made.append(one)
            return one

        yield make
    with warnings.catch_warnings():  # httpx leaves generators of an answer that is cut short
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()
