"""What is shown to a remote: a token, or a certificate."""

from __future__ import annotations

import os
import ssl

from engine.remote.settings import TOKEN, RemoteSpec


class GivenUp(Exception):
    """A remote cannot be used, or not for this; the message says why."""


def token_of(spec: RemoteSpec) -> str | None:
    """Return the token for a remote, None where there is none. Raises GivenUp."""
    if spec.token_file is None:
        return os.environ.get(TOKEN) or None
    try:
        with open(spec.token_file, encoding="ascii") as file:
            token = file.read(4096).strip()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "is no text"
        raise GivenUp(f"its token cannot be read: {spec.token_file}: {reason.lower()}") from None
    if not token.isprintable() or len(token.split()) != 1:
        raise GivenUp(f"{spec.token_file} holds no token")
    return token


def tls_of(spec: RemoteSpec) -> ssl.SSLContext:
    """Return how a remote is known, and what is shown to it. Raises GivenUp."""
    try:
        context = ssl.create_default_context(cafile=spec.ca)
        if spec.certificate:
            context.load_cert_chain(spec.certificate, spec.key)
    except OSError as error:  # ssl.SSLError is one
        raise GivenUp(f"its certificates cannot be used: {error.strerror or error}") from None
    return context
