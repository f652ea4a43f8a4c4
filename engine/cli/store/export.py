"""`bn store export`: write a closure to one file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from engine.cli.options import json_option, note, open_store, print_json, split_spec
from engine.cli.show import complete
from engine.cli.store.roots import find_root
from engine.request import Request, evaluated, labels_of, targets_of
from engine.units import show_size
from store.archive import closure_of, export
from store.cas import Cas
from store.digest import Digest
from store.errors import OK, InputError
from store.objects import TREE, Directory
from store.rebuild import kind_of
from store.store import Store
from store.trees import merge


@click.command()
@click.argument("names", nargs=-1, metavar="ROOT|DIGEST|[SPEC] TARGET...")
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), required=True, help="The file to write."
)
@click.option("--with-actions", is_flag=True, help="Results of actions, too: builds find them.")
@click.option(
    "--name-space",
    "name_spaces",
    multiple=True,
    metavar="NAME",
    help="What clients of bn serve stored there, too.",
)
@json_option
def command(
    names: tuple[str, ...],
    output: Path,
    with_actions: bool,
    name_spaces: tuple[str, ...],
    as_json: bool,
) -> int:
    """Write roots (bn store roots), trees, or targets that are built, with all that they consist
    of, to one file that bn store import takes on another machine.

    The same contents give the same bytes. With --with-actions, what is built from the same inputs
    there is found, not run.
    """
    if not names and not name_spaces:
        raise click.UsageError("nothing is named that is to be exported")
    with open_store() as store, store.lease("export"):
        found = _named(store, names)
        actions: set[Digest] = set()
        if found is None:
            found, actions = _built(store, names)
        contents = closure_of(
            store,
            found,
            actions if with_actions else (),
            all_=with_actions and not actions,
            name_spaces=name_spaces,
        )
        size = export(store, contents, output.absolute())
    if as_json:
        print_json(
            {
                "file": str(output),
                "size": size,
                "roots": dict(contents.roots),
                "blobs": len(contents.blobs),
                "results": len(contents.actions),
            }
        )
    else:
        what = f"{len(contents.blobs)} blobs, {len(contents.actions)} results"
        note(f"{output}: {', '.join([*contents.roots, *name_spaces])} ({what}, {show_size(size)})")
    return OK


def _named(store: Store, names: Sequence[str]) -> dict[str, Digest] | None:
    """Return the trees of the roots and digests that are named; None where one is neither."""
    found: dict[str, Digest] = {}
    for name in names:
        root = find_root(store, name)
        if root is not None:
            found[root.name.rpartition("/")[2]] = root.tree
        elif len(name) >= 8 and all(letter in "0123456789abcdef" for letter in name):
            digest = complete(store.cas, name)
            if not _is_tree(store.cas, digest):
                raise InputError(f"{name}: is no tree", "bn show prints what it is")
            found[digest[:16]] = digest
        else:
            return None
    return found


def _is_tree(cas: Cas, digest: Digest) -> bool:
    return any(
        kind_of(tier, held) == TREE.partition(".")[0]
        for tier in cas.tier_set.readable()
        for held in tier.held(digest)
    )


def _built(store: Store, names: Sequence[str]) -> tuple[dict[str, Digest], set[Digest]]:
    """Return the trees of targets by name, and the actions of all steps that they are made of."""
    spec, targets = split_spec(names)
    if not spec.is_file():
        raise InputError(
            f"{names[0]}: is no root, no digest, and there is no {spec}",
            "bn store roots lists the roots",
        )
    asked = Request(spec=spec, targets=targets)
    graph = evaluated(store, asked).graph
    found: dict[str, Digest] = {}
    package = graph.about.package
    for target in targets_of(graph, asked):
        outputs = []
        for label in graph.labels_of(target):
            realised = store.actions.realisation(graph.recipes[label].digest)
            if realised is None or not store.cas.complete(Directory(realised.outputs)):
                raise InputError(f"{label}: is not built as the spec is now", "run bn build first")
            outputs.append(realised.outputs)
        name = target if target == package else f"{package}.{target}"
        found[name.replace(":", ".").replace("/", "_")] = merge(store.cas, outputs)
    steps = graph.order(labels_of(graph, targets_of(graph, asked)))
    known = (store.actions.realisation(graph.recipes[label].digest) for label in steps)
    return found, {one.action for one in known if one is not None}
