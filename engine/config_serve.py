"""`[serve]` in the configuration: its form, and what it comes to.

::

    [serve]
    bind = ["127.0.0.1:8980", "unix:/run/bn.sock"]
    workers = 2
    log = "access.log"               # "-" is the standard error; without it none is written
    tokens = "tokens.json"           # by default serve/tokens.json in the store
    reserve = "2GB"                  # room on the disk that uploads may not take
    durability = "process"           # what an acknowledged upload survives, or "disk"

    [serve.name_spaces.default]      # "*" is all that are not named
    quota = "50GB"
    public = "read"                  # none, read or write: what anybody may do without a token

    [serve.limits]
    body = "16GB"
    connections = 20000

    [serve.tls]
    certificate = "server.pem"
    key = "server.key"
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from attrs import AttrsInstance, asdict, fields_dict, frozen

from engine.config import parse_limit
from engine.spec.faults import Fault, nearest
from engine.spec.model import documented

if TYPE_CHECKING:
    from engine.http.settings import Settings

PUBLIC: Final = ("none", "read", "write")
DURABILITIES: Final = ("process", "disk")


@frozen(kw_only=True)
class NameSpaceTable:
    """`[serve.name_spaces.NAME]`: who shares, and how much."""

    quota: str | None = documented("most that it may hold, as 40GB or 25%", default=None)
    public: str | None = documented("none, read or write, without a token", default=None)


@frozen(kw_only=True)
class LimitsTable:
    """`[serve.limits]`: what is taken from clients."""

    body: str | None = documented("most of one upload, as 16GB", default=None)
    head_bytes: int | None = documented("a request's line and headers", default=None)
    headers: int | None = documented("number of headers", default=None)
    idle_seconds: int | None = documented("a connection without a request", default=None)
    head_seconds: int | None = documented("until a head is there", default=None)
    stall_seconds: int | None = documented("a body that does not come on", default=None)
    least_rate: int | None = documented("bytes per second that it has to", default=None)
    grace_seconds: int | None = documented("for requests under way at the end", default=None)
    connections: int | None = documented("connections at once", default=None)
    requests: int | None = documented("requests under way at once", default=None)
    uploads: int | None = documented("uploads under way at once", default=None)


@frozen(kw_only=True)
class ClientTable:
    """One of `[[serve.tls.clients]]`: who a certificate is."""

    name: str = documented("who it is")
    match: tuple[str, ...] = documented("names that it must have, as CN:ci-1")
    scope: str | None = documented("read, write or admin", default=None)
    name_spaces: tuple[str, ...] = documented("where; none: everywhere", default=())


@frozen(kw_only=True)
class TlsTable:
    """`[serve.tls]`: TLS, and certificates of clients."""

    certificate: str = documented("the server's certificate, with its chain")
    key: str = documented("its key")
    client_ca: str | None = documented("who signs clients' certificates", default=None)
    require_client: bool | None = documented("no connection without one", default=None)
    clients: tuple[ClientTable, ...] = documented("who they are", default=())


@frozen(kw_only=True)
class ServeTable:
    """`[serve]`: the cache server."""

    bind: tuple[str, ...] = documented("HOST:PORT or unix:PATH", default=())
    workers: int | None = documented(
        "processes; by default one a processor, at most 4", default=None
    )
    log: str | None = documented("file of the access log; - is standard error", default=None)
    tokens: str | None = documented("file of the tokens", default=None)
    reserve: str | None = documented("room that uploads may not take, as 2GB or 5%", default=None)
    share_local: bool | None = documented("serve what was built in this store", default=None)
    durability: str | None = documented(
        "what an acknowledged upload survives: process or disk", default=None
    )
    name_spaces: Mapping[str, NameSpaceTable] = documented("who shares", factory=dict)
    limits: LimitsTable = documented("what is taken from clients", factory=LimitsTable)
    tls: TlsTable | None = documented("TLS", default=None)


def serve_faults(path: Path, table: ServeTable) -> Iterator[Fault]:
    """Yield what is wrong with the values of `[serve]`."""

    def size(text: str | None, *at: str) -> Iterator[Fault]:
        try:
            parse_limit(text, Path("/")) if text else None
        except ValueError as error:
            yield Fault(path, at, str(error))

    yield from size(table.reserve, "serve", "reserve")
    yield from size(table.limits.body, "serve", "limits", "body")
    if table.workers is not None and not 1 <= table.workers <= 64:
        yield Fault(path, ("serve", "workers"), "workers: from 1 to 64")
    if table.durability is not None and table.durability not in DURABILITIES:
        hint = nearest(table.durability, DURABILITIES)
        yield Fault(path, ("serve", "durability"), f"durability is not {table.durability!r}", hint)
    for name, given in asdict(table.limits).items():
        if isinstance(given, int) and given < 1:
            yield Fault(path, ("serve", "limits", name), f"{name}: at least 1")
    for name, space in table.name_spaces.items():
        at = ("serve", "name_spaces", name)
        yield from size(space.quota, *at, "quota")
        if space.public is not None and space.public not in PUBLIC:
            hint = nearest(space.public, PUBLIC)
            yield Fault(path, (*at, "public"), f"public is not {space.public!r}", hint)


def serve_settings(paths: Sequence[Path], root: Path) -> Settings:
    """Return what the files say of the server of the store at `root`, later ones over earlier.

    Raises InputError with all faults of a file, placed.
    """
    from engine.config_form import read_file
    from engine.http.settings import Settings

    given: dict[str, Any] = {}
    for path in paths:
        table = read_file(path).serve
        given |= _settled(table, path.parent, root, given)
    return Settings(**given)


def _settled(
    table: ServeTable, directory: Path, root: Path, before: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the settings that a file gives."""
    from engine.http.limits import Limits

    def place(text: str) -> Path:
        return directory / Path(text).expanduser()

    given: dict[str, Any] = {}
    if table.bind:
        given["bind"] = table.bind
    for name in ("workers", "share_local", "durability"):
        if getattr(table, name) is not None:
            given[name] = getattr(table, name)
    if table.log is not None:
        given["log"] = table.log if table.log == "-" else str(place(table.log))
    if table.tokens is not None:
        given["tokens"] = place(table.tokens)
    if table.reserve is not None:
        given["reserve"] = parse_limit(table.reserve, root)
    quotas = {
        name: parse_limit(space.quota, root)
        for name, space in table.name_spaces.items()
        if space.quota
    }
    public = {name: space.public for name, space in table.name_spaces.items() if space.public}
    given["quotas"] = {**before.get("quotas", {}), **quotas}
    given["public"] = {**before.get("public", {}), **public}
    limits = _given(table.limits)
    if "body" in limits:
        limits["body_bytes"] = parse_limit(limits.pop("body"), root)
    known = {name: limits[name] for name in fields_dict(Limits) if name in limits}
    given["limits"] = Limits(**{**asdict(before.get("limits", Limits())), **known})
    if table.tls is not None:
        given["tls"] = _tls(table.tls, place)
    return given


def _tls(table: TlsTable, place: Any) -> Any:
    from engine.http.tls import Client, Tls

    return Tls(
        certificate=place(table.certificate),
        key=place(table.key),
        client_ca=place(table.client_ca) if table.client_ca else None,
        require_client=bool(table.require_client),
        clients=tuple(
            Client(
                name=one.name,
                match=one.match,
                scope=one.scope or "read",
                name_spaces=one.name_spaces,
            )
            for one in table.clients
        ),
    )


def _given(table: AttrsInstance) -> dict[str, Any]:
    return {key: value for key, value in asdict(table).items() if value is not None}
