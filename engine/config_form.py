"""The form of a configuration file: the classes that its tables are structured into."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeAlias

from attrs import AttrsInstance, asdict, frozen

from engine.config import CLEANUP, TYPES, parse_limit, user_file
from engine.config_serve import ServeTable, serve_faults
from engine.placement.settings import PlacementTable
from engine.placement.settings import faults as placement_faults
from engine.remote.settings import is_name_space, url_fault
from engine.resources.settings import BenchmarkTable, ResourcesTable
from engine.resources.settings import faults as resource_faults
from engine.spec.faults import Fault, nearest, spec_error
from engine.spec.load import read
from engine.spec.model import documented


@frozen(kw_only=True)
class StoreTable:
    """`[store]`: limits and thresholds."""

    max_size: str | None = documented("most that it may hold, as 40GB or 25%", default=None)
    keep_days: int | None = documented("days that unused results are kept", default=None)
    hot_threshold_accesses: int | None = documented("uses that make a blob hot", default=None)
    hot_threshold_hours: int | None = documented("hours that they are counted in", default=None)
    cold_threshold_hours: int | None = documented("hours unused that make it cold", default=None)


@frozen(kw_only=True)
class TierTable:
    """`[tiers.NAME]`: a directory for blobs."""

    path: str | None = documented("directory; ~ is the home directory", default=None)
    type: str | None = documented("ram, nvme, ssd, hdd or network; found by itself", default=None)
    max_size: str | None = documented("most that it may hold, as 40GB or 25%", default=None)
    auto_create: bool | None = documented("make the directory where it is not there", default=None)
    cleanup_policy: str | None = documented("lru, age or none", default=None)
    retention_days: int | None = documented("days that blobs stay in it", default=None)


@frozen(kw_only=True)
class RemoteTable:
    """One of `[[cache.remotes]]`: a cache that others share, as `bn serve` is."""

    url: str = documented("where it is: http:// or https://")
    read: bool | None = documented("take results from it (true)", default=None)
    write: bool | None = documented("give it what was built here (true)", default=None)
    priority: int | None = documented("smaller ones are asked first (0)", default=None)
    token_file: str | None = documented("file that holds the token", default=None)
    name_space: str | None = documented("name space on the server", default=None)
    ca: str | None = documented("certificates that its own is checked by", default=None)
    certificate: str | None = documented("certificate to show it", default=None)
    key: str | None = documented("key of that certificate", default=None)


@frozen(kw_only=True)
class CacheTable:
    """`[cache]`: results shared with others."""

    remotes: tuple[RemoteTable, ...] = documented("remote caches", default=())
    signing_key: str | None = documented("file of the key that signs what is built", default=None)
    trusted_keys: tuple[str, ...] | None = documented(
        "take only what one of these keys signed, as NAME:base64", default=None
    )
    required_signatures: int | None = documented("keys that have to have signed (1)", default=None)


@frozen(kw_only=True)
class ConfigFile:
    """A whole configuration file."""

    store: StoreTable = documented("the store", factory=StoreTable)
    tiers: Mapping[str, TierTable] = documented("where blobs live", factory=dict)
    cache: CacheTable = documented("results shared with others", factory=CacheTable)
    serve: ServeTable = documented("the cache server", factory=ServeTable)
    resources: ResourcesTable = documented("what of this machine is used", factory=ResourcesTable)
    placement: PlacementTable = documented("how nodes are chosen", factory=PlacementTable)
    benchmark: BenchmarkTable = documented("when it is measured again", factory=BenchmarkTable)


Tables: TypeAlias = tuple[dict[str, Any], dict[str, dict[str, Any]], dict[str, Any]]


def read_tables(path: Path) -> Tables:
    """Return what the file at `path` says of the store, of each tier, and of remote caches.

    Raises InputError with all faults of the file, placed.
    """
    file = read_file(path)
    cache = {key: value for key, value in _given(file.cache).items() if key != "remotes"}
    if file.cache.remotes:
        cache["remotes"] = [_given(remote) for remote in file.cache.remotes]
    return _given(file.store), {name: _given(tier) for name, tier in file.tiers.items()}, cache


def read_file(path: Path) -> ConfigFile:
    """Return the file at `path`. Raises InputError with all faults of the file, placed."""
    file = read(path, ConfigFile)
    faults = [
        *_faults(path, file),
        *_cache_faults(path, file.cache),
        *serve_faults(path, file.serve),
        *resource_faults(path, file.resources, file.benchmark),
        *placement_faults(path, file.placement),
    ]
    if faults:
        raise spec_error(faults)
    return file


def _is_within(path: Path, name: str) -> bool:
    """Say whether a file that is named in the file `path` is below the directory of that: a project
    could else have any of its user's files sent to the remote that it names."""
    file = (path.parent / Path(name).expanduser()).resolve()
    return file.is_relative_to(path.parent.resolve())


def _given(table: AttrsInstance) -> dict[str, Any]:
    return {key: value for key, value in asdict(table).items() if value is not None}


def _faults(path: Path, file: ConfigFile) -> list[Fault]:
    faults = []

    def check(at: tuple[str, ...], text: str | None) -> None:
        try:
            parse_limit(text, Path("/")) if text else None
        except ValueError as error:
            faults.append(Fault(path, at, str(error)))

    check(("store", "max_size"), file.store.max_size)
    for name, tier in file.tiers.items():
        check(("tiers", name, "max_size"), tier.max_size)
        for key, value, known in (
            ("type", tier.type, tuple(TYPES)),
            ("cleanup_policy", tier.cleanup_policy, CLEANUP),
        ):
            if value is not None and value not in known:
                message = f"tier {name!r}: unknown {key} {value!r}"
                faults.append(Fault(path, ("tiers", name, key), message, nearest(value, known)))
    return faults


def _cache_faults(path: Path, cache: CacheTable) -> list[Fault]:
    faults = []
    for number, remote in enumerate(cache.remotes):
        what = url_fault(remote.url)
        if what:
            faults.append(Fault(path, ("cache", "remotes", number, "url"), what))
        if remote.name_space and not is_name_space(remote.name_space):
            at = ("cache", "remotes", number, "name_space")
            faults.append(Fault(path, at, f"{remote.name_space!r} is no name of a name space"))
        if remote.token_file and path != user_file() and not _is_within(path, remote.token_file):
            at = ("cache", "remotes", number, "token_file")
            what = "a project's token_file has to be inside of it"
            faults.append(Fault(path, at, what, f"name url and token_file in {user_file()}"))
        if remote.key and not remote.certificate:
            at = ("cache", "remotes", number, "key")
            faults.append(Fault(path, at, "a key without its certificate"))
    for number, key in enumerate(cache.trusted_keys or ()):
        from engine.remote.trust import key_fault

        what = key_fault(key)
        if what:
            faults.append(Fault(path, ("cache", "trusted_keys", number), what))
    required = cache.required_signatures
    if required is not None and required < 1:
        faults.append(Fault(path, ("cache", "required_signatures"), "at least 1"))
    return faults
