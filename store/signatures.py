"""Signatures: who says that an action gave a result, or that a recipe came to an action.

Ed25519 (RFC 8032) over 32 + 14 + 32 bytes or so:

::

    "bn signature 1" NUL kind NUL digest

`kind` is the object's type as it stands in its bytes (`result.1`, `realisation.1`), `digest` the 32
bytes of its BLAKE3 digest. So a signature of one kind never counts for another, nor for anything
that another program signs with the same key. A result names its action, its outputs and its log by
digest, a realisation its recipe, its action and its outputs: nothing of them can be swapped.

Keys are text, `NAME:base64`: 32 bytes of a public key; 64 of a private one, which are its seed and
the public key. The name only tells keys apart; it proves nothing.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import os
import re
import secrets
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Final

from store.digest import Digest
from store.errors import HostError, InputError, host_error
from store.objects import REALISATION, RESULT
from store.records import field, frozen

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import (
        Ed25519PrivateKey,
        Ed25519PublicKey,
    )

DOMAIN: Final = b"bn signature 1\0"
KINDS: Final = (RESULT, REALISATION)
"""What can be signed, by type."""

_SEED: Final = 32
_PUBLIC: Final = 32
_SIGNATURE: Final = 64

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


@frozen
class Signature:
    """A signature as it is kept and sent: the name of the key, and 64 bytes as base64."""

    key: str
    signature: str


@frozen
class PublicKey:
    """A key that signatures are checked with."""

    name: str
    data: bytes
    _checker: Ed25519PublicKey | None = field(default=None, init=False, eq=False, repr=False)

    @classmethod
    def parse(cls, text: str) -> PublicKey:
        """Return the key in `NAME:base64`; raises InputError."""
        name, data = _parse(text, "public")
        if len(data) == _SEED + _PUBLIC:
            raise InputError(
                f"key {name!r}: this is the private key",
                "it belongs in a file of its own: bn key show prints the public one",
            )
        if len(data) != _PUBLIC:
            raise InputError(f"key {name!r}: {len(data)} bytes, a public key has {_PUBLIC}")
        return cls(name, data)

    def __str__(self) -> str:
        return f"{self.name}:{_encode(self.data)}"

    def verifies(self, kind: str, digest: Digest, signature: Signature) -> bool:
        """Say whether the signature is this key's, for that kind of object of that digest."""
        from cryptography.exceptions import InvalidSignature
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

        checker = self._checker
        if checker is None:
            checker = Ed25519PublicKey.from_public_bytes(self.data)
            object.__setattr__(self, "_checker", checker)
        try:
            checker.verify(_decode(signature.signature), message(kind, digest))
        except (InvalidSignature, ValueError):
            return False
        return True


@frozen
class SigningKey:
    """A private key, of which nothing but the name is ever shown."""

    name: str
    _seed: bytes = field(repr=False)
    _signer: Ed25519PrivateKey | None = field(default=None, init=False, eq=False, repr=False)

    @classmethod
    def generate(cls, name: str) -> SigningKey:
        """Return a new key; raises InputError for a name that cannot be one."""
        _check_name(name)
        return cls(name, secrets.token_bytes(_SEED))

    @classmethod
    def read(cls, path: Path) -> SigningKey:
        """Return the key in the file at `path`.

        Raises InputError where it is none, HostError where it is not there or others can read it.
        """
        try:
            handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            try:
                status = os.fstat(handle)
                if not stat.S_ISREG(status.st_mode):
                    raise HostError(f"{path}: is no regular file")
                if status.st_mode & 0o077:
                    raise HostError(
                        f"{path}: mode {stat.S_IMODE(status.st_mode):04o} lets others at the key",
                        f"chmod 600 {path}",
                    )
                data = os.read(handle, 4096)
            finally:
                os.close(handle)
        except OSError as error:
            raise host_error(error, "cannot read the signing key") from error
        try:
            name, secret = _parse(data.decode().strip(), "private")
            key = cls(name, secret[:_SEED])
            if len(secret) != _SEED + _PUBLIC or key.public().data != secret[_SEED:]:
                raise InputError(f"{path}: is no private key", "bn key generate NAME makes one")
        except UnicodeDecodeError:
            raise InputError(f"{path}: is no private key") from None
        return key

    def write(self, path: Path) -> None:
        """Write the key to a new file that only its user can read. Raises HostError; InputError
        where something is there: a key that is overwritten is lost."""
        text = f"{self.name}:{_encode(self._seed + self.public().data)}\n"
        temporary = f"{path}.{os.getpid()}"
        try:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            try:
                with open(handle, "w") as file:
                    file.write(text)
                    file.flush()
                    os.fsync(handle)
                os.link(temporary, path)
            finally:
                with contextlib.suppress(OSError):
                    os.unlink(temporary)
        except FileExistsError:
            raise InputError(f"{path}: is there already") from None
        except OSError as error:
            raise host_error(error, "cannot write the key") from error

    def public(self) -> PublicKey:
        """Return the key that others check with."""
        return PublicKey(self.name, self._loaded().public_key().public_bytes_raw())

    def sign(self, kind: str, digest: Digest) -> Signature:
        """Return the signature of an object of that kind (`result.1`, `realisation.1`)."""
        return Signature(self.name, _encode(self._loaded().sign(message(kind, digest))))

    def _loaded(self) -> Ed25519PrivateKey:
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

        signer = self._signer
        if signer is None:
            signer = Ed25519PrivateKey.from_private_bytes(self._seed)
            object.__setattr__(self, "_signer", signer)
        return signer


def message(kind: str, digest: Digest) -> bytes:
    """Return the bytes that are signed. Raises ValueError for another kind of object."""
    if kind not in KINDS:
        raise ValueError(f"objects of the kind {kind!r} are not signed")
    return DOMAIN + kind.encode() + b"\0" + bytes.fromhex(digest)


def _parse(text: str, what: str) -> tuple[str, bytes]:
    name, colon, rest = text.strip().partition(":")
    hint = f"a {what} key is NAME:base64, as bn key generate makes it"
    if not colon or not _NAME.fullmatch(name):
        raise InputError(f"this is no {what} key", hint)
    try:
        return name, base64.b64decode(rest, validate=True)
    except (binascii.Error, ValueError):
        raise InputError(f"key {name!r}: is not base64", hint) from None


def _check_name(name: str) -> None:
    if not _NAME.fullmatch(name):
        hint = "letters, digits, `.`, `_` and `-`, at most 64, beginning with one of the first"
        raise InputError(f"{name!r} cannot be the name of a key", hint)


def _encode(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _decode(text: str) -> bytes:
    """Return a signature's bytes. Raises ValueError for other than the one spelling of them."""
    data = base64.b64decode(text, validate=True)
    if len(data) != _SIGNATURE or _encode(data) != text:
        raise ValueError("no signature")
    return data
