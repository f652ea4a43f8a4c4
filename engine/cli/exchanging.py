"""What `bn push` and `bn pull` share: options, store, remote caches, and the graph of the spec."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

import click
from attrs import frozen

from engine.cli.options import open_store, request, spec_options
from engine.cli.sharing import remotes_of
from engine.request import Request, evaluated, labels_of, targets_of
from store.errors import InputError

if TYPE_CHECKING:
    from engine.graph import Graph
    from engine.remote.remotes import Remotes
    from store.store import Store


@frozen
class Shared:
    """What a spec's targets are here, and the remote caches."""

    store: Store
    remotes: Remotes
    graph: Graph
    labels: Sequence[str]
    """The targets and all that they rest on."""


def sharing_command(command: Callable[[Request, bool], int]) -> click.Command:
    """Return the command with the options that say which spec, and `--json`."""

    @click.command(help=command.__doc__)
    @spec_options
    def made(
        names: tuple[str, ...],
        sets: tuple[str, ...],
        profile: str | None,
        executor: str,
        as_json: bool,
    ) -> int:
        return command(request(names, sets, profile, executor), as_json)

    return made


@contextlib.contextmanager
def shared(asked: Request, *, writing: bool) -> Iterator[Shared]:
    """Open the store and evaluate a spec, to read from remotes or to write to them; raises
    InputError where none may be."""
    with open_store() as store, store.lease("push" if writing else "pull"):
        remotes = remotes_of(store, asked)
        if writing and not remotes.writable:
            raise InputError("no remote cache may be written to", "set write = true for one")
        if not writing and not remotes.readable:
            raise InputError("no remote cache may be read from", "set read = true for one")
        graph = evaluated(store, asked).graph
        yield Shared(store, remotes, graph, labels_of(graph, targets_of(graph, asked)))
