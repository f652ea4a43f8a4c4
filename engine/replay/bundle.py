"""Bundles: a recorded build with all that its actions need, as one file for another machine.

A bundle is an archive (`store.archive`) whose one root is a tree::

    timeline.jsonl          as it was written
    end.json                how many events it has, and the last link, if its end was noted
    actions/N               each action, as it is stored
    inputs/N  toolchains/N  the trees that they name
    outputs/N  logs/N       what came out

`bn store import`, `bn show` and mounts take it like any other archive and tree.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from engine.replay.steps import Recorded
from engine.timeline.chain import Head
from engine.timeline.log import NAME, noted, noted_head
from engine.timeline.verify import check
from store.archive import closure_of, export
from store.cas import MissingBlob
from store.digest import Digest
from store.errors import InputError, IntegrityError, host_error
from store.index import Table
from store.objects import Action, Directory, Entry, File
from store.roots import IMPORT
from store.store import Store
from store.trees import build_tree, find
from store.unarchive import import_

SUFFIX: Final = ".bn"
_NAME: Final = "replay."
_END: Final = "end.json"


def bundle(store: Store, build: str, steps: Iterable[Recorded], target: Path) -> int:
    """Write the bundle of a recorded build with these of its steps; return its size in bytes.

    Raises InputError where something that they need is no longer in the store, HostError where the
    file cannot be written.
    """
    entries: dict[str, Entry] = {}
    try:
        for number, step in enumerate(steps):
            _add(store, entries, number, step)
        entries[NAME] = _file(store, (store.root / "builds" / build / NAME).read_bytes())
        head = noted_head(store, build)
        if head is not None:
            text = json.dumps({"events": head.events, "link": head.link})
            entries[_END] = _file(store, text.encode())
        tree = build_tree(store.cas, entries)
        store.cas.commit_objects()
        return export(store, closure_of(store, {f"{_NAME}{build}": tree}), target.absolute())
    except MissingBlob as error:
        raise InputError(
            f"build {build}: not all that it needs is still in the store: {error.message}",
            "what builds of the last days need is kept: keep_days under [store] in bn.toml",
        ) from error
    except OSError as error:
        raise host_error(error, "cannot write the bundle") from error


def unbundle(store: Store, source: Path) -> str:
    """Take in a bundle and return the name of its build, which is recorded here from then on.

    Nothing in it is believed but what digests prove: no result of an action is taken over. Raises
    InputError where it is no bundle, IntegrityError where it is damaged.
    """
    contents = import_(store, source)
    try:
        ((name, tree),) = contents.roots.items()
    except ValueError:
        raise _no_bundle(source) from None
    build = name.removeprefix(_NAME)
    entry = find(store.cas, tree, NAME)
    if build == name or "/" in build or build.startswith(".") or not isinstance(entry, File):
        raise _no_bundle(source)
    data = store.cas.get_bytes(entry.digest)
    head = _head(store, tree)
    verified = check(build, data, head)
    if verified.faults:
        raise IntegrityError(f"{source}: its timeline was changed: {verified.faults[0]}")
    directory = store.root / "builds" / build
    try:
        directory.mkdir(parents=True, exist_ok=True)
        if not (directory / NAME).exists():
            (directory / NAME).write_bytes(data)
    except OSError as error:
        raise host_error(error, "cannot write the timeline") from error
    if head is not None:
        store.index.write([noted(build, head)])
    # from now on the recorded build keeps all of it, as long as it keeps any other
    store.index.edit(Table.ROOTS, [f"{IMPORT}{name}"], lambda key, value: None)
    return build


def _add(store: Store, entries: dict[str, Entry], number: int, step: Recorded) -> None:
    """Add one step's action with all that it names. Raises MissingBlob."""
    data = store.cas.get_bytes(step.action)
    action = Action.decode(data)
    entries[f"actions/{number}"] = File(step.action, len(data))
    entries[f"inputs/{number}"] = Directory(action.input_root)
    for place, toolchain in enumerate(action.toolchains):
        entries[f"toolchains/{number}-{place}"] = Directory(toolchain)
    if step.outputs is not None:
        entries[f"outputs/{number}"] = Directory(step.outputs)
    if step.log is not None:
        entries[f"logs/{number}"] = File(step.log, len(store.cas.get_bytes(step.log)))


def _file(store: Store, data: bytes) -> File:
    return File(store.cas.put_object(data), len(data))


def _head(store: Store, tree: Digest) -> Head | None:
    entry = find(store.cas, tree, _END)
    if not isinstance(entry, File):
        return None
    try:
        found = json.loads(store.cas.get_bytes(entry.digest))
        return Head(int(found["events"]), str(found["link"]))
    except (ValueError, KeyError, TypeError) as error:
        raise IntegrityError("the bundle's note of its timeline's end is malformed") from error


def _no_bundle(source: Path) -> InputError:
    return InputError(f"{source}: is an archive, but no bundle of a build", "bn bundle makes one")
