"""Results of actions made up for tests, and ways to age what is in a store."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

from attrs import frozen

from store.closure import Claim, Kind
from store.digest import Digest
from store.objects import Action, ActionResult, Directory, File, Realisation, Tree
from store.store import Store
from store.tiers import Held
from store.trees import build_tree


@frozen
class Made:
    """A result that was recorded, and what it consists of."""

    action: Action
    result: ActionResult
    recipe: Digest

    @property
    def digest(self) -> Digest:
        """The action digest."""
        return self.action.digest()


def make(store: Store, name: str, size: int = 100, observed: bool = False) -> Made:
    """Record a result whose every blob holds `name`; it is committed later."""
    cas = store.cas
    source = cas.put_bytes(f"source of {name}".encode())
    root = build_tree(cas, {"src/in": File(source, len(f"source of {name}"))})
    action = Action(command=("make", name), input_root=root, outputs=("out",), depfile=observed)
    data = name.encode().ljust(size, b".")
    outputs = build_tree(
        cas,
        {
            "out": File(cas.put_bytes(data), len(data)),
            "bin/run": File(cas.put_bytes(data + b"x", executable=True), len(data) + 1, True),
        },
    )
    log = cas.put_bytes(f"log of {name}".encode())
    result = ActionResult(
        action=action.digest(),
        outputs=outputs,
        log=log,
        observed=("src/in",) if observed else None,
    )
    files = {"src/in": File(source, len(f"source of {name}"))}
    store.actions.record(action, result, lambda: files)
    recipe = cas.put_bytes(f"recipe of {name}".encode())
    store.actions.record_realisation(
        Realisation(recipe=recipe, action=action.digest(), outputs=outputs)
    )
    return Made(action, result, recipe)


def claim(made: Iterable[Made], name: str = "build", time: float = 0.0) -> Claim:
    """Return the claim of a build that came to these results."""
    needs = tuple((Kind.ACTION, one.digest) for one in made)
    return Claim(why="recent builds", name=name, time=time, needs=needs)


def is_whole(store: Store, made: Made) -> bool:
    """Say whether the result is found, with all that it consists of."""
    return store.actions.result_of(made.digest) == made.result


def held(store: Store) -> list[Held]:
    """Return all that lies in the tiers of a store, as files and as objects."""
    store.cas.commit_objects()
    return [one for tier in store.cas.tier_set.readable() for one in tier.held()]


def blobs(store: Store) -> set[Digest]:
    """Return the digests of all that lies in a store."""
    return {one.digest for one in held(store)}


def held_bytes(store: Store) -> int:
    """Return the bytes of all that lies in a store."""
    return sum(one.size for one in held(store))


def lose(store: Store, digest: Digest) -> None:
    """Remove a blob from everywhere, behind the store's back."""
    store.cas.commit_objects()
    for tier in store.cas.tier_set.readable():
        tier.remove(digest)
    store.cas.begin_use()


def spoil(store: Store, digest: Digest, at: int = 20) -> None:
    """Change one bit of an object."""
    store.cas.commit_objects()
    table = store.cas.primary.table
    assert table is not None
    data = bytearray(table.read(digest) or b"")
    data[at] ^= 4
    table.put({digest: bytes(data)})


def is_running(pid: int) -> bool:
    """Say whether a process is there."""
    return os.path.exists(f"/proc/{pid}")


def one_file(store: Store, name: str, data: bytes) -> Digest:
    """Store a tree with one file."""
    return store.cas.put_tree(Tree({name: File(store.cas.put_bytes(data), len(data))}))


def nested(store: Store, inner: Digest) -> Digest:
    """Store a tree that holds another one."""
    return store.cas.put_tree(Tree({"inner": Directory(inner)}))


SEES = """
import sys
from pathlib import Path
from store.store import Store
with Store(Path(sys.argv[1])) as store:
    print(*(store.cas.has(digest) for digest in sys.argv[2:]))
"""


def seen_by_another(root: Path, *digests: str) -> list[str]:
    """Return whether another process sees these blobs."""
    command = [sys.executable, "-I", "-c", SEES, str(root), *digests]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
