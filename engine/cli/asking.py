"""What all commands ask of the machine and say to the user; it knows no options."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from engine.config import Config, load_config
from engine.healing import open_healed
from store.store import Store
from store.where import default_store

SPEC_NAME = "spec.toml"


def split_spec(names: Sequence[str]) -> tuple[Path, tuple[str, ...]]:
    """Return the spec's path and the rest of `names`."""
    if names:
        first = Path(names[0])
        if first.suffix == ".toml" and ":" not in names[0]:
            return first, tuple(names[1:])
        directory = "/" in names[0] or names[0] in (".", "..") or (first / SPEC_NAME).is_file()
        if directory and "[" not in names[0]:
            return first / SPEC_NAME, tuple(names[1:])
    return Path(SPEC_NAME), tuple(names)


def open_store(*, heal: bool = True, sweep_later: bool = False) -> Store:
    """Open the user's store, with the tiers, the policy and the remotes that are configured.

    An index that is damaged or lost is made again, and that is said, unless not to `heal` it.
    """
    root, config = configured()
    if heal:
        store = open_healed(root, config, _tell_healed, sweep_later=sweep_later)
    else:
        store = Store(root, config.tiers, config.policy)
    if config.cache is not None and config.cache.remotes:
        from engine.remote.remotes import Remotes

        store.cas.upstream = Remotes(store, config.cache)
    return store


def _tell_healed(text: str) -> None:
    note(f"store: {text}")


def configured() -> tuple[Path, Config]:
    """Return where the user's store is, and the configuration for it."""
    root = default_store()

    def latency(path: Path, device: str) -> float | None:
        from store.measure import Latencies

        return Latencies(root)(path, device)

    return root, load_config(root, latency=latency)


def print_json(value: Any) -> None:
    """Write a value to standard output, for machines."""
    sys.stdout.write(json.dumps(value, indent=2) + "\n")


def out(text: str = "") -> None:
    """Write a line to standard output."""
    sys.stdout.write(f"{text}\n")


def note(text: str) -> None:
    """Write a line to standard error."""
    sys.stderr.write(f"{text}\n")
