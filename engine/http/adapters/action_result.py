"""What a foreign action result needs: the digests in it, by a walk over its protocol buffer fields.

The messages are ActionResult and Tree of the Remote Execution API, version 2; moon writes the first
as JSON. What is neither (ccache's results, for one) is opaque, and needs nothing.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from typing import Any, Final

from attrs import frozen

EMPTY: Final = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
"""The SHA-256 of no bytes: clients take it to be everywhere, and do not upload it."""

_SHA256: Final = re.compile(rb"[0-9a-f]{64}")

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5

# field numbers
_OUTPUT_FILES, _OUTPUT_DIRECTORIES, _EXIT_CODE, _STDOUT_RAW = 2, 3, 4, 5
_STDOUT, _STDERR_RAW, _STDERR, _METADATA = 6, 7, 8, 9
_LINKS: Final = (10, 11, 12)
_FILE_PATH, _FILE_DIGEST, _FILE_CONTENTS = 1, 2, 5
_DIRECTORY_TREE, _DIRECTORY_ROOT = 3, 5
_TREE_ROOT, _TREE_CHILDREN = 1, 2
_DIGEST_HASH, _DIGEST_SIZE = 1, 2

_TYPES: Final = {
    _OUTPUT_FILES: _BYTES,
    _OUTPUT_DIRECTORIES: _BYTES,
    _EXIT_CODE: _VARINT,
    _STDOUT_RAW: _BYTES,
    _STDOUT: _BYTES,
    _STDERR_RAW: _BYTES,
    _STDERR: _BYTES,
    _METADATA: _BYTES,
    **dict.fromkeys(_LINKS, _BYTES),
}


@frozen
class Needs:
    """SHA-256 digests (hexadecimal) that have to be there for a result to be of use."""

    blobs: frozenset[str]
    trees: frozenset[str] = frozenset()
    """Those that are Tree messages, whose files have to be there, too."""


NOTHING: Final = Needs(frozenset())


class _Opaque(Exception):
    """The bytes are not the message."""


def needs(data: bytes | memoryview) -> Needs:
    """Return what an action result needs; nothing of one that is opaque."""
    view = memoryview(data)
    if not view:
        return NOTHING
    if view[0] == ord("{"):
        return _json_needs(view)
    try:
        return _needs(view)
    except _Opaque:
        return NOTHING


def tree_needs(data: bytes | memoryview) -> frozenset[str] | None:
    """Return the digests of all files of a Tree, None where the bytes are none."""
    blobs: set[str] = set()
    try:
        for number, directory in _messages(memoryview(data), (_TREE_ROOT, _TREE_CHILDREN)):
            if number not in (_TREE_ROOT, _TREE_CHILDREN):
                continue
            for kind, node in _messages(directory, (1, 2, 3, 5)):
                if kind == 1:
                    _add(blobs, _only(node, 2))
    except _Opaque:
        return None
    return frozenset(blobs)


def _needs(view: memoryview) -> Needs:
    blobs: set[str] = set()
    trees: set[str] = set()
    for number, kind, value in _fields(view):
        if _TYPES.get(number, kind) != kind:
            raise _Opaque
        if number == _OUTPUT_FILES:
            if _only(value, _FILE_CONTENTS) is None:
                _add(blobs, _only(value, _FILE_DIGEST))
        elif number == _OUTPUT_DIRECTORIES:
            _add(trees, _only(value, _DIRECTORY_TREE))
            _add(blobs, _only(value, _DIRECTORY_ROOT))
        elif number in (_STDOUT, _STDERR):
            _add(blobs, value)
    return Needs(frozenset(blobs), frozenset(trees))


def _add(digests: set[str], message: memoryview | None) -> None:
    """Take up the hash of a Digest message; the empty blob needs no storing."""
    if message is None:
        return
    text = _only(message, _DIGEST_HASH)
    if text is None:
        if len(message):
            raise _Opaque
        return  # an unset digest
    if not _SHA256.fullmatch(text):
        raise _Opaque
    digest = bytes(text).decode()
    if digest != EMPTY:
        digests.add(digest)


def _only(message: memoryview, number: int) -> memoryview | None:
    """Return the last field of that number; raises _Opaque where it is no bytes."""
    found = None
    for which, kind, value in _fields(message):
        if which == number:
            if kind != _BYTES:
                raise _Opaque
            found = value
    return found


def _messages(message: memoryview, wanted: Iterable[int]) -> Iterator[tuple[int, memoryview]]:
    """Give the fields that are messages; raises _Opaque where one of the wanted is none."""
    for number, kind, value in _fields(message):
        if kind == _BYTES:
            yield number, value
        elif number in wanted:
            raise _Opaque


def _fields(message: memoryview) -> Iterator[tuple[int, int, memoryview]]:
    """Give number, wire type and bytes of each field; raises _Opaque where that cannot be."""
    at, end = 0, len(message)
    while at < end:
        tag, at = _varint(message, at)
        number, kind = tag >> 3, tag & 7
        begin = at
        if kind == _BYTES:
            length, begin = _varint(message, at)
            at = begin + length
        elif kind == _VARINT:
            at = _varint(message, at)[1]
        elif kind == _FIXED64:
            at += 8
        elif kind == _FIXED32:
            at += 4
        else:
            raise _Opaque
        if at > end or not number:
            raise _Opaque
        yield number, kind, message[begin:at]


def _varint(message: memoryview, at: int) -> tuple[int, int]:
    """Return a number of seven bits a byte, and the place after it."""
    value = shift = 0
    while at < len(message) and shift < 70:
        byte = message[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
    raise _Opaque


def _json_needs(view: memoryview) -> Needs:
    """Return what moon's form of an action result needs: every digest of its outputs."""
    try:
        value = json.loads(bytes(view))
    except (ValueError, RecursionError):
        return NOTHING
    blobs: set[str] = set()
    for name in ("outputFiles", "output_files"):
        blobs.update(_json_digests(value.get(name)))
    for name in ("stdoutDigest", "stderrDigest", "stdout_digest", "stderr_digest"):
        blobs.update(_json_digests([{"digest": value.get(name)}]))
    return Needs(frozenset(blobs - {EMPTY}))


def _json_digests(outputs: Any) -> Iterator[str]:
    for output in outputs if isinstance(outputs, list) else ():
        digest = output.get("digest") if isinstance(output, dict) else None
        text = digest.get("hash") if isinstance(digest, dict) else None
        if isinstance(text, str) and _SHA256.fullmatch(text.encode(errors="replace")):
            yield text
