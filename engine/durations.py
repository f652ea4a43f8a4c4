"""How long actions took, by action: those that ran here, and those of which a remote said it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING

from store.index import Table

if TYPE_CHECKING:
    from store.index import Index


def durations(index: Index) -> dict[str, float]:
    """Return the seconds of all actions of which they are known, the last ones that ran here."""
    return {**dict(_fetched(index)), **dict(_ran(index))}


def _ran(index: Index) -> Iterator[tuple[str, float]]:
    for _, value in index.items(Table.HISTORY):
        try:
            for row in json.loads(value):
                if row.get("seconds"):
                    yield row["action"], float(row["seconds"])
        except (ValueError, TypeError, KeyError, AttributeError):
            continue


def _fetched(index: Index) -> Iterator[tuple[str, float]]:
    for action, value in index.items(Table.ORIGINS):
        if b'"seconds"' in value:
            try:
                yield action, float(json.loads(value)["seconds"])
            except (ValueError, TypeError, KeyError):
                continue
