"""Stored objects: trees, actions, action results and realisations."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Mapping
from itertools import islice
from json.encoder import encode_basestring as quoted
from operator import lt
from typing import Any, Final, Self

from store.digest import Digest, digest_bytes, is_digest
from store.encoding import TYPE_KEY, decode, encode
from store.entry import Directory as Directory
from store.entry import Entry as Entry
from store.entry import File as File
from store.entry import Link as Link
from store.errors import IntegrityError
from store.packed_entries import PackedEntries
from store.records import field, frozen

TREE: Final = "tree.1"
ACTION: Final = "action.1"
RESULT: Final = "result.1"
REALISATION: Final = "realisation.1"
KINDS: Final = (TREE, ACTION, RESULT, REALISATION)


def check_name(name: str) -> str:
    """Return `name` if it may name an entry of a tree, else raise IntegrityError."""
    if name in ("", ".", "..") or "/" in name or "\0" in name:
        raise IntegrityError(f"tree holds the forbidden name {name!r}")
    return name


_BEGIN: Final = f'{{"{TYPE_KEY}":"{TREE}","entries":{{'.encode()
_END: Final = b"}}"

PORTION: Final = 2048
"""Entries of a large tree that are made text at a time: all of them would take room for a while."""

LARGE: Final = 1 << 20
"""Bytes of a tree from which on it is packed."""


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
        made.write(_BEGIN)
        rows, comma = self.sorted(), ""
        while some := list(islice(rows, PORTION)):
            texts = [f"{quoted(check_name(name))}:{_entry_text(entry)}" for name, entry in some]
            made.write(f"{comma}{','.join(texts)}".encode())
            comma = ","
        made.write(_END)
        return made.getvalue()

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Return the tree in `data`; raises IntegrityError where it is no canonical tree."""
        if len(data) > LARGE and data.startswith(_BEGIN) and data.endswith(_END):
            packed = PackedEntries.parsed(data, len(_BEGIN), len(data) - len(_END))
            if packed is not None:
                return cls(packed)
        files = _plain_files(data)
        if files is not None:
            return cls(files)
        document = decode(data, TREE)
        entries = document.get("entries")
        if not isinstance(entries, dict) or len(document) > len((TYPE_KEY, "entries")):
            raise IntegrityError("tree has no entries, or more than these")
        return cls({check_name(name): _entry(value) for name, value in entries.items()})

    def digest(self) -> Digest:
        """Return the digest of the canonical bytes."""
        return digest_bytes(self.encode())

    def sorted(self) -> Iterator[tuple[str, Entry]]:
        """Yield name and entry in the order of the names' code points."""
        if isinstance(self.entries, PackedEntries):
            yield from self.entries.rows()
        else:
            for name in sorted(self.entries):
                yield name, self.entries[name]


EMPTY_TREE: Final = Tree()

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
    if not data.startswith(_BEGIN):
        return None
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return None
    rows = _FILE.findall(text, len(_BEGIN))
    if not rows:
        return None
    names, flags, digests, sizes, _ = zip(*rows, strict=True)
    room = len(_FILE_TEXT) * len(rows) + sum(map(len, map("".join, rows)))
    if len(_BEGIN) + room != len(text) or not text.endswith("}}}"):
        return None
    if not all(map(lt, names, names[1:])) or not {".", ".."}.isdisjoint(names):
        return None
    return dict(zip(names, map(File, digests, map(int, sizes), map(bool, flags)), strict=True))


def _entry(value: Any) -> Entry:
    match value:
        case {"file": str(digest), "size": int(size), **rest} if is_digest(digest) and size >= 0:
            if rest in ({}, {"executable": True}) and size is not True and size is not False:
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
            data = self._written()
            object.__setattr__(self, "_bytes", data)
        return data

    def _written(self) -> bytes:
        return encode(self.document())

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

    def _written(self) -> bytes:
        if self.observed is not None:
            return _Encoded._written(self)
        action, log, outputs = quoted(self.action), quoted(self.log), quoted(self.outputs)
        text = f'"action":{action},"log":{log},"observed":null,"outputs":{outputs}}}'
        return b'{"_":"%b",%b' % (RESULT.encode(), text.encode())

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

    def _written(self) -> bytes:
        action, outputs, recipe = quoted(self.action), quoted(self.outputs), quoted(self.recipe)
        text = f'"action":{action},"outputs":{outputs},"recipe":{recipe}}}'
        return b'{"_":"%b",%b' % (REALISATION.encode(), text.encode())

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Return the realisation in `data`; raises IntegrityError where it is none."""
        plain = decode(data, REALISATION)
        plain.pop(TYPE_KEY)
        try:
            return cls(**plain)
        except TypeError as error:
            raise IntegrityError(f"malformed realisation: {error}") from None
