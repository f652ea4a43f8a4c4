"""What is shown to a remote: a token, or a certificate."""

from __future__ import annotations

import os
import ssl
from urllib.parse import urlsplit

from engine.remote.settings import HOST, TOKEN, RemoteSpec

_PORTS = {"http": 80, "https": 443}


class GivenUp(Exception):
    """A remote cannot be used, or not for this; the message says why."""


def token_of(spec: RemoteSpec) -> str | None:
    """Return the token for a remote, None where there is none. Raises GivenUp."""
    if spec.token_file is None:
        return None if withheld(spec) else os.environ.get(TOKEN) or None
    try:
        with open(spec.token_file, encoding="ascii") as file:
            token = file.read(4096).strip()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "is no text"
        raise GivenUp(f"its token cannot be read: {spec.token_file}: {reason.lower()}") from None
    if not token.isprintable() or len(token.split()) != 1:
        raise GivenUp(f"{spec.token_file} holds no token")
    return token


def withheld(spec: RemoteSpec) -> str | None:
    """Return why the environment's token is not for a remote, None where it is, or there is none.

    A remote that only a project's file names gets it where `BN_CACHE_HOST` is its host, with or
    without port: who builds a foreign project would else give the token to whom that names.
    """
    if spec.token_file is not None or spec.own or not os.environ.get(TOKEN):
        return None
    parts = urlsplit(spec.url)
    host = parts.hostname or ""
    host = f"[{host}]" if ":" in host else host
    there = f"{host}:{parts.port or _PORTS.get(parts.scheme, 0)}"
    asked = os.environ.get(HOST, "").strip().lower()
    if asked in (host, there, host.strip("[]")):
        return None
    return f"{TOKEN} is not shown to it, as only a project names it; {HOST}={there} allows that"


def tls_of(spec: RemoteSpec) -> ssl.SSLContext:
    """Return how a remote is known, and what is shown to it. Raises GivenUp."""
    try:
        context = ssl.create_default_context(cafile=spec.ca)
        if spec.certificate:
            context.load_cert_chain(spec.certificate, spec.key)
    except OSError as error:  # ssl.SSLError is one
        raise GivenUp(f"its certificates cannot be used: {error.strerror or error}") from None
    return context
