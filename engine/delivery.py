"""Results put where the user wants them: a link to a shown tree, or a copy."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from store.cas import empty_tree
from store.digest import Digest
from store.errors import InputError
from store.materialise import materialise, materialised
from store.objects import Directory
from store.roots import link_root
from store.store import Store, remove_tree
from store.trees import ConflictError, merge


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


def link_result(store: Store, tree: Digest, link: Path) -> Path:
    """Make `link` a symbolic link to the read-only directory that shows `tree`; return that."""
    shown = materialised(store.cas, tree)
    if link.exists() and not link.is_symlink():
        hint = "move it away, or copy the result elsewhere with --out DIR"
        raise InputError(f"{link}: is in the way of the link to the result", hint)
    temporary = link.with_name(f".{link.name}.{os.getpid()}")
    temporary.unlink(missing_ok=True)
    temporary.symlink_to(shown)
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
