"""What is configured of remote caches; loaded with every configuration that has any."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from store.records import field, frozen

TOKEN: Final = "BN_CACHE_TOKEN"
"""The environment variable with the token for remotes that name no file with one."""

HOST: Final = "BN_CACHE_HOST"
"""The environment variable with the host, or host:port, that may see this token although only a
project names it."""

_PATHS: Final = ("token_file", "ca", "certificate", "key")
_NAME_SPACE: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


@frozen(kw_only=True)
class RemoteSpec:
    """One remote cache as configured; those with a smaller `priority` are asked first. It is the
    user's `own` where not only a project names it."""

    url: str
    read: bool = True
    write: bool = True
    priority: int = 0
    token_file: str | None = None
    name_space: str | None = None
    ca: str | None = None
    certificate: str | None = None
    key: str | None = None
    own: bool = True

    @property
    def base(self) -> str:
        """What requests' paths follow."""
        space = f"/ns/{self.name_space}" if self.name_space else ""
        return f"{self.url.rstrip('/')}{space}"


@frozen(kw_only=True)
class CacheSpec:
    """What `[cache]` says: the remotes in the order in which they are asked, and all else."""

    remotes: tuple[RemoteSpec, ...]
    more: Mapping[str, Any] = field(factory=dict)


def url_fault(url: str) -> str | None:
    """Return what is wrong with a remote's address, None where nothing is."""
    what = f"{url!r} is no address of a cache: http://HOST:PORT or https://HOST:PORT"
    try:
        parts = urlsplit(url)
        there = parts.hostname and parts.port != 0
    except ValueError:
        return what
    if not there or parts.scheme not in ("http", "https"):
        return what
    if parts.query or parts.fragment or parts.username is not None:
        return f"{url!r}: only scheme, host, port and path; a token stands in token_file"
    return None


def laid_over(
    before: Mapping[str, Any], given: Mapping[str, Any], base: Path, *, own: bool = False
) -> dict[str, Any]:
    """Return the table `given` in a file in `base`, the user's `own` or a project's, over that of
    another file. Remotes of both count; of one address they are one, with what was `given` last.
    Paths become absolute.

    Keys that the first file trusts stay the only ones, and no fewer have to have signed: a project
    cannot talk its user into trusting somebody else. Nor can it say how a remote of the user's own
    is known, and what is shown to it.
    """
    remotes = {(one["url"], one.get("name_space")): one for one in before.get("remotes", ())}
    trusted = {_address(one): one for one in before.get("remotes", ()) if one["own"]}
    for one in given.get("remotes", ()):
        place = one["url"], one.get("name_space")
        paths = {name: str(base / Path(one[name]).expanduser()) for name in _PATHS if name in one}
        made = {**remotes.get(place, {}), **one, **paths, "own": own}
        if not own and _address(one) in trusted:
            like = trusted[_address(one)]
            if "token_file" in paths and "token_file" not in like:
                like = {**like, "token_file": paths["token_file"]}
            made = {name: value for name, value in made.items() if name not in _PATHS}
            made |= {name: like[name] for name in _PATHS if name in like} | {"own": True}
        remotes[place] = made
    made = {**before, **given, "remotes": list(remotes.values())}
    if before.get("trusted_keys"):
        made["trusted_keys"] = before["trusted_keys"]
    if "required_signatures" in before:
        both = (one.get("required_signatures", 1) for one in (before, given))
        made["required_signatures"] = max(both)
    if "signing_key" in given:
        made["signing_key"] = str(base / Path(given["signing_key"]).expanduser())
    return made


def settle(table: Mapping[str, Any]) -> CacheSpec:
    """Return what the table of all files says."""
    remotes = [RemoteSpec(**one) for one in table.get("remotes", ())]
    remotes.sort(key=lambda one: one.priority)
    more = {name: value for name, value in table.items() if name != "remotes"}
    return CacheSpec(remotes=tuple(remotes), more=more)


def _address(remote: Mapping[str, Any]) -> str:
    return str(remote["url"]).rstrip("/")


def is_name_space(name: str) -> bool:
    """Say whether that may be the name of a name space."""
    return _NAME_SPACE.fullmatch(name) is not None
