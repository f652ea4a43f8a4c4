"""Helpers for what is evaluated for the first time, and what they can do before it is read."""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Iterator

from engine.kept_graph import KeptGraph
from store.index import Table
from store.store import Store


@contextlib.contextmanager
def helped(store: Store, kept: KeptGraph) -> Iterator[None]:
    """Have helpers copy what is not in the store, where a spec was never evaluated before.

    In a store that knows no toolchain yet, one of them looks for installed packages meanwhile,
    which takes as long as to load what reads a spec.
    """
    if not kept.is_new:
        yield
        return
    from store.helpers import Helpers

    first = _look_ahead if store.index.count(Table.DERIVED) == 0 else int
    with Helpers(store.cas, first):
        yield


def _look_ahead() -> None:
    importlib.import_module("engine.toolchains.importer").look_ahead()
