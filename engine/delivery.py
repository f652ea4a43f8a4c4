"""Results put where the user wants them: a link to a shown tree, or a copy."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from engine.graph import Graph
from engine.remembered import Cached
from engine.result import BuildStatus, Built, Result
from store.cas import empty_tree
from store.digest import Digest
from store.errors import InputError
from store.index import Write
from store.materialise import materialise, materialised
from store.objects import Directory
from store.roots import link_root
from store.store import Store, remove_tree
from store.trees import ConflictError, merge


def trees_of(
    store: Store, graph: Graph, targets: Sequence[str], result: Result
) -> dict[str, Digest]:
    """Return the tree of each target all of whose steps succeeded."""
    trees = {}
    for target in targets:
        steps = [result.steps.get(label) for label in graph.labels_of(target)]
        outputs = [step.outputs for step in steps if isinstance(step, Cached | Built)]
        if len(outputs) == len(steps):
            trees[target] = merge(store.cas, outputs)
    return trees


def link_of(
    store: Store, link: Path | None, result: Result, trees: Mapping[str, Digest]
) -> Write | None:
    """Return what makes the link to the result of a build a root, if there will be one."""
    if link is None or result.status is not BuildStatus.OK:
        return None
    try:
        return link_root(link.absolute(), result_tree(store, trees))
    except InputError:
        return None  # who makes the link says what is in the way


def result_tree(store: Store, trees: Mapping[str, Digest]) -> Digest:
    """Return the tree that a build shows: the union of its targets' trees.

    Raises InputError where two targets hold different things at one path.
    """
    try:
        return merge(store.cas, trees.values() or [empty_tree(store.cas)], strict=True)
    except ConflictError as error:
        raise InputError(
            f"{error}: the targets {', '.join(trees)} hold different things there",
            "build them one at a time",
        ) from error


def link_result(store: Store, tree: Digest, link: Path, *, rooted: bool = False) -> Path:
    """Make `link` a symbolic link to the read-only directory that shows `tree`; return that.

    The link becomes a root, unless it is one of this tree already (`rooted`).
    """
    shown = materialised(store.cas, tree)
    if link.exists() and not link.is_symlink():
        hint = "move it away, or copy the result elsewhere with --out DIR"
        raise InputError(f"{link}: is in the way of the link to the result", hint)
    temporary = link.with_name(f".{link.name}.{os.getpid()}")
    temporary.unlink(missing_ok=True)
    temporary.symlink_to(shown)
    if not rooted:
        store.index.write([link_root(link.absolute(), tree)])
    os.replace(temporary, link)
    return shown


def copy_result(store: Store, tree: Digest, target: Path) -> None:
    """Copy `tree` into the directory `target`; other files there are left alone."""
    temporary = target.absolute().with_name(f".{target.name}.{os.getpid()}")
    if store.cas.upstream is not None:
        store.cas.upstream.bring([Directory(tree)])
    try:
        temporary.parent.mkdir(parents=True, exist_ok=True)
        materialise(store.cas, tree, str(temporary), copy=True)
        for directory, names, files in os.walk(temporary):
            into = target / os.path.relpath(directory, temporary)
            into.mkdir(exist_ok=True)
            links = [name for name in names if os.path.islink(f"{directory}/{name}")]
            for name in [*files, *links]:
                if (into / name).is_dir() and not (into / name).is_symlink():
                    raise InputError(f"{into / name}: a directory is in the way of a file")
                os.replace(f"{directory}/{name}", into / name)
    finally:
        remove_tree(temporary)
