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
    *("files.Ccache", "files.Sccache", "files.Gradle", "webdav.WebDav", "generic.Generic"),
)
"""Modules here with their classes, in the order in which a request is offered to them; those that
take any path come last."""


def speakers(
    observer: Observer, reserve: Reserve, *, workers: int = 1, started: float = 0.0
) -> list[Adapter]:
    """Return an adapter for each protocol; `started` in seconds since 1970."""
    from engine.http.adapters.operations import Operations

    return [Operations(observer, reserve, workers=workers, started=started), *protocols()]


def protocols() -> list[Adapter]:
    """Return the adapters of protocols that clients of the cache speak."""
    made = []
    for name in NAMES:
        module, _, kind = name.partition(".")
        made.append(getattr(import_module(f"{__name__}.{module}"), kind)())
    return made
