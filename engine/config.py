"""Configuration: `bn.toml` of the project over `~/.config/bn/config.toml` of the user.

::

    [store]
    max_size = "40GB"              # or a share of the disk: "25%"
    keep_days = 30
    hot_threshold_accesses = 3
    hot_threshold_hours = 24
    cold_threshold_hours = 336

    [tiers.fast]
    path = "/mnt/nvme/bn"          # type = "nvme" is found by itself
    max_size = "100GB"

    [tiers.archive]
    path = "/mnt/disk/bn"
    type = "hdd"

    [[cache.remotes]]
    url = "https://cache.example.org"
    write = false

    [cache]
    signing_key = "~/.config/bn/keys/ci"       # signs what is built here
    trusted_keys = ["ci:base64 of 32 bytes"]   # take only what one of these signed
    required_signatures = 1
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from store.policy import Policy
from store.records import frozen
from store.room import free_bytes, total_bytes
from store.tiers import NVME, RAM, TierSpec

if TYPE_CHECKING:
    from engine.remote.settings import CacheSpec
    from store.detect import Latency

NAME: Final = "bn.toml"
TYPES: Final = {"ram": 0, "nvme": 1, "ssd": 2, "hdd": 3, "network": 4}
CLEANUP: Final = ("lru", "age", "none")

DEFAULT_TIER: Final = "store"
"""The tier in the store's own directory, if no other is configured."""

RAM_SHARE: Final = 0.25
"""The share of the room on the RAM disk that the store takes when nothing is configured."""

RAM_LEAST: Final = 512 * 2**20
"""Bytes of room below which an unconfigured RAM disk is left alone."""


@frozen
class Config:
    """The settled configuration; `files` are those that it was read from, `configured` the tiers
    that stand there. `cache` is what `[cache]` says, nothing where no file has one."""

    policy: Policy
    tiers: tuple[TierSpec, ...]
    files: tuple[Path, ...]
    configured: tuple[str, ...] = ()
    cache: CacheSpec | None = None


def user_file() -> Path:
    """Return the path of the user's configuration, whether it is there or not."""
    home = os.environ.get("XDG_CONFIG_HOME") or os.path.expanduser("~/.config")
    return Path(home) / "bn" / "config.toml"


def project_file(start: Path) -> Path | None:
    """Return the `bn.toml` in `start` or the nearest directory above it."""
    for directory in (start, *start.parents):
        if os.path.isfile(directory / NAME):
            return directory / NAME
    return None


def load_config(
    root: Path,
    start: Path | None = None,
    latency: Latency | None = None,
    file: Path | None = None,
) -> Config:
    """Return the configuration for a store at `root`, for who stands in `start` (here); with
    `file` that one alone.

    `latency` helps to tell of which type a tier is where it is not written down.
    Raises InputError with all faults of a file, placed.
    """
    paths = [path for path in (user_file(), project_file(start or Path.cwd())) if path]
    paths = [file] if file else [path for path in paths if os.path.lexists(path)]
    store: dict[str, Any] = {}
    tiers: dict[str, dict[str, Any]] = {}
    cache: dict[str, Any] = {}
    for path in paths:
        from engine.config_form import read_tables

        settings, tables, given_cache = read_tables(path)
        store |= settings
        if given_cache:
            from engine.remote.settings import laid_over

            own = path == file or path == user_file()
            cache = laid_over(cache, given_cache, path.parent, own=own)
        for name, given in tables.items():
            if "path" in given:
                given["path"] = str(path.parent / Path(given["path"]).expanduser())
            tiers[name] = tiers.get(name, {}) | given
    return Config(
        _policy(store, root),
        _tiers(tiers, root, latency),
        tuple(paths),
        tuple(tiers),
        _cache(cache) if cache else None,
    )


def parse_limit(text: str, disk: Path) -> int:
    """Return the bytes in a size or in a share (`25%`) of the file system that holds `disk`."""
    if text.endswith("%") and text[:-1].strip().isdigit():
        while not disk.exists():
            disk = disk.parent
        return total_bytes(disk) * int(text[:-1]) // 100
    from engine.units import parse_size

    return parse_size(text)


def _policy(store: Mapping[str, Any], root: Path) -> Policy:
    default = Policy()
    text = store.get("max_size")
    return Policy(
        max_size=parse_limit(text, root) if text else None,
        keep_days=store.get("keep_days", default.keep_days),
        hot_accesses=store.get("hot_threshold_accesses", default.hot_accesses),
        hot_hours=store.get("hot_threshold_hours", default.hot_hours),
        cold_hours=store.get("cold_threshold_hours", default.cold_hours),
    )


def _cache(table: Mapping[str, Any]) -> CacheSpec:
    from engine.remote.settings import settle

    return settle(table)


def _tiers(
    tables: Mapping[str, Mapping[str, Any]], root: Path, latency: Latency | None
) -> tuple[TierSpec, ...]:
    """Return the tiers, by default one at the store's root, and a RAM disk where there is room."""
    made = []
    for name, table in tables.items():
        path = Path(table.get("path", root))
        kind = table.get("type")
        level = TYPES[kind] if kind else _detected(path, latency)
        text = table.get("max_size")
        made.append(
            TierSpec(
                name=name,
                path=path,
                level=level,
                max_size=parse_limit(text, path) if text else None,
                auto_create=table.get("auto_create", True),
                cleanup_policy=table.get("cleanup_policy", "lru"),
                retention_days=table.get("retention_days"),
            )
        )
    slowest = max((spec.level for spec in made), default=RAM)
    here = any(spec.path == root for spec in made)
    if slowest == RAM or (not here and (root / "blobs").is_dir()):
        # what was kept before tiers were configured is not lost
        name = DEFAULT_TIER if DEFAULT_TIER not in tables else f"{DEFAULT_TIER}-root"
        made.append(TierSpec(name=name, path=root, level=max(slowest, NVME)))
    if not tables:
        made += _ram_disk(root)
    return tuple(made)


def _detected(path: Path, latency: Latency | None) -> int:
    from store.detect import detect_level

    return detect_level(path, latency=latency)


def _ram_disk(root: Path) -> list[TierSpec]:
    """Return a tier on this machine's RAM disk, if it has one with room."""
    shared = Path("/dev/shm")
    try:
        free = free_bytes(shared)
    except OSError:
        return []
    if free < RAM_LEAST or not os.access(shared, os.W_OK):
        return []
    from store.digest import digest_bytes

    name = f"bn-{os.getuid()}-{digest_bytes(str(root).encode())[:8]}"
    limit = int(free * RAM_SHARE)
    return [TierSpec(name="ram", path=shared / name, level=RAM, max_size=limit)]
