"""Stored objects: trees, actions, action results and realisations."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterator, Mapping
from json.encoder import encode_basestring as quoted
from operator import lt
from typing import Any, Final, Self, TypeAlias

from store.digest import Digest, digest_bytes, is_digest
from store.encoding import TYPE_KEY, decode, encode
from store.errors import IntegrityError
from store.records import field, frozen

TREE: Final = "tree.1"
ACTION: Final = "action.1"
RESULT: Final = "result.1"
REALISATION: Final = "realisation.1"
KINDS: Final = (TREE, ACTION, RESULT, REALISATION)


@frozen
class File:
    """A regular file in a tree; `size` in bytes. Owner, times and other mode bits do not exist."""

    digest: Digest
    size: int
    executable: bool = False


@frozen
class Directory:
    """A sub-tree, named by the digest of its canonical bytes."""

    digest: Digest


@frozen
class Link:
    """A symbolic link and its target, as text."""

    target: str


Entry: TypeAlias = File | Directory | Link


def check_name(name: str) -> str:
    """Return `name` if it may name an entry of a tree, else raise IntegrityError."""
    if name in ("", ".", "..") or "/" in name or "\0" in name:
        raise IntegrityError(f"tree holds the forbidden name {name!r}")
    return name


PORTION: Final = 2048
"""Entries of a large tree that are made text at a time: all of them would take room for a while."""

LARGE: Final = 1 << 20
"""Bytes of a tree from which on it is read in the way that takes least memory."""


@frozen
class Tree:
    """A directory by content: its entries by name."""

    entries: Mapping[str, Entry] = field(factory=dict)

    def encode(self) -> bytes:
        """Return the canonical bytes."""
        entries = self.entries
        if len(entries) <= PORTION:
            texts = [f"{quoted(check_name(n))}:{_entry_text(entries[n])}" for n in sorted(entries)]
            return f'{{"{TYPE_KEY}":"{TREE}","entries":{{{",".join(texts)}}}}}'.encode()
        made = io.BytesIO()  # its value is no copy, as that of a bytearray would be
        made.write(f'{{"{TYPE_KEY}":"{TREE}","entries":{{'.encode())
        names = sorted(entries)
        for first in range(0, len(names), PORTION):
            some = names[first : first + PORTION]
            texts = [f"{quoted(check_name(n))}:{_entry_text(entries[n])}" for n in some]
            made.write(",".join(["", *texts] if first else texts).encode())
        made.write(b"}}")
        return made.getvalue()

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Return the tree in `data`; raises IntegrityError where it is no canonical tree."""
        if len(data) > LARGE:
            return cls._decode_large(data)
        files = _plain_files(data)
        if files is not None:
            return cls(files)
        entries = decode(data, TREE).get("entries")
        if not isinstance(entries, dict):
            raise IntegrityError("tree has no entries")
        return cls({check_name(name): _entry(value) for name, value in entries.items()})

    @classmethod
    def _decode_large(cls, data: bytes) -> Self:
        """Do as `decode` does, in half the memory: each entry is made as soon as it is read."""
        try:
            document = json.loads(data, object_hook=_entry_or_more)
        except ValueError as error:
            raise IntegrityError(f"object is not JSON: {error}") from None
        if not isinstance(document, dict) or document.get(TYPE_KEY) != TREE:
            raise IntegrityError(f"object is not a {TREE}")
        entries = document.pop("entries", None)
        if not isinstance(entries, dict):
            raise IntegrityError("tree has no entries")
        for name, entry in entries.items():
            if not isinstance(entry, File | Directory | Link):
                raise IntegrityError(f"tree holds the malformed entry {name!r}")
        tree = cls(entries)
        if len(document) > 1 or tree.encode() != data:
            raise IntegrityError(f"{TREE} object is not in canonical form")
        return tree

    def digest(self) -> Digest:
        """Return the digest of the canonical bytes."""
        return digest_bytes(self.encode())

    def sorted(self) -> Iterator[tuple[str, Entry]]:
        """Yield name and entry in the order of the names' code points."""
        for name in sorted(self.entries):
            yield name, self.entries[name]


EMPTY_TREE: Final = Tree()

_TREE_HEAD: Final = f'{{"{TYPE_KEY}":"{TREE}","entries":{{'.encode()
_FILE: Final = re.compile(
    r'"([^"\\\x00-\x1f/]+)":\{("executable":true,)?'
    r'"file":"([0-9a-f]{64})","size":(0|[1-9][0-9]{0,17})\}(,(?=")|\}\}\Z)'
)
_FILE_TEXT: Final = '"":{"file":"","size":}'
"""What of an entry's text is not in a group."""


def _entry_text(entry: Entry) -> str:
    """Return the canonical JSON of an entry."""
    match entry:
        case File(digest, size, executable):
            flag = '"executable":true,' if executable else ""
            return f'{{{flag}"file":"{digest}","size":{size:d}}}'
        case Directory(digest):
            return f'{{"tree":"{digest}"}}'
        case Link(target):
            return f'{{"link":{quoted(target)}}}'


