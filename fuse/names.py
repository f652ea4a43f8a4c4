"""Names of files for things whose names may be anything."""

from __future__ import annotations

from collections.abc import Container
from typing import Final

from blake3 import blake3

LONGEST: Final = 200
"""Bytes of a name before it is cut; a file name may have 255."""

_PLAIN: Final = frozenset("[]:,=+@-_.")


def safe_name(name: str, taken: Container[str] = ()) -> str:
    """Return the file name that stands for `name`; different names have different ones.

    Letters, digits and `[]:,=+@-_.` stay; everything else becomes `%XX`, byte for byte, and so does
    a leading dot. A name that is too long is cut and ends in `~` and a digest.
    """
    safe = "".join(
        letter if letter.isalnum() or letter in _PLAIN else _encoded(letter) for letter in name
    )
    if not safe or safe[0] == "." or safe in taken:
        safe = _encoded(name[:1]) + safe[1:]
    data = safe.encode("utf-8", "surrogatepass")
    if len(data) > LONGEST:
        mark = blake3(data).hexdigest()[:16]
        return f"{data[: LONGEST - 17].decode('utf-8', 'ignore')}~{mark}"
    return safe


def _encoded(letter: str) -> str:
    if not letter:
        return "%"
    return "".join(f"%{byte:02X}" for byte in letter.encode("utf-8", "surrogatepass"))
