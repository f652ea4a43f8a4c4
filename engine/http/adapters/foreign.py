"""The adapters of all protocols but the server's own, the most particular first."""

from __future__ import annotations

from typing import TYPE_CHECKING

from engine.http.adapters.bazel import Bazel
from engine.http.adapters.files import CCACHE, GRADLE, SCCACHE, Files
from engine.http.adapters.generic import Generic
from engine.http.adapters.moon import Moon
from engine.http.adapters.nix import Nix
from engine.http.adapters.nx import Nx
from engine.http.adapters.turbo import Turbo
from engine.http.adapters.webdav import WebDav

if TYPE_CHECKING:
    from engine.http.router import Adapter


def foreign() -> tuple[Adapter, ...]:
    """Return them in the order in which a request is offered to them."""
    return (
        *(Bazel(), Turbo(), Nx(), Nix(), Moon()),
        *(Files("ccache", CCACHE), Files("sccache", SCCACHE), Files("gradle", GRADLE)),
        *(WebDav(), Generic()),
    )
