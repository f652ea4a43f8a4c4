"""Servers to be abused."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.engine.http.abuse.live import Live, living


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """A server for all tests of a module: after them it works, and its store is right."""
    limits = {"body": "8MB"}
    with living(tmp_path_factory.mktemp("live"), limits=limits) as server:
        yield server


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Where a test's own server may be."""
    return tmp_path / "live"
