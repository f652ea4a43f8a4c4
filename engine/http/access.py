"""Access: who asks, which name space they mean, and whether they may do that there.

::

    Authorization ──▶ token of the file ──┐
    certificate ────▶ rule of [serve.tls] ─┼─▶ Identity ──▶ admitted, 401 or 403
    neither ────────▶ ANYBODY ────────────┘       ▲
                            what the name space lets anybody do: public = "read" | "write" | "none"
"""

from __future__ import annotations

import base64
import binascii
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from attrs import Factory, frozen
from blake3 import blake3

from engine.http.message import ANYBODY, Failure, Identity, Scope
from engine.http.tokens import Token, read_tokens, token_id
from store.errors import BnError, host_error
from store.ingest import signature

TOKENS: Final = "serve/tokens.json"
"""Where a store keeps the tokens for its server, where `[serve] tokens` says nothing."""

PUBLIC: Final = {"none": Scope.NONE, "read": Scope.READ, "write": Scope.WRITE}
"""What `public` of a name space may be, and what it lets anybody do."""

OTHERS: Final = "*"
"""The name, in the configuration, of all name spaces that are not named there."""

MOST_KNOWN: Final = 1024
"""Ways of showing a token that are remembered: only good ones are, so few."""

CHALLENGE: Final = {"www-authenticate": 'Basic realm="bn", Bearer realm="bn"'}
HINT: Final = "bn serve token add NAME makes a token; clients send it as Bearer, or as a password"

UNKNOWN: Final = Identity("?unknown", Scope.NONE)
"""Who shows a token that does not count, or counts no more."""

PAGE: Final = Identity("?page", Scope.NONE)
"""A browser that asks for a web page, which may be anybody's, and shows no token."""

_VERBS: Final = {Scope.READ: "read", Scope.WRITE: "write", Scope.ADMIN: "administer"}


@frozen(kw_only=True)
class Rules:
    """What is configured: the file of tokens, and what name spaces let anybody do.

    A name space that says nothing lets nobody in without a token; but while there was no file of
    tokens since the server started, who asks from this very machine may write, unless it is all
    `guarded`: certificates settle who may.
    """

    tokens: Path
    public: Mapping[str, str] = Factory(dict)
    guarded: bool = False


@frozen
class _Known:
    identity: Identity
    expires: float | None


