"""pathlib without urllib: it wants one function of it, for `Path.as_uri`, which loads ipaddress as
well and takes half as long as pathlib itself. That function loads it when it is called."""

from __future__ import annotations

import sys
from types import ModuleType


def load() -> None:
    """Import pathlib."""
    if "pathlib" in sys.modules or "urllib.parse" in sys.modules:
        return
    module = ModuleType("urllib.parse")
    module.__dict__["quote_from_bytes"] = _quote_from_bytes
    sys.modules["urllib.parse"] = module
    try:
        import pathlib  # noqa: F401
    finally:
        del sys.modules["urllib.parse"]


def _quote_from_bytes(data: bytes, safe: str = "/") -> str:
    from urllib.parse import quote_from_bytes

    return quote_from_bytes(data, safe)
