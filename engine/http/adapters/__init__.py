"""The protocols that the server speaks, one module each, in the order in which they are asked."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from engine.http.observing import Observer
    from engine.http.reserve import Reserve
    from engine.http.router import Adapter

NAMES: Final = (
    *("bn.Bn", "moon.Moon", "bazel.Bazel", "turbo.Turbo", "nx.Nx", "nix.Nix"),
    *("generic.Generic", "webdav.WebDav"),
)
"""Modules here with their classes; those that take any path come last."""


def speakers(
    observer: Observer, reserve: Reserve, *, workers: int = 1, started: float = 0.0
) -> list[Adapter]:
    """Return an adapter for each protocol; `started` in seconds since 1970."""
    from engine.http.adapters.operations import Operations

    made: list[Adapter] = [Operations(observer, reserve, workers=workers, started=started)]
    for name in NAMES:
        module, _, kind = name.partition(".")
        made.append(getattr(import_module(f"{__name__}.{module}"), kind)())
    return made
