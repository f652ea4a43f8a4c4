"""TLS: the server's contexts, made again when their files change, and who a certificate is.

::

    [serve.tls]
    certificate = "server.pem"       # with its chain
    key = "server.key"
    client_ca = "clients.pem"        # who signs clients' certificates; without it none is asked for
    require_client = true            # no connection without one

    [[serve.tls.clients]]            # the first one that matches says who it is
    name = "ci"
    match = ["O:Example", "DNS:*.ci.example.org"]
    scope = "write"
    name_spaces = ["team"]
"""

from __future__ import annotations

import fnmatch
import os
import ssl
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from attrs import frozen

from engine.http.message import ANYBODY, Identity
from engine.http.tokens import SCOPES
from store.errors import BnError, HostError, InputError

_SUBJECT: Final = {
    "commonName": "CN",
    "organizationName": "O",
    "organizationalUnitName": "OU",
    "userId": "UID",
    "serialNumber": "serialNumber",
}
"""The parts of a subject that a rule may ask for, by OpenSSL's names."""

NAMES: Final = (*_SUBJECT.values(), "DNS", "URI", "email", "IP Address")
"""What may stand before the colon in a rule."""


@frozen(kw_only=True)
class Client:
    """A rule: certificates that have all of `match` (as `CN:ci-1` or `DNS:*.example.org`; `*`, `?`
    and `[…]` as in a shell, and a star matches everything) are `name`, who may do `scope` in
    `name_spaces` (none: all)."""

    name: str
    match: tuple[str, ...]
    scope: str = "read"
    name_spaces: tuple[str, ...] = ()

    def fits(self, names: frozenset[str]) -> bool:
        """Say whether a certificate with these names is meant."""
        return bool(self.match) and all(
            any(fnmatch.fnmatchcase(name, pattern) for name in names) for pattern in self.match
        )


@frozen(kw_only=True)
class Tls:
    """`[serve.tls]`, its paths absolute."""

    certificate: Path
    key: Path
    client_ca: Path | None = None
    require_client: bool = False
    clients: tuple[Client, ...] = ()

    def fault(self) -> str:
        """Return what is wrong with the rules; empty where nothing is."""
        if (self.require_client or self.clients) and self.client_ca is None:
            return "certificates of clients need client_ca: who signed them"
        for client in self.clients:
            if client.scope not in SCOPES:
                return f"client {client.name!r}: scope is read, write or admin"
            for pattern in client.match or ("",):
                if pattern.partition(":")[0] not in NAMES:
                    return f"client {client.name!r}: match begins with one of {', '.join(NAMES)}"
        return ""


class Contexts:
    """The context for new connections: made again when a file of it is another one.

    Files that do not fit together, as in the middle of a renewal, leave the last context in use;
    `look` says what is wrong with them. Raises InputError and HostError where they do not fit
    from the beginning.
    """

    def __init__(self, settings: Tls) -> None:
        fault = settings.fault()
        if fault:
            raise InputError(f"[serve.tls]: {fault}")
        self._problem = ""
        self._settings = settings
        files = (settings.certificate, settings.key, settings.client_ca)
        self._files = [os.fspath(path) for path in files if path is not None]
        self._marks = self._signatures()
        self._context = make_context(settings)

    def current(self) -> ssl.SSLContext:
        """Return the context; three stat(2) a connection."""
        marks = self._signatures()
        if marks != self._marks:
            self._marks = marks
            try:
                self._context, self._problem = make_context(self._settings), ""
            except BnError as error:
                self._problem = error.render()
        return self._context

    def look(self) -> str:
        """Return what is wrong with the files now; nothing where all is well."""
        self.current()
        return self._problem

    def identity(self, certificate: Mapping[str, object]) -> Identity:
        """Return who a verified certificate is; ANYBODY where no rule means it."""
        names = frozenset(names_of(certificate))
        for client in self._settings.clients:
            if client.fits(names):
                return Identity(client.name, SCOPES[client.scope], frozenset(client.name_spaces))
        return ANYBODY

    def _signatures(self) -> list[tuple[int, ...] | None]:
        return [_mark(path) for path in self._files]


def make_context(settings: Tls) -> ssl.SSLContext:
    """Return a server's context: TLS 1.2 or later. Raises InputError where a file is none of its
    kind or does not fit the others, HostError where one cannot be read."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
    context.set_alpn_protocols(["http/1.1"])
    what = "certificate and key"
    try:
        # an encrypted key would ask on the terminal
        context.load_cert_chain(settings.certificate, settings.key, password=_no_password)
        if settings.client_ca is not None:
            what = "client_ca"
            context.load_verify_locations(cafile=settings.client_ca)
            required = settings.require_client
            context.verify_mode = ssl.CERT_REQUIRED if required else ssl.CERT_OPTIONAL
    except ssl.SSLError as error:
        reason = (error.reason or str(error)).replace("_", " ").lower()
        raise InputError(f"[serve.tls] {what}: {reason}", f"see {settings.certificate}") from None
    except OSError as error:
        raise HostError(
            f"[serve.tls] {what}: {(error.strerror or str(error)).lower()}",
            f"see {settings.certificate}",
        ) from None
    except ValueError as error:
        raise InputError(f"[serve.tls] {what}: {error}") from None
    return context


def names_of(certificate: Mapping[str, Any]) -> Iterator[str]:
    """Yield the names in a certificate as `SSLSocket.getpeercert` gives it, as `CN:ci`, `DNS:…`."""
    for parts in certificate.get("subject", ()):
        for name, value in parts:
            if name in _SUBJECT:
                yield f"{_SUBJECT[name]}:{value}"
    for kind, value in certificate.get("subjectAltName", ()):
        if kind in NAMES and kind not in _SUBJECT.values():
            yield f"{kind}:{value}"


def _mark(path: str) -> tuple[int, ...] | None:
    try:
        status = os.stat(path)
    except OSError:
        return None
    return (status.st_mtime_ns, status.st_ctime_ns, status.st_size, status.st_ino)


def _no_password() -> str:
    raise ValueError("the key is encrypted: bn cannot ask for its password")