def _plain_files(data: bytes) -> dict[str, Entry] | None:
    """Return the entries of a canonical tree of nothing but files, with names that JSON writes as
    they are: that is quicker than by way of a document. None for any other."""
    if not data.startswith(_TREE_HEAD):
        return None
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return None
    rows = _FILE.findall(text, len(_TREE_HEAD))
    if not rows:
        return None
    names, flags, digests, sizes, _ = zip(*rows, strict=True)
    room = len(_FILE_TEXT) * len(rows) + sum(map(len, map("".join, rows)))
    if len(_TREE_HEAD) + room != len(text) or not text.endswith("}}}"):
        return None
    if not all(map(lt, names, names[1:])) or not {".", ".."}.isdisjoint(names):
        return None
    return dict(zip(names, map(File, digests, map(int, sizes), map(bool, flags)), strict=True))


def _entry_or_more(value: dict[str, Any]) -> Any:
    """Return the entry that a piece of JSON is, itself where it is none."""
    try:
        return _entry(value)
    except IntegrityError:
        return value


def _entry(value: Any) -> Entry:
    match value:
        case {"file": str(digest), "size": int(size), **rest} if is_digest(digest) and size >= 0:
            if rest in ({}, {"executable": True}):
                return File(Digest(digest), size, bool(rest))
        case {"tree": str(digest), **rest} if is_digest(digest) and not rest:
            return Directory(Digest(digest))
        case {"link": str(target), **rest} if target and "\0" not in target and not rest:
            return Link(target)
    raise IntegrityError(f"tree holds the malformed entry {value!r}")


class _Encoded:
    """An object that never changes: its canonical bytes and their digest are made once."""

    __slots__ = ()
    _bytes: bytes | None
    _digest: Digest | None

    def document(self) -> dict[str, Any]:
        """Return the plain JSON form."""
        raise NotImplementedError

    def encode(self) -> bytes:
        """Return the canonical bytes."""
        data = self._bytes
        if data is None:
            data = encode(self.document())
            object.__setattr__(self, "_bytes", data)
        return data

    def digest(self) -> Digest:
        """Return the digest of the canonical bytes."""
        digest = self._digest
        if digest is None:
            digest = digest_bytes(self.encode())
            object.__setattr__(self, "_digest", digest)
        return digest


def _made_once() -> Any:
    return field(default=None, init=False, eq=False, repr=False)


@frozen(kw_only=True)
class Action(_Encoded):
    """A command whose inputs are known by content; its digest is the key of the action cache.

    Only what can change the outputs' bytes stands here. `toolchains` are trees laid over each
    other as the sandbox's root, first wins; `isolation` keeps unisolated results apart.
    """

    command: tuple[str, ...]
    env: Mapping[str, str] = field(factory=dict)
    input_root: Digest
    toolchains: tuple[Digest, ...] = ()
    outputs: tuple[str, ...] = ()
    depfile: bool = False
    platform: str = "x86_64-linux"
    isolation: str = "hermetic.1"
    _bytes: bytes | None = _made_once()
    _digest: Digest | None = _made_once()

    def document(self) -> dict[str, Any]:
        """Return the plain JSON form."""
        return {
            TYPE_KEY: ACTION,
            "command": list(self.command),
            "depfile": self.depfile,
            "env": dict(self.env),
            "input_root": self.input_root,
            "isolation": self.isolation,
            "outputs": list(self.outputs),
            "platform": self.platform,
            "toolchains": list(self.toolchains),
        }

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Return the action in `data`; raises IntegrityError where it is none."""
        plain = decode(data, ACTION)
        plain.pop(TYPE_KEY)
        try:
            for name in ("command", "outputs", "toolchains"):
                plain[name] = tuple(plain[name])
            return cls(**plain)
        except (KeyError, TypeError) as error:
            raise IntegrityError(f"malformed action: {error}") from None


@frozen(kw_only=True)
class ActionResult(_Encoded):
    """What a successful action left: its output tree, its log, and what it said it read.

    `observed` are the input paths that its depfile names, relative to the work directory, or None
    where the action reports none.
    """

    action: Digest
    outputs: Digest
    log: Digest
    observed: tuple[str, ...] | None = None
    _bytes: bytes | None = _made_once()
    _digest: Digest | None = _made_once()

    def document(self) -> dict[str, Any]:
        """Return the plain JSON form."""
        return {
            TYPE_KEY: RESULT,
            "action": self.action,
            "log": self.log,
            "observed": None if self.observed is None else list(self.observed),
            "outputs": self.outputs,
        }

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Return the result in `data`; raises IntegrityError where it is none."""
        plain = decode(data, RESULT)
        plain.pop(TYPE_KEY)
        try:
            if plain["observed"] is not None:
                plain["observed"] = tuple(plain["observed"])
            return cls(**plain)
        except (KeyError, TypeError) as error:
            raise IntegrityError(f"malformed action result: {error}") from None


@frozen(kw_only=True)
class Realisation(_Encoded):
    """The memory that a recipe once came to an action and its output tree; only a cache."""

    recipe: Digest
    action: Digest
    outputs: Digest
    _bytes: bytes | None = _made_once()
    _digest: Digest | None = _made_once()

    def document(self) -> dict[str, Any]:
        """Return the plain JSON form."""
        return {
            TYPE_KEY: REALISATION,
            "action": self.action,
            "outputs": self.outputs,
            "recipe": self.recipe,
        }

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Return the realisation in `data`; raises IntegrityError where it is none."""
        plain = decode(data, REALISATION)
        plain.pop(TYPE_KEY)
        try:
            return cls(**plain)
        except TypeError as error:
            raise IntegrityError(f"malformed realisation: {error}") from None