class Access:
    """Tells identities and decides; the file of tokens is read again when it changes.

    A file that turns unreadable, or open to others, lets no token in; `look` says why then. Where
    it is such from the beginning that raises HostError or InputError, unless it is not `strict`.
    """

    def __init__(
        self,
        rules: Rules,
        certified: Callable[[Mapping[str, object]], Identity] = lambda _: ANYBODY,
        *,
        strict: bool = True,
    ) -> None:
        """Take the rules, and what tells the identity behind a verified client certificate."""
        self._error: BnError | None = None
        self._rules = rules
        self._certified = certified
        self._path = os.fspath(rules.tokens)
        self._public = {name: PUBLIC[text] for name, text in rules.public.items()}
        self._others = self._public.get(OTHERS)
        self._mark: tuple[int, ...] | None = None
        self._tokens: dict[str, Token] = {}
        self._known: dict[bytes, _Known] = {}
        self._key = os.urandom(32)
        self._guarded = rules.guarded
        self._look()
        if strict and self._error is not None:
            raise self._error

    def look(self) -> str:
        """Return what is wrong with the file of tokens now; nothing where all is well."""
        self._look()
        return self._error.render() if self._error else ""

    @property
    def has_tokens(self) -> bool:
        """Whether there is a file of tokens, be it empty."""
        return self._mark is not None

    def identify(
        self, headers: Mapping[str, str], certificate: Mapping[str, object] | None = None
    ) -> Identity:
        """Return who sent these headers (by lower-case name) over a connection on which they showed
        `certificate`, verified, as `SSLSocket.getpeercert` gives it. It raises nothing: some name
        spaces let in who shows a token that counts no more, or none."""
        self._look()
        shown = headers.get("authorization")
        if shown and self._guarded:
            key = blake3(shown.encode("utf-8", "surrogateescape"), key=self._key).digest()
            known = self._known.get(key) or self._recognise(key, shown)
            if known is not None:
                if known.expires is None or time.time() < known.expires:
                    return known.identity
                del self._known[key]
            return UNKNOWN
        if certificate:
            return self._certified(certificate)
        return PAGE if _from_a_page(headers) else ANYBODY

    def allow(self, identity: Identity, name_space: str, scope: Scope, peer: str) -> None:
        """Return where `identity`, who asks from the address `peer` (`unix` for a socket in the
        file system), may do in the name space what needs `scope`; raises Failure(401) for who did
        not show who they are, else Failure(403) with the reason."""
        if identity.scope >= scope and (
            not identity.name_spaces or name_space in identity.name_spaces
        ):
            return
        if scope <= self.public(name_space, peer):
            if scope < Scope.WRITE or identity is not PAGE:
                return
            raise Failure(403, "web pages may not write here", "send a token, or no Origin header")
        verb = _VERBS.get(scope, "ask")
        if identity.scope is Scope.NONE:
            what = "another token" if identity is UNKNOWN else "a token"
            hint = "it is unknown, revoked or expired" if identity is UNKNOWN else HINT
            raise Failure(401, f"{what} is needed to {verb} in {name_space!r}", hint, CHALLENGE)
        if identity.name_spaces and name_space not in identity.name_spaces:
            message = f"{identity.name!r} is not for the name space {name_space!r}"
            raise Failure(403, message, f"it is for {', '.join(sorted(identity.name_spaces))}")
        message = f"{identity.name!r} may not {verb} in {name_space!r}"
        raise Failure(403, message, f"it may {_VERBS[identity.scope]}")

    def public(self, name_space: str, peer: str) -> Scope:
        """Return what the name space lets anybody do from that address."""
        told = self._public.get(name_space, self._others)
        if told is not None:
            return told
        return Scope.WRITE if not self._guarded and is_local(peer) else Scope.NONE

    # inside

    def _look(self) -> None:
        """Read the file of tokens if it is another one than before."""
        try:
            mark: tuple[int, ...] | None = signature(os.stat(self._path))
        except FileNotFoundError:
            mark = None
        except OSError as error:
            self._refuse(host_error(error, "cannot read the tokens"))
            return
        if mark == self._mark and self._error is None:
            return
        try:
            self._tokens = read_tokens(self._rules.tokens) if mark else {}
        except FileNotFoundError:
            self._tokens, mark = {}, None
        except BnError as error:
            self._refuse(error)
            return
        self._known.clear()
        self._mark, self._error = mark, None
        self._guarded = self._guarded or mark is not None

    def _refuse(self, error: BnError) -> None:
        """Let no token in until the file can be read."""
        self._guarded = True
        self._tokens = {}
        self._known.clear()
        self._error = error

    def _recognise(self, key: bytes, shown: str) -> _Known | None:
        """Return whose token a header shows, and remember it; None where it is nobody's."""
        now = time.time()
        for text in _shown_tokens(shown):
            row = self._tokens.get(token_id(text) or "")
            if row is not None and row.proves(text) and not row.is_expired(now):
                if len(self._known) >= MOST_KNOWN:
                    self._known.clear()
                known = self._known[key] = _Known(row.identity, row.expires)
                return known
        return None


def _shown_tokens(shown: str) -> list[str]:
    """Return what in an `Authorization` header may be a token: what follows Bearer, the password
    or the user of Basic, or all of it."""
    scheme, _, rest = shown.strip().partition(" ")
    rest = rest.strip()
    if scheme.lower() == "basic":
        try:
            user, _, password = base64.b64decode(rest, validate=True).decode().partition(":")
        except (binascii.Error, UnicodeDecodeError, ValueError):
            return []
        return [password, user]
    return [rest] if rest else [scheme]


def is_local(peer: str) -> bool:
    """Say whether an address is of this machine only."""
    return peer in ("::1", "unix") or peer.removeprefix("::ffff:").startswith("127.")


def _from_a_page(headers: Mapping[str, str]) -> bool:
    """Say whether a browser sent the request for a web page, which may be anybody's."""
    return "origin" in headers or headers.get("sec-fetch-site", "none") != "none"
